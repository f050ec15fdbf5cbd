//! Experiment 10, and the second half of experiment 1: repairs for quiet tenants beside loud and dead ones.
use super::drift::{self, Goals};
use crate::bench::{
    Stage,
    blackhole::BlackHole,
    breakage::{break_and_watch, break_one},
    fleet::{Order, TENANTS},
};
use anyhow::Result;
use kube::Client;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

/// Service objects that it takes: one flaps and one is measured of each tenant.
pub(super) const FROM: usize = 2 * TENANTS;
/// Breaks that are measured.
const BREAKS: usize = 400;
/// Of the loud tenant.
const EVENTS_A_SECOND: usize = 500;
/// Of each flapping tenant.
const FLAPS_A_SECOND: usize = 1;
/// Writers that share the events.
const WRITERS: usize = 10;
/// The tenant whose API server is dead.
const DEAD: usize = 1;

/// One tenant at 500 events a second, one dead; the others are measured.
pub(super) async fn neighbour(stage: &mut Stage<'_>) -> Result<()> {
    let all = stage.fleet.len();
    let loud = (0..all).step_by(TENANTS);
    let loud: Vec<String> = loud.flat_map(|number| names(stage, number)).collect();
    let quiet: Vec<Order> = (0..all)
        .filter(|number| number % TENANTS > DEAD)
        .map(Order::number)
        .collect();
    beside(
        stage,
        10,
        "one tenant at 500 events/s, one dead",
        loud,
        EVENTS_A_SECOND,
        &quiet,
    )
    .await
}

/// All tenants flap, one is dead; other objects of theirs are measured.
pub(super) async fn flapping(stage: &mut Stage<'_>) -> Result<()> {
    let flapping: Vec<String> = (0..TENANTS)
        .map(|number| Order::number(number).child(0))
        .collect();
    let quiet: Vec<Order> = (TENANTS..stage.fleet.len()).map(Order::number).collect();
    let rate = FLAPS_A_SECOND * TENANTS;
    beside(stage, 1, "100 tenants flapping, one dead", flapping, rate, &quiet).await
}

fn names(stage: &Stage<'_>, number: usize) -> Vec<String> {
    (0..stage.children)
        .map(|index| Order::number(number).child(index))
        .collect()
}

async fn beside(
    stage: &mut Stage<'_>,
    experiment: u8,
    what: &str,
    loud: Vec<String>,
    rate: usize,
    quiet: &[Order],
) -> Result<()> {
    let count = stage.fleet.len();
    let dead = BlackHole::open(&stage.site, &stage.granter, &format!("{experiment}-{count}")).await?;
    let noise = Noise::begin(&stage.site.client, loud, rate);
    // Long enough that the damper has met all of them.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = noise.made.load(Ordering::Relaxed);
    let began = Instant::now();
    let repairs = break_and_watch(&stage.site.client, quiet, stage.children, BREAKS, &stage.progress).await;
    let made = noise.made.load(Ordering::Relaxed) - before;
    let achieved = made as f64 / began.elapsed().as_secs_f64();
    drop(noise);
    dead.close(&stage.site).await?;
    stage.rest().await?;
    let place = format!("{what} ({achieved:.0} breaks/s), {count} objects");
    drift::rows(stage, experiment, &place, &repairs?, Goals::NOISY);
    Ok(())
}

/// Breaks children at a rate until it is dropped.
struct Noise {
    made: Arc<AtomicUsize>,
    _writers: JoinSet<()>,
}

impl Noise {
    fn begin(client: &Client, children: Vec<String>, rate: usize) -> Self {
        let made = Arc::<AtomicUsize>::default();
        let mut writers = JoinSet::new();
        let period = Duration::from_secs_f64(WRITERS as f64 / rate as f64);
        let children = Arc::new(children);
        for writer in 0..WRITERS {
            let (client, children, made) = (client.clone(), children.clone(), made.clone());
            writers.spawn(async move {
                let mut ticks = tokio::time::interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                for turn in (writer..).step_by(WRITERS) {
                    ticks.tick().await;
                    // One that is being made anew may be missing at the moment.
                    if break_one(&client, &children[turn % children.len()], false, turn)
                        .await
                        .is_ok()
                    {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Self {
            made,
            _writers: writers,
        }
    }
}
