//! kill -9 of the operator, the cluster provider or the provider at random moments of create and delete, and of the
//! operator at an uninstall: after the restart everything converges, nothing is left over, nothing is created twice.
//!
//! Runs where the platform's pods are processes of this machine. Seeds are printed; `OPENMCP_CRASH_SEED=n` runs one.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    Platform, Tenant, etcd,
    kinds::{self, api},
    kro, people, snapshot, wait,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

const TRIES: u64 = 20;
/// Seeds after those: the provider is uninstalled.
const UNINSTALLS: u64 = 2;
const VICTIMS: [&str; 3] = ["openmcp-operator", "cp-hosted", "sp-kro"];

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_leaves_nothing_over_and_makes_nothing_twice() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("crash").await?;
    let only: Option<u64> = std::env::var("OPENMCP_CRASH_SEED")
        .ok()
        .map(|s| s.parse())
        .transpose()?;
    // The provider's own access to onboarding and its Lease stay.
    let access = "kro.services.open-control-plane.io--onboarding-run";
    let requests = api(&platform.client, &kinds::access_request(), people::SYSTEM);
    wait::phase(&requests, access, "Granted").await?;
    let leases = api(&platform.client, &kinds::lease(), people::SYSTEM);
    wait::until(&leases, "sp-kro", "there", |live| live.is_some()).await?;
    let before = Everything::of(&platform).await?;
    for seed in only.map_or(0..TRIES + UNINSTALLS, |seed| seed..seed + 1) {
        let mut random = StdRng::seed_from_u64(seed);
        if seed >= TRIES {
            let after = Duration::from_millis(random.random_range(0..2_000));
            println!("seed {seed}: kill openmcp-operator {after:?} into uninstall");
            uninstall(&platform, after)
                .await
                .with_context(|| format!("seed {seed}"))?;
            continue;
        }
        let victim = VICTIMS[random.random_range(0..VICTIMS.len())];
        let during_delete = random.random_bool(0.5);
        let after = Duration::from_millis(random.random_range(0..4_000));
        println!(
            "seed {seed}: kill {victim} {after:?} into {}",
            if during_delete { "delete" } else { "create" }
        );
        let scene = async {
            scene(&platform, &tenant, victim, during_delete, after).await?;
            before.nothing_more(&platform).await
        };
        scene.await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// What there is without the tenant's service: on the platform, on onboarding, and whose keys are in etcd.
struct Everything {
    platform: BTreeSet<String>,
    onboarding: BTreeSet<String>,
    hosted: BTreeSet<String>,
}

impl Everything {
    async fn of(platform: &Platform) -> Result<Self> {
        Ok(Self {
            onboarding: snapshot::everything(&platform.onboarding().await?).await?,
            platform: snapshot::everything(&platform.client).await?,
            hosted: etcd::keys(platform).await?.into_keys().collect(),
        })
    }

    async fn nothing_more(&self, platform: &Platform) -> Result<()> {
        let onboarding = platform.onboarding().await?;
        snapshot::none(&platform.client, |it| !self.platform.contains(it)).await?;
        snapshot::none(&onboarding, |it| !self.onboarding.contains(it)).await?;
        let hosted: BTreeSet<String> = etcd::keys(platform).await?.into_keys().collect();
        let left: Vec<_> = hosted.difference(&self.hosted).collect();
        ensure!(left.is_empty(), "left in etcd: {left:?}");
        Ok(())
    }
}

async fn uninstall(platform: &Platform, after: Duration) -> Result<()> {
    platform.install_kro().await?;
    let providers = api(&platform.client, &kinds::service_provider(), "");
    let uninstalled = async {
        providers.delete("kro", &DeleteParams::default()).await?;
        wait::gone(&providers, "kro").await
    };
    let crash = async {
        tokio::time::sleep(after).await;
        kill("openmcp-operator")
    };
    tokio::try_join!(uninstalled, crash)?;
    platform.nothing_of_kro().await
}

async fn scene(
    platform: &Platform,
    tenant: &Tenant,
    victim: &str,
    during_delete: bool,
    after: Duration,
) -> Result<()> {
    let name = "crash";
    let create = async {
        tenant.order_control_plane(name).await?;
        tenant.order_kro(name, kro::VERSION).await?;
        wait::phase(&tenant.api(&kinds::control_plane()), name, "Ready").await?;
        wait::phase(&tenant.api(&kinds::kro()), name, "Ready").await
    };
    let delete = async {
        for kind in [kinds::control_plane(), kinds::kro()] {
            tenant.api(&kind).delete(name, &DeleteParams::default()).await?;
        }
        wait::gone(&tenant.api(&kinds::kro()), name).await?;
        wait::gone(&tenant.api(&kinds::control_plane()), name).await
    };
    let crash = async {
        tokio::time::sleep(after).await;
        kill(victim)
    };
    if during_delete {
        create.await?;
        once(platform).await?;
        tokio::try_join!(delete, crash)?;
    } else {
        tokio::try_join!(create, crash)?;
        once(platform).await?;
        delete.await?;
    }
    Ok(())
}

/// What one ControlPlane with one kro consists of on the platform: each thing exactly once.
async fn once(platform: &Platform) -> Result<()> {
    for (kind, count) in [
        (kinds::cluster(), 1),
        (kinds::inventory(), 1),
        (kinds::deployment(), 1),
    ] {
        let names = of_tenants(platform, &kind).await?;
        let made = names
            .iter()
            .filter(|n| kind.kind != "Deployment" || n.ends_with("/kro"))
            .count();
        assert_eq!(made, count, "{}: {names:?}", kind.kind);
    }
    Ok(())
}

/// The objects of a kind that exist for ControlPlanes and services, as namespace/name.
async fn of_tenants(platform: &Platform, kind: &kube::api::ApiResource) -> Result<Vec<String>> {
    let all = api(&platform.client, kind, "")
        .list(&ListParams::default())
        .await?;
    Ok(all
        .items
        .into_iter()
        .map(|o| {
            format!(
                "{}/{}",
                o.metadata.namespace.unwrap_or_default(),
                o.metadata.name.unwrap_or_default()
            )
        })
        .filter(|n| n.contains("mcp--") || n.contains("kro--"))
        .collect())
}

/// SIGKILL to the process of the victim's container, by the pid that the process node has recorded.
fn kill(victim: &str) -> Result<()> {
    let kubeconfig = PathBuf::from(std::env::var("OPENMCP_PLATFORM_KUBECONFIG")?);
    let state = kubeconfig
        .parent()
        .and_then(|p| p.parent())
        .context("the platform's state folder")?;
    let ledger = std::fs::read(state.join("node/processes.json")).context("the process node's ledger")?;
    let ledger: Value = serde_json::from_slice(&ledger)?;
    let prefix = format!("{}/{victim}", people::SYSTEM);
    let pid = find(&ledger, &prefix).with_context(|| format!("no process of {prefix} in {ledger}"))?;
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(status.success(), "kill -9 {pid} ended with {status}");
    Ok(())
}

/// The pid of the first entry whose key begins with `prefix`.
fn find(ledger: &Value, prefix: &str) -> Option<i64> {
    ledger.as_object()?.iter().find_map(|(key, value)| {
        if key.starts_with(prefix) {
            value["pid"].as_i64()
        } else {
            find(value, prefix)
        }
    })
}
