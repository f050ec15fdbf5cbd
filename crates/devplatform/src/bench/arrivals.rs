//! Orders that arrive one after the other while something else goes on.
use super::{fleet::Order, stats::Samples, subject::ALL_SETS, witness::Witness};
use anyhow::{Context, Result};
use kube::Client;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Between two orders.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// How long all of them may make no progress.
const PATIENCE: Duration = Duration::from_secs(300);

/// Places the orders and waits until all are Ready. Returns the milliseconds from each order to its Ready.
pub(super) async fn arrive(client: &Client, orders: &[Order]) -> Result<Samples> {
    let mut witness = Witness::of(client, ALL_SETS).await?;
    let placing = async {
        let mut placed = HashMap::new();
        for order in orders {
            placed.insert(order.name.clone(), Instant::now());
            order.place(client).await?;
            tokio::time::sleep(EVERY).await;
        }
        anyhow::Ok(placed)
    };
    let waiting = async {
        let mut ready = HashMap::new();
        while ready.len() < orders.len() {
            let sight = witness
                .next(PATIENCE)
                .await
                .with_context(|| format!("{} of {} orders became Ready", ready.len(), orders.len()))?;
            let name = sight.object.metadata.name.clone();
            if sight.object.is_ready() && orders.iter().any(|order| order.name == name) {
                ready.entry(name).or_insert(sight.at);
            }
        }
        anyhow::Ok(ready)
    };
    let (placed, ready) = tokio::try_join!(placing, waiting)?;
    let took = ready
        .iter()
        .filter_map(|(name, at)| Some(at.duration_since(*placed.get(name)?)));
    Ok(Samples::millis(took))
}
