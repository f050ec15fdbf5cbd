//! Experiment 6: the provider is killed and started again, with everything in place.
use crate::bench::{
    CALM, Stage,
    arrivals::{EVERY, arrive},
    fleet::Order,
    report::{Goal, Row},
    site::PROVIDER,
};
use anyhow::Result;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);
/// Orders that arrive while it starts.
const NEW: usize = 40;
/// Promised at ten thousand objects.
const SYNC_SECONDS: f64 = 5.0;
const NEW_MILLIS: f64 = 1000.0;

pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.fleet.len();
    stage.rest().await?;
    tokio::time::sleep(CALM).await;
    stage.site.audit.clear()?;
    let mark = stage.site.audit.mark();
    let (ready, observed) = restart(stage).await?;
    let requests = stage.site.audit.since(mark, &PROVIDER.user())?;
    stage.note(
        Row::new(
            6,
            format!("start until /readyz, {count} objects"),
            ready.as_secs_f64(),
            "s",
        )
        .goal(Goal::AtMost(SYNC_SECONDS)),
    );
    stage.note(
        Row::new(
            6,
            format!("start until all are observed, {count} objects"),
            observed.as_secs_f64(),
            "s",
        )
        .note(format!("{} MiB resident", stage.subject.memory()?.resident >> 20)),
    );
    stage.note(
        Row::new(
            6,
            format!("writes of a restart, {count} objects"),
            requests.writes() as f64,
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(format!("of {}: {}", requests.total(), requests.by_verb())),
    );
    newcomers(stage).await
}

/// Kills and starts it. Returns the times until it is ready and until it has looked at every object.
async fn restart(stage: &mut Stage<'_>) -> Result<(Duration, Duration)> {
    stage.subject.kill(&mut stage.site)?;
    let began = Instant::now();
    stage.subject.start(&mut stage.site)?;
    stage.subject.ready(&stage.site).await?;
    let ready = began.elapsed();
    let all = stage.fleet.len() as u64;
    let last = stage
        .subject
        .settled(all, Duration::from_secs(1), PATIENCE)
        .await?;
    Ok((ready, last.duration_since(began)))
}

/// Once more, while new orders arrive.
async fn newcomers(stage: &mut Stage<'_>) -> Result<()> {
    let orders: Vec<Order> = stage
        .fleet
        .prepare(NEW, &stage.progress)
        .await?
        .map(Order::number)
        .collect();
    stage.subject.kill(&mut stage.site)?;
    stage.subject.start(&mut stage.site)?;
    // Before it serves nothing can be Ready: what is measured is whether the old wait before the new.
    stage.subject.ready(&stage.site).await?;
    let latencies = arrive(&stage.site.client, &orders).await?;
    stage.note(
        Row::new(
            6,
            format!("order to Ready p99 during a start, {} objects", stage.fleet.len()),
            latencies.percentile(99),
            "ms",
        )
        .goal(Goal::AtMost(NEW_MILLIS))
        .note(format!(
            "p50 {:.0}, {NEW} orders, one each {} ms",
            latencies.median(),
            EVERY.as_millis()
        ))
        .samples(&latencies),
    );
    stage
        .subject
        .settled(0, Duration::from_secs(1), PATIENCE)
        .await
        .map(drop)
}
