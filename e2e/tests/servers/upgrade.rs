//! Fault 18: one release follows another, and goes back, with many live objects.
use crate::{
    notes::{Notes, next},
    site::{NAME, Provider, Site, TENANT},
};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{ResourceExt, api::ListParams};
use openmcp_e2e::{
    kinds::{self, api},
    wait,
};
use serde_json::Value;
use service_provider_runtime::ServiceProvider;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const ORDERS: usize = 200;
const EACH: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_wants_the_same_writes_nothing_and_neither_does_the_way_back() -> Result<()> {
    let site = Site::new(None).await?;
    let first = site.served().await?;
    let orders: Vec<String> = (0..ORDERS).map(|nth| format!("set{nth}")).collect();
    stream::iter(&orders)
        .map(|name| site.order(name, EACH))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let all_ready = async {
        for name in &orders {
            site.ready(name).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(2 * wait::PATIENCE, all_ready)
        .await
        .context("not all orders are ready")??;
    at_rest(&site).await?;
    let before = everything(&site).await?;
    ensure!(before.len() > ORDERS * 4, "{}", before.len());

    let second = follow(&site, first, next::Notes, "two", "2").await?;
    ensure!(everything(&site).await? == before, "an upgrade changed something");
    let third = follow(&site, second, Notes, "three", "1").await?;
    ensure!(
        everything(&site).await? == before,
        "the way back changed something"
    );
    third.end().await
}

/// Installs a release, starts it beside the one before as a Deployment does, and ends that one. Nothing but Leases and
/// what `init` installs is written.
async fn follow<P: ServiceProvider>(
    site: &Site,
    last: Provider,
    release: P,
    pod: &str,
    version: &str,
) -> Result<Provider> {
    let mark = site.home.requests()?.len();
    site.init::<P>(version).await?;
    at_rest(site).await?;
    println!("       {pod}: init writes {:?}", written(site, mark)?);

    let mark = site.home.requests()?.len();
    let next = site.run(release, pod, version).await?;
    last.end().await?;
    leads(site, pod).await?;
    // It has seen, and compared, everything.
    site.is_repaired("set0-0").await?;
    at_rest(site).await?;
    let mut written = written(site, mark)?;
    println!("       {pod}: run writes {written:?}");
    let repair = [("patch configmaps", 1), ("update inventories", 1)];
    written.retain(|what, count| {
        !repair
            .iter()
            .any(|(it, at_most)| it == what && *count <= *at_most)
    });
    ensure!(written.is_empty(), "{pod}: {written:?}");
    Ok(next)
}

/// What the provider has written since then, Leases and Events aside.
fn written(site: &Site, mark: usize) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for [verb, group, resource] in site.home.requests()?.into_iter().skip(mark) {
        let reads = ["get", "list", "watch"].contains(&verb.as_str());
        if !reads && group != "coordination.k8s.io" && group != "events.k8s.io" {
            *counts.entry(format!("{verb} {resource}")).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn leads(site: &Site, pod: &str) -> Result<()> {
    let leases = api(&site.home.client, &kinds::lease(), openmcp_e2e::people::SYSTEM);
    wait::until(&leases, &format!("sp-{NAME}"), &format!("{pod} leads"), |live| {
        live.is_some_and(|live| {
            live["spec"]["holderIdentity"]
                .as_str()
                .is_some_and(|it| it.starts_with(pod))
        })
    })
    .await
    .map(drop)
}

/// The provider has sent nothing but Leases for a while.
async fn at_rest(site: &Site) -> Result<()> {
    const QUIET: Duration = Duration::from_secs(3);
    let busy = |it: &[String; 3]| it[1] != "coordination.k8s.io";
    let (end, mut last) = (Instant::now() + wait::PATIENCE, (0, Instant::now()));
    while last.1.elapsed() < QUIET {
        let count = site.home.requests()?.iter().filter(|it| busy(it)).count();
        if count != last.0 {
            last = (count, Instant::now());
        }
        ensure!(Instant::now() < end, "it does not come to rest");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The versions of all orders, notes but the one that is repaired, Inventories and accesses.
async fn everything(site: &Site) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let kinds = [
        (crate::site::order_kind(), TENANT),
        (kinds::config_map(), "default"),
        (kinds::access_request(), ""),
        (kinds::cluster_request(), ""),
    ];
    for (kind, namespace) in kinds {
        let objects = api(&site.home.client, &kind, namespace);
        for object in objects.list(&ListParams::default()).await?.items {
            let name = format!("{} {:?} {}", kind.kind, object.namespace(), object.name_any());
            if !name.ends_with(" set0-0") {
                all.insert(name, object.resource_version().into());
            }
        }
    }
    Ok(all)
}
