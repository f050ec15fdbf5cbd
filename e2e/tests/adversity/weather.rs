//! Bad weather between the engine and a real API server.
use super::{
    owners::Owners,
    wire::{Plan, Trouble, is_list, is_next_page, is_watch, is_write},
};
use anyhow::{Result, ensure};
use futures::StreamExt;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use openmcp_e2e::wait::PATIENCE;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

fn clear() -> Plan {
    Arc::new(|_| None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_pause_gets_it() -> Result<()> {
    let owners = Owners::start("pause").await?;
    let writes = Arc::<Mutex<Vec<Instant>>>::default();
    let seen = writes.clone();
    let plan: Plan = Arc::new(move |request| {
        let mut seen = seen.lock().unwrap();
        is_write(request).then(|| seen.push(Instant::now()))?;
        (seen.len() == 1).then_some(Trouble::Refused(429, Some(3)))
    });
    owners.add("throttled", owners.connect(plan).await?, 1)?;
    owners.until("throttled", |standing| standing.passes > 0).await?;
    // Whatever happens meanwhile.
    owners.wake("throttled");
    owners.settled("throttled").await?;
    let writes = writes.lock().unwrap().clone();
    let pause = writes[1] - writes[0];
    ensure!(pause >= Duration::from_secs(3), "tried again after {pause:?}");
    ensure!(writes.len() == 2, "{} writes", writes.len());
    owners.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_late_delays_no_other_tenant() -> Result<()> {
    let owners = Owners::start("late").await?;
    let (gate, open) = watch::channel(false);
    let plan: Plan = Arc::new(move |_| Some(Trouble::Held(open.clone())));
    let late = owners.connect(plan).await?;
    // More than there are workers, all of one tenant.
    for nth in 0..20 {
        owners.add(&format!("late-{nth}"), late.clone(), 1)?;
    }
    owners.add("free", owners.connect(clear()).await?, 5)?;
    owners.settled("free").await?;
    for nth in 0..20 {
        ensure!(
            !owners.standing(&format!("late-{nth}")).settled,
            "it was not late"
        );
    }
    gate.send_replace(true);
    for nth in 0..20 {
        owners.settled(&format!("late-{nth}")).await?;
    }
    owners.leave().await
}

/// Troubles by chance, until there were so many.
struct Storm {
    chance: Mutex<StdRng>,
    left: AtomicUsize,
}

impl Storm {
    fn rise(&self, troubles: usize) {
        self.left.store(troubles, Ordering::Relaxed);
    }

    fn strike(&self, watches: bool) -> Option<Trouble> {
        let mut chance = self.chance.lock().unwrap();
        if self.left.load(Ordering::Relaxed) == 0 || !chance.random_bool(0.35) {
            return None;
        }
        self.left.fetch_sub(1, Ordering::Relaxed);
        if watches {
            return Some(Trouble::Cut(chance.random_range(0..5_000)));
        }
        Some(match chance.random_range(0..6) {
            0 => Trouble::Refused(500, None),
            1 => Trouble::Refused(503, Some(1)),
            2 => Trouble::Refused(429, Some(1)),
            3 => Trouble::AnswerLost,
            4 => Trouble::Cut(chance.random_range(0..200)),
            _ => Trouble::Slow(Duration::from_millis(chance.random_range(50..500))),
        })
    }
}

/// Which UIDs each name has had.
type Lives = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

fn witness(owners: &Owners) -> Lives {
    let lives = Lives::default();
    let config = watcher::Config::default();
    let mut objects = Box::pin(
        watcher(owners.config_maps(), config)
            .default_backoff()
            .touched_objects(),
    );
    let seen = lives.clone();
    tokio::spawn(async move {
        while let Some(object) = objects.next().await {
            let Ok(object) = object else { continue };
            let mut seen = seen.lock().unwrap();
            seen.entry(object.name_any()).or_default().extend(object.uid());
        }
    });
    lives
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_lags_and_cuts_its_answers_gets_everything_once_and_keeps_nothing() -> Result<()>
{
    const OWNERS: [&str; 4] = ["a", "b", "c", "d"];
    const EACH: usize = 6;
    let owners = Owners::start("storm").await?;
    let lives = witness(&owners);
    let storm = Arc::new(Storm {
        chance: Mutex::new(StdRng::seed_from_u64(9)),
        left: AtomicUsize::new(60),
    });
    for name in OWNERS {
        let storm = storm.clone();
        let plan: Plan = Arc::new(move |request| storm.strike(is_watch(request)));
        owners.add(name, owners.connect(plan).await?, EACH)?;
    }
    for name in OWNERS {
        owners.settled(name).await?;
    }
    let maps = owners.config_maps();
    for name in OWNERS {
        for (child, recorded) in owners.recorded(name) {
            let live = maps.get(&child).await?;
            ensure!(live.uid() == recorded, "{child}: {recorded:?} is recorded");
            let mut lives = lives.lock().unwrap();
            let lives = lives.entry(child).or_default();
            lives.extend(live.uid());
            ensure!(lives.len() == 1, "made more than once: {lives:?}");
        }
    }

    storm.rise(30);
    let theirs = Patch::Merge(json!({"data": {"a": "2"}}));
    maps.patch("a-0", &PatchParams::default(), &theirs).await?;
    maps.delete("b-0", &DeleteParams::default()).await?;
    let patience = Instant::now() + PATIENCE;
    loop {
        let (changed, deleted) = (maps.get("a-0").await?, maps.get_opt("b-0").await?);
        let data = changed.data.unwrap_or_default();
        if data["a"] == "1" && deleted.is_some() {
            break;
        }
        ensure!(Instant::now() < patience, "not repaired: {data:?}, {deleted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    storm.rise(40);
    for name in OWNERS {
        owners.end(name).await?;
    }
    let left = maps.list(&ListParams::default()).await?.items;
    let left: Vec<String> = left
        .iter()
        .map(ResourceExt::name_any)
        .filter(|it| it != "kube-root-ca.crt")
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    for (name, lives) in lives.lock().unwrap().iter() {
        let expected = if name == "b-0" { 2 } else { 1 };
        ensure!(
            lives.len() <= expected,
            "{name} was made more than once: {lives:?}"
        );
    }
    owners.leave().await
}

/// What the plan of the next test does.
struct Script {
    /// Changes: open watches end.
    end: watch::Sender<u32>,
    /// The next watch is told that it is too late.
    too_old: AtomicBool,
    /// The next page of a list is refused: what it goes on from was compacted.
    compacted: AtomicBool,
    /// Lists are answered.
    gate: watch::Sender<bool>,
    lists: AtomicUsize,
    writes: AtomicUsize,
}

impl Script {
    fn plan(self: &Arc<Self>) -> Plan {
        let script = self.clone();
        Arc::new(move |request| {
            if is_write(request) {
                script.writes.fetch_add(1, Ordering::Relaxed);
            }
            if is_watch(request) {
                let too_old = script.too_old.swap(false, Ordering::Relaxed);
                return Some(match too_old {
                    true => Trouble::TooOld,
                    false => Trouble::Until(script.end.subscribe()),
                });
            }
            if is_next_page(request) && script.compacted.swap(false, Ordering::Relaxed) {
                return Some(Trouble::Refused(410, None));
            }
            if is_list(request) {
                script.lists.fetch_add(1, Ordering::Relaxed);
                return Some(Trouble::Held(script.gate.subscribe()));
            }
            None
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_watch_that_came_too_late_lists_again_nothing_is_forgotten_and_nothing_written() -> Result<()>
{
    // More than a page.
    const MANY: usize = 510;
    let owners = Owners::start("late").await?;
    let script = Arc::new(Script {
        end: watch::Sender::new(0),
        too_old: AtomicBool::new(false),
        compacted: AtomicBool::new(false),
        gate: watch::Sender::new(true),
        lists: AtomicUsize::new(0),
        writes: AtomicUsize::new(0),
    });
    owners.add("many", owners.connect(script.plan()).await?, MANY)?;
    owners.settled("many").await?;
    let before = versions(&owners).await?;
    let (writes, lists) = (
        script.writes.load(Ordering::Relaxed),
        script.lists.load(Ordering::Relaxed),
    );

    script.too_old.store(true, Ordering::Relaxed);
    script.compacted.store(true, Ordering::Relaxed);
    script.gate.send_replace(false);
    script.end.send_modify(|nth| *nth += 1);
    let patience = Instant::now() + PATIENCE;
    while script.lists.load(Ordering::Relaxed) == lists {
        ensure!(Instant::now() < patience, "nothing is listed again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody sees it.
    owners
        .config_maps()
        .delete("many-7", &DeleteParams::default())
        .await?;
    let passes = owners.standing("many").passes;
    owners.wake("many");
    owners.until("many", |standing| standing.passes > passes).await?;
    ensure!(owners.standing("many").settled, "{:?}", owners.standing("many"));
    ensure!(
        script.writes.load(Ordering::Relaxed) == writes,
        "something was written"
    );

    script.gate.send_replace(true);
    let patience = Instant::now() + PATIENCE;
    while owners.config_maps().get_opt("many-7").await?.is_none() {
        ensure!(Instant::now() < patience, "what went meanwhile is not made again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    owners.settled("many").await?;
    ensure!(
        !script.compacted.load(Ordering::Relaxed),
        "there was no second page"
    );
    let after = versions(&owners).await?;
    let changed: Vec<_> = after
        .iter()
        .filter(|(name, it)| before.get(*name) != Some(it))
        .collect();
    ensure!(changed.len() == 1 && after.len() == before.len(), "{changed:?}");
    let written = script.writes.load(Ordering::Relaxed) - writes;
    ensure!(written == 1, "{written} writes for one repair");
    owners.leave().await
}

type Versions = BTreeMap<String, (Option<String>, Option<String>)>;

async fn versions(owners: &Owners) -> Result<Versions> {
    let all = owners.config_maps().list(&ListParams::default()).await?.items;
    let of = |it: k8s_openapi::api::core::v1::ConfigMap| (it.name_any(), (it.uid(), it.resource_version()));
    Ok(all.into_iter().map(of).collect())
}
