//! Experiment 11: many orders at once, and how near that is to what the API server allows.
use crate::bench::{
    Stage,
    audit::Requests,
    bare::Bare,
    fleet::Order,
    report::{Goal, Row},
    site::{BARE, PROVIDER},
    stats::Samples,
};
use anyhow::Result;
use std::time::Duration;

const REPEATS: usize = 5;
/// Orders at once, and the goal for the time until the last is Ready.
const SIZES: [(usize, Duration); 2] = [(100, Duration::from_secs(3)), (1000, Duration::from_secs(25))];
/// The share of a bare client's rate that is promised.
const SHARE: f64 = 0.8;
/// How many service objects this leaves.
pub(super) const PLACED: usize = (100 + 1000) * REPEATS;

/// What the repeats of one size brought: seconds, and requests of the last one.
#[derive(Default)]
struct Repeats {
    ours: Vec<f64>,
    bare: Vec<f64>,
    latencies: Vec<Duration>,
    requests: Requests,
    requests_bare: Requests,
}

/// By turns the provider and the bare client.
pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let bare = Bare::install(&stage.site, stage.children).await?;
    for (size, goal) in SIZES {
        let mut repeats = Repeats::default();
        for _ in 0..REPEATS {
            repeat(stage, &bare, size, &mut repeats).await?;
        }
        note(stage, size, goal, repeats);
    }
    Ok(())
}

async fn repeat(stage: &mut Stage<'_>, bare: &Bare, size: usize, repeats: &mut Repeats) -> Result<()> {
    let batch = stage.fleet.prepare(size, &stage.progress).await?;
    stage.rest().await?;
    stage.site.audit.clear()?;
    let mark = stage.site.audit.mark();
    let placed = stage.fleet.place(batch.clone(), &stage.progress).await?;
    stage.rest().await?;
    repeats.requests = stage.site.audit.since(mark, &PROVIDER.user())?;
    let orders: Vec<Order> = batch.map(Order::number).collect();
    let took = bare.fulfil(orders.clone()).await?.as_secs_f64();
    repeats.requests_bare = stage.site.audit.since(mark, &BARE.user())?;
    bare.clean_up().await?;
    bare.forget(&orders).await?;
    let ours = placed.took.as_secs_f64();
    stage
        .progress
        .say(&format!("{size} orders in {ours:.2} s, bare client {took:.2} s"));
    repeats.ours.push(ours);
    repeats.bare.push(took);
    repeats.latencies.extend(placed.latencies);
    Ok(())
}

fn note(stage: &mut Stage<'_>, size: usize, goal: Duration, repeats: Repeats) {
    let shares = repeats
        .bare
        .iter()
        .zip(&repeats.ours)
        .map(|(bare, ours)| bare / ours);
    let shares = Samples::new(shares);
    let (ours, bare) = (Samples::new(repeats.ours), Samples::new(repeats.bare));
    let latencies = Samples::millis(repeats.latencies);
    let spread = |samples: &Samples| format!("{:.2} to {:.2}", samples.min(), samples.max());
    let each = |requests: &Requests| requests.by_column(size as u64);
    for row in [
        Row::new(
            11,
            format!("{size} orders at once until all are Ready, median of {REPEATS}"),
            ours.median(),
            "s",
        )
        .goal(Goal::AtMost(goal.as_secs_f64()))
        .note(format!(
            "{}; one order p50 {:.0} ms, p99 {:.0} ms",
            spread(&ours),
            latencies.median(),
            latencies.percentile(99)
        ))
        .samples(&ours),
        Row::new(
            11,
            format!("{size} orders, the same writes by a bare client"),
            bare.median(),
            "s",
        )
        .note(spread(&bare))
        .samples(&bare),
        Row::new(
            11,
            format!("{size} orders, share of the bare client's rate"),
            shares.median(),
            "",
        )
        .goal(Goal::AtLeast(SHARE))
        .note(spread(&shares))
        .samples(&shares),
        Row::new(
            11,
            format!("{size} orders, requests an order"),
            repeats.requests.total() as f64 / size as f64,
            "requests",
        )
        .note(format!(
            "{}; bare client: {}",
            each(&repeats.requests),
            each(&repeats.requests_bare)
        )),
    ] {
        stage.note(row);
    }
}
