//! kill -9 of the operator, the cluster provider or the provider at random moments of create and delete, and of the
//! operator at an uninstall: after the restart everything converges, nothing is left over, nothing is created twice.
//!
//! Most of a seed is waiting, so seeds with different victims are played together, each by a tenant of its own. No process
//! is killed twice in such a round: its second start could heal what the first one broke.
//!
//! Runs where the platform's pods are processes of this machine. Seeds are printed; `OPENMCP_CRASH_SEED=0,2` runs these.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use kube::{
    Client,
    api::{DeleteParams, ListParams},
};
use openmcp_e2e::{
    Platform, Tenant, etcd,
    kinds::{self, api},
    kro, people, snapshot, wait,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const TRIES: u64 = 20;
/// Seeds after those: the provider is uninstalled.
const UNINSTALLS: u64 = 2;
const VICTIMS: [&str; 3] = ["openmcp-operator", "cp-hosted", "sp-kro"];
/// Longer than the process node's longest pause between two starts.
const RESTART: Duration = Duration::from_secs(60);
/// Longer than any one wait in it.
const A_ROUND: Duration = Duration::from_secs(180);
const ALL_ROUNDS: Duration = Duration::from_secs(15 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_leaves_nothing_over_and_makes_nothing_twice() -> Result<()> {
    let seeds = match std::env::var("OPENMCP_CRASH_SEED") {
        Ok(some) => some.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?,
        Err(_) => (0..TRIES + UNINSTALLS).collect(),
    };
    let mut ran = 0;
    let all = async {
        let stage = Stage::set().await?;
        for round in rounds(&seeds) {
            let since = Instant::now();
            round.iter().for_each(|seed| say(&seed.to_string()));
            tokio::time::timeout(A_ROUND, stage.play(&round))
                .await
                .with_context(|| format!("it does not end within {} s", A_ROUND.as_secs()))
                .flatten()
                .with_context(|| round.iter().map(Seed::to_string).collect::<Vec<_>>().join("; "))?;
            ran += round.len();
            say(&format!(
                "{:.1} s, {ran} of {} seeds",
                since.elapsed().as_secs_f32(),
                seeds.len()
            ));
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(ALL_ROUNDS, all).await {
        Ok(ended) => ended,
        Err(_) => bail!(
            "only {ran} of {} seeds were through after {} s",
            seeds.len(),
            ALL_ROUNDS.as_secs()
        ),
    }
}

/// At once, whatever the test harness captures: who waits for minutes sees where it is.
fn say(line: &str) {
    let _written = writeln!(std::io::stderr(), "{line}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum During {
    Create,
    Delete,
    Uninstall,
}

/// Who is killed, and when.
#[derive(Debug)]
struct Seed {
    number: u64,
    victim: &'static str,
    during: During,
    after: Duration,
}

impl Seed {
    fn new(number: u64) -> Self {
        let mut random = StdRng::seed_from_u64(number);
        if number >= TRIES {
            let after = Duration::from_millis(random.random_range(0..2_000));
            let (victim, during) = (VICTIMS[0], During::Uninstall);
            return Self {
                number,
                victim,
                during,
                after,
            };
        }
        let victim = VICTIMS[random.random_range(0..VICTIMS.len())];
        let during = match random.random_bool(0.5) {
            true => During::Delete,
            false => During::Create,
        };
        let after = Duration::from_millis(random.random_range(0..4_000));
        Self {
            number,
            victim,
            during,
            after,
        }
    }

    /// Does it, beside what it happens to.
    async fn beside(&self, during: During, what: impl Future<Output = Result<()>>) -> Result<()> {
        let crash = async {
            if self.during == during {
                tokio::time::sleep(self.after).await;
                kill(self.victim).await?;
            }
            Ok(())
        };
        tokio::try_join!(what, crash)?;
        Ok(())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            victim,
            during,
            after,
        } = self;
        write!(f, "seed {number}: kill {victim} {after:?} into {during:?}")
    }
}

/// The seeds, those together that kill different processes; uninstalls by themselves, at the end.
fn rounds(seeds: &[u64]) -> Vec<Vec<Seed>> {
    let (mut together, mut alone) = (Vec::<Vec<Seed>>::new(), Vec::new());
    for seed in seeds.iter().map(|number| Seed::new(*number)) {
        let is_free = |round: &&mut Vec<Seed>| round.iter().all(|it| it.victim != seed.victim);
        match together.iter_mut().find(is_free) {
            _ if seed.during == During::Uninstall => alone.push(vec![seed]),
            Some(round) => round.push(seed),
            None => together.push(vec![seed]),
        }
    }
    together.into_iter().chain(alone).collect()
}

struct Stage {
    platform: Platform,
    onboarding: Client,
    /// One for each seed of a round.
    tenants: Vec<(Tenant, &'static str)>,
    before: Everything,
}

impl Stage {
    async fn set() -> Result<Self> {
        let platform = Platform::from_env().await?;
        platform.install_kro().await?;
        let mut tenants = Vec::new();
        for name in ["crash-a", "crash-b", "crash-c"] {
            tenants.push((platform.tenant(name).await?, name));
        }
        // The provider's own access to onboarding and its Lease stay.
        let access = "kro.services.open-control-plane.io--onboarding-run";
        let requests = api(&platform.client, &kinds::access_request(), people::SYSTEM);
        wait::phase(&requests, access, "Granted").await?;
        let leases = api(&platform.client, &kinds::lease(), people::SYSTEM);
        wait::until(&leases, "sp-kro", "there", |live| live.is_some()).await?;
        let onboarding = platform.onboarding().await?;
        let before = Everything::of(&platform, &onboarding).await?;
        Ok(Self {
            platform,
            onboarding,
            tenants,
            before,
        })
    }

    async fn play(&self, round: &[Seed]) -> Result<()> {
        if let [seed] = round
            && seed.during == During::Uninstall
        {
            return uninstall(&self.platform, seed).await;
        }
        let all = || self.tenants.iter().zip(round);
        try_join_all(all().map(|((tenant, name), seed)| seed.beside(During::Create, create(tenant, name))))
            .await?;
        once(&self.platform, round.len()).await?;
        try_join_all(all().map(|((tenant, name), seed)| seed.beside(During::Delete, delete(tenant, name))))
            .await?;
        self.before.nothing_more(&self.platform, &self.onboarding).await
    }
}

/// What there is without the tenant's service: on the platform, on onboarding, and whose keys are in etcd.
struct Everything {
    platform: BTreeSet<String>,
    onboarding: BTreeSet<String>,
    hosted: BTreeSet<String>,
}

impl Everything {
    async fn of(platform: &Platform, onboarding: &Client) -> Result<Self> {
        let (platform, onboarding, hosted) = tokio::try_join!(
            snapshot::everything(&platform.client),
            snapshot::everything(onboarding),
            hosted(platform),
        )?;
        Ok(Self {
            platform,
            onboarding,
            hosted,
        })
    }

    async fn nothing_more(&self, platform: &Platform, onboarding: &Client) -> Result<()> {
        tokio::try_join!(
            snapshot::none(&platform.client, |it| !self.platform.contains(it)),
            snapshot::none(onboarding, |it| !self.onboarding.contains(it)),
        )?;
        let hosted = hosted(platform).await?;
        let left: Vec<_> = hosted.difference(&self.hosted).collect();
        ensure!(left.is_empty(), "left in etcd: {left:?}");
        Ok(())
    }
}

/// The hosted control planes that have keys in etcd.
async fn hosted(platform: &Platform) -> Result<BTreeSet<String>> {
    Ok(etcd::keys(platform).await?.into_keys().collect())
}

async fn uninstall(platform: &Platform, seed: &Seed) -> Result<()> {
    platform.install_kro().await?;
    let providers = api(&platform.client, &kinds::service_provider(), "");
    let uninstalled = async {
        providers.delete("kro", &DeleteParams::default()).await?;
        wait::gone(&providers, "kro").await
    };
    seed.beside(During::Uninstall, uninstalled).await?;
    platform.nothing_of_kro().await
}

async fn create(tenant: &Tenant, name: &str) -> Result<()> {
    tenant.order_control_plane(name).await?;
    tenant.order_kro(name, kro::VERSION).await?;
    wait::phase(&tenant.api(&kinds::control_plane()), name, "Ready").await?;
    wait::phase(&tenant.api(&kinds::kro()), name, "Ready")
        .await
        .map(drop)
}

async fn delete(tenant: &Tenant, name: &str) -> Result<()> {
    for kind in [kinds::control_plane(), kinds::kro()] {
        tenant.api(&kind).delete(name, &DeleteParams::default()).await?;
    }
    wait::gone(&tenant.api(&kinds::kro()), name).await?;
    wait::gone(&tenant.api(&kinds::control_plane()), name).await
}

/// What so many ControlPlanes with a kro each consist of on the platform: for each of them each thing exactly once.
async fn once(platform: &Platform, count: usize) -> Result<()> {
    for kind in [kinds::cluster(), kinds::inventory(), kinds::deployment()] {
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

/// SIGKILL to the process of the victim's container, by the pid that the process node has recorded. One that was killed
/// a moment ago is not there before its pause between two starts is over.
async fn kill(victim: &str) -> Result<()> {
    let kubeconfig = PathBuf::from(std::env::var("OPENMCP_PLATFORM_KUBECONFIG")?);
    let state = kubeconfig
        .parent()
        .and_then(|p| p.parent())
        .context("the platform's state folder")?;
    let prefix = format!("{}/{victim}", people::SYSTEM);
    let end = Instant::now() + RESTART;
    loop {
        let ledger = std::fs::read(state.join("node/processes.json")).context("the process node's ledger")?;
        let ledger: Value = serde_json::from_slice(&ledger)?;
        if let Some(pid) = find(&ledger, &prefix) {
            let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
            // It may have ended by itself a moment ago.
            if status.success() {
                return Ok(());
            }
        }
        ensure!(Instant::now() < end, "no process of {prefix} in {ledger}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
