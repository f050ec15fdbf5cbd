//! Breaking children and watching them being repaired.
use super::{
    fleet::Order,
    progress::Progress,
    site::{CHILDREN, merge},
    usage::Cores,
    witness::{Sight, Witness},
};
use anyhow::{Context, Result};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two breaks.
const PAUSE: Duration = Duration::from_millis(10);
/// A child that is not repaired in this time will not be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Breaks of which it is told together whether the machine was quiet: one alone is too short to tell.
const ROUND: usize = 20;
/// What the host may take of a quiet machine.
const QUIET: f64 = 0.02;
/// A stride that visits all children of any fleet in an order that looks random: no size of a fleet divides it.
const STRIDE: usize = 7_368_787;

/// The collection of all children.
pub(super) fn children() -> String {
    format!("/api/v1/namespaces/{CHILDREN}/configmaps")
}

/// From the event of the break to the event of the repair.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    pub(super) changed: Vec<Duration>,
    pub(super) deleted: Vec<Duration>,
    /// Of both, those of rounds in which the machine's host took next to nothing away.
    pub(super) quiet: Vec<Duration>,
}

impl Repairs {
    pub(super) fn all(&self) -> impl Iterator<Item = Duration> + '_ {
        self.changed.iter().chain(&self.deleted).copied()
    }
}

/// Breaks `count` children of these service objects one after the other, by turns changed and deleted, and no child
/// more often than all others: a child that is broken again and again is left alone for a while.
pub(super) async fn break_and_watch(
    client: &Client,
    orders: &[Order],
    children_each: usize,
    count: usize,
    progress: &Progress,
) -> Result<Repairs> {
    let total = orders.len() * children_each;
    let mut witness = Witness::of(client, &children()).await?;
    let mut repairs = Repairs::default();
    let (mut began, mut round) = (Cores::now(), Vec::with_capacity(ROUND));
    progress.begin("breaks until repaired", count);
    for turn in 0..count {
        let place = turn.wrapping_mul(STRIDE) % total;
        let name = orders[place / children_each].child(place % children_each);
        tokio::time::sleep(PAUSE).await;
        witness.clear();
        let delete = turn % 2 == 1;
        let broken = break_one(client, &name, delete, turn);
        let seen = repaired(&mut witness, &name);
        let (_, took) = tokio::try_join!(broken, seen)
            .with_context(|| format!("break {turn} of ConfigMap {name}, delete: {delete}"))?;
        if delete {
            repairs.deleted.push(took)
        } else {
            repairs.changed.push(took)
        }
        round.push(took);
        if round.len() == ROUND {
            let ended = Cores::now();
            if ended.stolen_since(began) <= QUIET {
                repairs.quiet.append(&mut round);
            }
            round.clear();
            began = ended;
        }
        progress.step();
    }
    Ok(repairs)
}

/// Deletes a child, or changes what the provider wrote.
pub(super) async fn break_one(client: &Client, name: &str, delete: bool, turn: usize) -> Result<()> {
    let path = format!("{}/{name}", children());
    if delete {
        let request = http::Request::delete(&path).body(Vec::new())?;
        client.request::<Value>(request).await?;
    } else {
        let path = format!("{path}?fieldManager=vandal");
        merge(
            client,
            &path,
            &json!({"data": {"text": format!("broken {turn}")}}),
        )
        .await?;
    }
    Ok(())
}

async fn repaired(witness: &mut Witness, name: &str) -> Result<Duration> {
    let mut broken: Option<Instant> = None;
    let end = Instant::now() + PATIENCE;
    loop {
        let Sight { at, deleted, object } = witness
            .next(end.saturating_duration_since(Instant::now()))
            .await?;
        if object.metadata.name != name {
            continue;
        }
        let whole = !deleted
            && object.metadata.deletion_timestamp.is_none()
            && object
                .data
                .get("text")
                .is_some_and(|text| !text.starts_with("broken"));
        match broken {
            None if !whole => broken = Some(at),
            Some(since) if whole => return Ok(at.duration_since(since)),
            _ => {}
        }
    }
}
