//! Experiments 2 and 3: requests, counted by the API server.
use crate::bench::{
    Stage,
    audit::{Column, Requests},
    fleet::Order,
    report::{Goal, Row},
    subject::{ALL_SETS, configure},
    witness::Witness,
};
use anyhow::Result;
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// Service objects that are touched.
const TOUCHED: usize = 100;
const MINUTE: Duration = Duration::from_secs(60);
/// Lives that are counted, one after the other.
const LIVES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Experiment 2: reconciles that have nothing to do, and nothing at all.
pub(super) async fn noop(stage: &mut Stage<'_>) -> Result<()> {
    let client = stage.site.client.clone();
    let count = TOUCHED.min(stage.fleet.len());
    let before = stage.subject.passes().await?.ended;
    let touch = async {
        for number in 0..count {
            let touched = json!({"metadata": {"annotations": {"touched": "yes"}}});
            Order::number(number).change(&client, &touched).await?;
        }
        Ok(())
    };
    let requests = stage.requests_of(touch).await?;
    let passes = stage.subject.passes().await?.ended - before;
    stage.note(
        Row::new(
            2,
            format!("requests of {passes} reconciles after an annotation was touched, watches aside"),
            beside_watches(&requests),
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(requests.by_verb()),
    );
    let before = stage.subject.passes().await?.ended;
    let touched = json!({"metadata": {"annotations": {"touched": "yes"}}});
    let requests = stage.requests_of(configure(&client, &touched)).await?;
    let passes = stage.subject.passes().await?.ended - before;
    stage.note(
        Row::new(
            2,
            format!("requests of {passes} reconciles after the ProviderConfig was touched, watches aside"),
            beside_watches(&requests),
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(requests.by_verb()),
    );
    stage.progress.say("a minute of rest");
    let requests = stage
        .requests_of(async {
            tokio::time::sleep(MINUTE).await;
            Ok(())
        })
        .await?;
    stage.note(
        Row::new(
            2,
            format!(
                "requests in a minute of rest, {} objects, watches aside",
                stage.fleet.len()
            ),
            beside_watches(&requests),
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(requests.by_verb()),
    );
    Ok(())
}

/// Watches end after a while, whatever happens, and are begun again. A list is none of them.
fn beside_watches(requests: &Requests) -> f64 {
    (requests.total() - requests.of(Column::Watches) + requests.lists()) as f64
}

/// What is done to a service object.
enum Deed {
    Order,
    Change(Value),
    Delete,
}

/// Experiment 3: order, two changes, deletion.
pub(super) async fn life(stage: &mut Stage<'_>) -> Result<()> {
    let children = stage.children as f64;
    let batch = stage.fleet.prepare(LIVES, &stage.progress).await?;
    let orders: Vec<Order> = batch.clone().map(Order::number).collect();
    let one = Deed::Change(json!({"spec": {"first": "changed"}}));
    let all = Deed::Change(json!({"spec": {"text": "changed"}}));
    for (what, deed, generation, goal) in [
        ("order to Ready", Deed::Order, 1, children + 4.0),
        ("change of one child", one, 2, 1.0 + 2.0),
        ("change of all children", all, 3, children + 2.0),
        ("deletion", Deed::Delete, 3, 2.0 * children + 3.0),
    ] {
        let requests = stage
            .requests_of(each(&stage.site.client, &orders, &deed, generation))
            .await?;
        let main = (requests.of(Column::Children) + requests.of(Column::Object)) as f64 / LIVES as f64;
        stage.note(
            Row::new(
                3,
                format!("{what}: requests for children, finalizer and status"),
                main,
                "requests",
            )
            .goal(Goal::AtMost(goal))
            .note(requests.by_column(LIVES as u64)),
        );
    }
    // The places that became free are ordered again, so that all numbers below are objects.
    stage.fleet.place(batch, &stage.progress).await?;
    Ok(())
}

/// Does it to one object after the other, each until it is Ready again or gone.
async fn each(client: &Client, orders: &[Order], deed: &Deed, generation: i64) -> Result<()> {
    let mut witness = Witness::of(client, ALL_SETS).await?;
    for order in orders {
        match deed {
            Deed::Order => order.place(client).await?,
            Deed::Change(patch) => order.change(client, patch).await?,
            Deed::Delete => {
                order.delete(client).await?;
                gone(&mut witness, order).await?;
                continue;
            }
        }
        ready(&mut witness, order, generation).await?;
    }
    Ok(())
}

async fn ready(witness: &mut Witness, order: &Order, generation: i64) -> Result<()> {
    loop {
        let sight = witness.next(PATIENCE).await?;
        let object = &sight.object;
        if object.metadata.name == order.name && object.is_ready() && object.metadata.generation >= generation
        {
            return Ok(());
        }
    }
}

async fn gone(witness: &mut Witness, order: &Order) -> Result<()> {
    loop {
        let sight = witness.next(PATIENCE).await?;
        if sight.deleted && sight.object.metadata.name == order.name {
            return Ok(());
        }
    }
}
