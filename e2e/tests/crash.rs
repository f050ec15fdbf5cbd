//! kill -9 of the operator, the cluster provider or the provider at random moments of create and delete: after the
//! restart everything converges, nothing is left over, nothing is created twice.
//!
//! Runs where the platform's pods are processes of this machine. Seeds are printed; `OPENMCP_CRASH_SEED=n` runs one.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result};
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    Platform, Tenant,
    kinds::{self, api},
    kro, people, wait,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{path::PathBuf, process::Command, time::Duration};

const TRIES: u64 = 20;
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
    for seed in only.map_or(0..TRIES, |seed| seed..seed + 1) {
        let mut random = StdRng::seed_from_u64(seed);
        let victim = VICTIMS[random.random_range(0..VICTIMS.len())];
        let during_delete = random.random_bool(0.5);
        let after = Duration::from_millis(random.random_range(0..4_000));
        println!(
            "seed {seed}: kill {victim} {after:?} into {}",
            if during_delete { "delete" } else { "create" }
        );
        scene(&platform, &tenant, victim, during_delete, after)
            .await
            .with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
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
    left(platform).await
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

async fn left(platform: &Platform) -> Result<()> {
    for kind in [
        kinds::cluster(),
        kinds::cluster_request(),
        kinds::access_request(),
        kinds::inventory(),
    ] {
        let names = of_tenants(platform, &kind).await?;
        assert!(names.is_empty(), "{} left over: {names:?}", kind.kind);
    }
    for kind in [kinds::deployment(), kinds::namespace()] {
        let namespaces = of_tenants(platform, &kind).await?;
        assert!(namespaces.is_empty(), "{} left over: {namespaces:?}", kind.kind);
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
    anyhow::ensure!(status.success(), "kill -9 {pid} ended with {status}");
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
