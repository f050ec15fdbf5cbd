//! Fault 17: the storage of an API server is full.
use crate::{
    site::Site,
    solo::{Options, Solo},
};
use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    kinds::{self, api},
    people, wait,
};
use serde_json::{Value, json};

/// A fresh API server has some of it already.
const QUOTA: u64 = 8 << 20;
const BALLAST: usize = 400_000;
const FULL: &str = "database space exceeded";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_storage_is_said_loses_nothing_and_with_room_everything_is_as_ordered() -> Result<()> {
    let site = Site::new(Some(Options { quota: Some(QUOTA) })).await?;
    let provider = site.served().await?;
    for name in ["one", "two"] {
        site.order(name, 3).await?;
    }
    for name in ["one", "two"] {
        site.ready(name).await?;
    }
    let (one, two) = (site.uids("one").await?, site.uids("two").await?);

    let ballast = fill(&site.mcp).await?;
    println!("       full after {ballast} objects");
    // Nobody needs room for that.
    site.notes().delete("one-0", &DeleteParams::default()).await?;
    site.order("three", 2).await?;
    for name in ["one", "three"] {
        let said = site.unready(name, FULL).await?;
        println!("       {name}: {} {}", said["reason"], said["message"]);
        site.told(name, &[FULL]).await?;
    }
    site.ready("two").await?;
    ensure!(site.uids("two").await? == two, "{:?}", site.uids("two").await?);
    let mut left = one.clone();
    left.remove("one-0");
    ensure!(site.uids("one").await? == left, "{:?}", site.uids("one").await?);
    // Nor for this.
    site.orders().delete("two", &DeleteParams::default()).await?;
    wait::gone(&site.orders(), "two").await?;
    ensure!(site.uids("two").await?.is_empty());

    make_room(&site.mcp, ballast).await?;
    for (name, count) in [("one", 3), ("three", 2)] {
        site.ready(name).await?;
        ensure!(
            site.uids(name).await?.len() == count,
            "{:?}",
            site.uids(name).await?
        );
    }
    let after = site.uids("one").await?;
    ensure!(
        left.iter().all(|(name, uid)| after.get(name) == Some(uid)),
        "{left:?} {after:?}"
    );
    provider.end().await
}

fn ballast(nth: usize) -> Value {
    // Not compressed: etcd takes it as it is.
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("ballast-{nth}"), "namespace": "default"},
        "data": {"weight": "x".repeat(BALLAST)},
    })
}

/// Writes until nothing can be written any more. Returns how many objects it took.
async fn fill(server: &Solo) -> Result<usize> {
    for nth in 0.. {
        match people::create(&server.client, &kinds::config_map(), ballast(nth)).await {
            Ok(_) => ensure!(nth < 1000, "it never gets full"),
            Err(error) if error.to_string().contains(FULL) => return Ok(nth),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(0)
}

/// As its owner would.
async fn make_room(server: &Solo, ballast: usize) -> Result<()> {
    let maps = api(&server.client, &kinds::config_map(), "default");
    for nth in 0..ballast {
        maps.delete(&format!("ballast-{nth}"), &DeleteParams::default())
            .await?;
    }
    let listed = maps.list(&ListParams::default().limit(1)).await?;
    let revision = listed.metadata.resource_version.context("no resourceVersion")?;
    ask(
        server,
        "kv/compaction",
        json!({"revision": revision, "physical": true}),
    )
    .await?;
    ask(server, "maintenance/defragment", json!({})).await?;
    let raised = ask(server, "maintenance/alarm", json!({"action": "GET"})).await?;
    for alarm in raised["alarms"].as_array().into_iter().flatten() {
        let disarm = json!({"action": "DEACTIVATE", "alarm": alarm["alarm"], "memberID": alarm["memberID"]});
        ask(server, "maintenance/alarm", disarm).await?;
    }
    let left = ask(server, "maintenance/alarm", json!({"action": "GET"})).await?;
    ensure!(left["alarms"].is_null(), "{left}");
    Ok(())
}

async fn ask(server: &Solo, path: &str, body: Value) -> Result<Value> {
    let request = http::Request::post(format!("/v3/{path}")).body(body.to_string().into_bytes())?;
    let asked = tokio::time::timeout(wait::PATIENCE, server.etcd.request(request)).await;
    asked
        .with_context(|| format!("etcd does not answer {path}"))?
        .with_context(|| path.to_owned())
}
