//! Experiment 5: CPU time of the provider for a thousand reconciles.
use crate::bench::{Stage, fleet::Order, report::Row, stats::Samples};
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

const REPEATS: usize = 5;
const IN_FLIGHT: usize = 32;

/// By turns reconciles that have nothing to do and such that change one child.
pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let (mut noop, mut change) = (Vec::new(), Vec::new());
    for turn in 0..REPEATS {
        let turn = turn.to_string();
        noop.push(spent(stage, &json!({"metadata": {"annotations": {"cpu": turn}}})).await?);
        change.push(spent(stage, &json!({"spec": {"first": turn}})).await?);
    }
    for (what, spent) in [("with nothing to do", noop), ("that change one child", change)] {
        let spent = Samples::new(spent);
        stage.note(
            Row::new(
                5,
                format!("CPU of 1,000 reconciles {what}, median of {REPEATS}"),
                spent.median(),
                "s",
            )
            .note(format!(
                "{:.2} to {:.2}, the watch events that cause them included",
                spent.min(),
                spent.max()
            ))
            .samples(&spent),
        );
    }
    stage.note(
        Row::new(5, "instructions of 1,000 reconciles", f64::NAN, "").note(
            "not measured: `perf stat -e instructions:u -p PID` counts them where the machine has counters",
        ),
    );
    Ok(())
}

/// CPU seconds for a thousand objects that are patched so.
async fn spent(stage: &mut Stage<'_>, patch: &Value) -> Result<f64> {
    stage.rest().await?;
    let count = stage.fleet.len().min(1000);
    let client = &stage.site.client;
    let before = stage.subject.cpu()?;
    let patches: Vec<_> = (0..count)
        .map(|number| async move { Order::number(number).change(client, patch).await })
        .collect();
    stream::iter(patches)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    stage.rest().await?;
    let spent = stage.subject.cpu()? - before;
    Ok(spent.as_secs_f64() * 1000.0 / count as f64)
}
