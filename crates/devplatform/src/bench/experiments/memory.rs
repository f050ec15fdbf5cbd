//! Experiment 4: memory at rest, at a start, and when every watch has to list again.
use crate::bench::{
    Stage,
    audit::Column,
    report::{Goal, Row},
    site::PROVIDER,
};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// What was decoded last is given back after a while.
const CALM: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(300);
const MB: f64 = 1e6;

/// The goals are those of ten thousand service objects, and of those that other experiments add to them.
const AT: usize = 10_500;
const AT_REST_MB: f64 = 40.0;
const PEAK: f64 = 1.5;

/// Starts the provider anew, and then the API server.
pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.fleet.len();
    stage.subject.kill(&mut stage.site)?;
    stage.subject.start(&mut stage.site)?;
    stage.subject.ready(&stage.site).await?;
    stage
        .subject
        .settled(count as u64, Duration::from_secs(1), PATIENCE)
        .await?;
    tokio::time::sleep(CALM).await;
    let rest = stage.subject.memory()?;
    let per_object = match stage.smallest {
        Some((few, resident)) if count > few => {
            let bytes = rest.resident.saturating_sub(resident) / (count - few) as u64;
            format!("; {bytes} bytes a service object")
        }
        _ => {
            stage.smallest = Some((count, rest.resident));
            String::new()
        }
    };
    let place = format!("{count} objects");
    let row = Row::new(
        4,
        format!("resident at rest, {place}"),
        rest.resident as f64 / MB,
        "MB",
    )
    .note(format!(
        "proportional {:.1} MB{per_object}",
        rest.proportional as f64 / MB
    ));
    stage.note(match count {
        0..=AT => row.goal(Goal::AtMost(AT_REST_MB)),
        _ => row,
    });
    let share = |peak: u64| peak as f64 / rest.resident as f64;
    peak(
        stage,
        format!("peak of a start over rest, {place}"),
        share(rest.peak),
        rest.peak,
    );
    relist(stage).await?;
    let after = stage.subject.memory()?;
    peak(
        stage,
        format!("peak of a relist over rest, {place}"),
        share(after.peak),
        after.peak,
    );
    Ok(())
}

fn peak(stage: &mut Stage<'_>, what: String, share: f64, bytes: u64) {
    stage.note(
        Row::new(4, what, share, "×")
            .goal(Goal::AtMost(PEAK))
            .note(format!("{:.1} MB", bytes as f64 / MB)),
    );
}

/// An API server that was started again does not know the versions that watches would go on from.
async fn relist(stage: &mut Stage<'_>) -> Result<()> {
    // What changed since their last event is what the watches cannot catch up with.
    let order = crate::bench::fleet::Order::number(0);
    let touched = serde_json::json!({"metadata": {"annotations": {"relist": "soon"}}});
    order.change(&stage.site.client, &touched).await?;
    stage.rest().await?;
    stage.subject.forget_peak()?;
    stage.site.audit.clear()?;
    let mark = stage.site.audit.mark();
    stage
        .site
        .restart_api_server()
        .await
        .context("restart the API server")?;
    let end = Instant::now() + PATIENCE;
    let lists = loop {
        let requests = stage.site.audit.since(mark, &PROVIDER.user())?;
        if requests.counts_of("list configmaps") > 0 {
            break requests;
        }
        if Instant::now() > end {
            bail!(
                "the provider did not list its children again: {}",
                requests.by_verb()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    stage.rest().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.progress.say(&format!(
        "after a restart of the API server, among {} requests: {}",
        lists.of(Column::Watches),
        lists.by_verb()
    ));
    Ok(())
}
