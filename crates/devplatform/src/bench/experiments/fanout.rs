//! Experiment 8: a change of the ProviderConfig that concerns every child of every service object.
use crate::bench::{
    Stage,
    arrivals::arrive,
    breakage::children,
    fleet::Order,
    progress::Progress,
    report::{Goal, Row},
    site::PROVIDER,
    subject::configure,
    witness::Witness,
};
use anyhow::{Context, Result};
use kube::Client;
use serde_json::json;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Orders that arrive meanwhile.
const NEW: usize = 60;
const NEW_MILLIS: f64 = 1000.0;

pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.fleet.len();
    let orders: Vec<Order> = stage
        .fleet
        .prepare(NEW, &stage.progress)
        .await?
        .map(Order::number)
        .collect();
    stage.rest().await?;
    stage.site.audit.clear()?;
    let mark = stage.site.audit.mark();
    let client = stage.site.client.clone();
    let old: HashSet<String> = (0..count)
        .map(Order::number)
        .flat_map(|order| (0..stage.children).map(move |index| order.child(index)))
        .collect();
    let text = format!("changed at {count}");
    let converging = converge(&client, old, &text, &stage.progress);
    let (converged, latencies) = tokio::try_join!(converging, arrive(&client, &orders))?;
    stage.rest().await?;
    let requests = stage.site.audit.since(mark, &PROVIDER.user())?;
    let (place, expected) = (format!("{count} dependants"), count * stage.children);
    stage.note(
        Row::new(
            8,
            format!("ProviderConfig changed until all children are, {place}"),
            converged.as_secs_f64(),
            "s",
        )
        .note(format!(
            "{:.0} children a second",
            expected as f64 / converged.as_secs_f64()
        )),
    );
    stage.note(
        Row::new(
            8,
            format!("peak of requests, {place}"),
            requests.peak() as f64,
            "1/s",
        )
        .note(requests.by_verb()),
    );
    stage.note(
        Row::new(
            8,
            format!("order to Ready p99 meanwhile, {place}"),
            latencies.percentile(99),
            "ms",
        )
        .goal(Goal::AtMost(NEW_MILLIS))
        .note(format!("p50 {:.0}, {NEW} orders", latencies.median()))
        .samples(&latencies),
    );
    Ok(())
}

/// Changes the ProviderConfig and waits until it has reached every child.
async fn converge(
    client: &Client,
    mut children_left: HashSet<String>,
    text: &String,
    progress: &Progress,
) -> Result<Duration> {
    let mut witness = Witness::of(client, &children()).await?;
    progress.begin("children changed by the ProviderConfig", children_left.len());
    let began = Instant::now();
    configure(client, &json!({"spec": {"text": text}})).await?;
    let mut last = began;
    while !children_left.is_empty() {
        let sight = witness
            .next(PATIENCE)
            .await
            .with_context(|| format!("{} children were not changed", children_left.len()))?;
        if sight.object.data.get("config") == Some(text) && children_left.remove(&sight.object.metadata.name)
        {
            last = sight.at;
            progress.step();
        }
    }
    Ok(last.duration_since(began))
}
