//! Fault 2, I3, I5 and I6 for back ends that are not Kubernetes: a small one in memory, which outlives the processes of
//! the provider.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
#[path = "common/databases.rs"]
mod databases;

use common::{config, greeter};
use databases::{BackEnd, Mood, Provider};
use openmcp_testkit::{Crash, Ended, Job, PERSON, Process, Simulation, World, children, oracle};
use serde_json::{Value, json};
use std::{sync::LazyLock, time::Duration};

const QUIET: Duration = Duration::from_secs(70);
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// A platform, its back end, and the provider's process, which is started again when it dies.
struct Scene {
    world: World,
    back_end: BackEnd,
    process: Process,
    deaths: usize,
}

fn process(world: &World, back_end: &BackEnd) -> Process {
    let back_end = back_end.clone();
    Simulation::new("greeter", move || Provider(back_end.clone())).start(world, Job::Run)
}

impl Scene {
    fn new() -> Self {
        static PLATFORM: LazyLock<World> = LazyLock::new(|| {
            Simulation::new("greeter", || Provider(BackEnd::default()))
                .on_platform(config("small"))
                .control_plane("team", "one")
                .world()
        });
        let (world, back_end) = (PLATFORM.fork(), BackEnd::default());
        Self {
            process: process(&world, &back_end),
            world,
            back_end,
            deaths: 0,
        }
    }

    fn order(&mut self, count: i32) {
        let order = greeter("team", "one", count);
        self.world.server("onboarding").apply(PERSON, &order).unwrap();
        self.settle();
    }

    fn resize(&mut self, size: &str) {
        self.world
            .server("platform")
            .apply(PERSON, &config(size))
            .unwrap();
        self.settle();
    }

    fn cancel(&mut self) {
        let order = greeter("team", "one", 0);
        self.world.server("onboarding").delete(&order).unwrap();
        self.settle();
    }

    /// Until nobody writes any more; who dies is started again.
    fn settle(&mut self) {
        loop {
            let back_end = self.back_end.clone();
            let mut last = (0, self.world.now());
            let ended = self.process.drive(LIMIT, |world| {
                if world.version() != last.0 {
                    last = (world.version(), world.now());
                }
                back_end.held().dead || world.now().duration_since(last.1).unsigned_abs() >= QUIET
            });
            assert!(
                matches!(ended, Ended::Reached | Ended::Crashed),
                "{ended:?}\n{}",
                self.process.network().trace().join("\n")
            );
            if ended == Ended::Reached && !self.back_end.held().dead {
                return;
            }
            let mut held = self.back_end.held();
            (held.dead, held.crash) = (false, None);
            drop(held);
            self.deaths += 1;
            self.process = process(&self.world, &self.back_end);
        }
    }

    fn live(&self) -> Value {
        let order = greeter("team", "one", 0);
        self.world.server("onboarding").live(&order).unwrap_or_default()
    }

    fn says(&self, words: &str) -> bool {
        self.live()["status"].to_string().contains(words)
    }

    fn names(&self) -> Vec<String> {
        let all = children(&self.world);
        all.iter()
            .map(|(_, it)| it["data"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The whole life of two databases: made, resized, one given up, all deleted.
    fn live_and_die(&mut self) {
        self.order(1);
        self.resize("large");
        assert_eq!(self.back_end.specs(), [json!({"size": "large"})]);
        self.order(2);
        assert!(self.says("\"phase\":\"Ready\""), "{}", self.live());
        assert_eq!(self.names(), ["database-0", "database-1"]);
        self.order(1);
        assert_eq!(self.names(), ["database-0"]);
        self.cancel();
        assert_eq!(self.live(), Value::Null);
        assert!(self.back_end.specs().is_empty() && children(&self.world).is_empty());
        assert_eq!(self.back_end.held().created.len(), 2, "I3");
        assert!(
            self.world
                .server("platform")
                .objects("runtime.openmcp.cloud/v1alpha1", "Inventory")
                .is_empty()
        );
        assert_eq!(oracle::judge(&self.world), Vec::<String>::new());
    }
}

#[test]
fn fault_2_a_crash_at_any_external_effect_creates_nothing_twice_and_leaves_nothing() {
    let mut scene = Scene::new();
    scene.live_and_die();
    let effects = scene.back_end.held().effects;
    assert!(effects >= 5, "{effects}");
    for number in 1..=effects {
        for crash in [Crash::Before(number), Crash::After(number)] {
            let mut scene = Scene::new();
            scene.back_end.held().crash = Some(crash);
            scene.live_and_die();
            assert_eq!(scene.deaths, 1, "{crash:?}");
        }
    }
}

#[test]
fn fault_1_a_crash_at_any_write_around_external_effects_creates_nothing_twice_and_leaves_nothing() {
    let mut scene = Scene::new();
    scene.live_and_die();
    let effects = scene.process.network().effects();
    // After a write is before the next one, but for what the back end does between them: that is the test above.
    let after_last = std::iter::once(Crash::After(effects));
    for crash in (1..=effects).map(Crash::Before).chain(after_last) {
        let mut scene = Scene::new();
        scene.process.network().crash(crash);
        scene.live_and_die();
        assert_eq!(scene.deaths, 1, "{crash:?}");
    }
}

#[test]
fn a_creation_whose_answer_is_lost_is_found_by_its_nonce() {
    let mut scene = Scene::new();
    scene.back_end.held().mood = Mood::LosesAnswers;
    scene.order(1);
    assert_eq!(scene.back_end.held().created.len(), 1);
    assert_eq!(scene.names(), ["database-0"]);
    assert!(scene.says("\"phase\":\"Ready\""), "{}", scene.live());
}

#[test]
fn i6_what_is_unknown_is_neither_created_nor_deleted() {
    let mut scene = Scene::new();
    scene.back_end.held().mood = Mood::Unsure;
    scene.order(1);
    assert!(scene.back_end.held().created.is_empty());
    assert!(scene.says("ExternalUnknown"), "{}", scene.live());
    scene.back_end.held().mood = Mood::Well;
    scene.process.drive(LIMIT, |world| children(world).len() == 1);
    scene.back_end.held().mood = Mood::Unsure;
    scene.cancel();
    assert!(scene.says("half of the servers answered"), "{}", scene.live());
    assert_eq!(scene.back_end.held().deleted, 0);
    scene.back_end.held().mood = Mood::Well;
    let gone = |world: &World| {
        world
            .server("onboarding")
            .live(&greeter("team", "one", 0))
            .is_none()
    };
    assert_eq!(scene.process.drive(LIMIT, gone), Ended::Reached);
    assert!(scene.back_end.specs().is_empty());
}

#[test]
fn i5_what_the_back_end_protects_holds_the_service_object_and_says_so() {
    let mut scene = Scene::new();
    scene.order(1);
    scene.back_end.held().mood = Mood::Protected;
    scene.cancel();
    assert!(
        scene.says("ExternalBlocked") && scene.says("ask its owner"),
        "{}",
        scene.live()
    );
    scene.back_end.held().mood = Mood::Well;
    let gone = |world: &World| {
        world
            .server("onboarding")
            .live(&greeter("team", "one", 0))
            .is_none()
    };
    assert_eq!(scene.process.drive(LIMIT, gone), Ended::Reached);
    assert_eq!(oracle::judge(&scene.world), Vec::<String>::new());
}

#[test]
fn by_force_what_the_back_end_protects_is_left_and_the_receipt_says_so() {
    let mut scene = Scene::new();
    scene.order(1);
    scene.back_end.held().mood = Mood::Protected;
    scene.cancel();
    let platform = scene.world.server("platform");
    let inventories = || platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
    let force = json!({"metadata": {"annotations": {"runtime.openmcp.cloud/deletion-policy": "Force"}}});
    platform.merge(&inventories()[0], &force).unwrap();
    scene.settle();
    assert_eq!(scene.live(), Value::Null);
    let left = inventories();
    let notes = left[0]["metadata"]["annotations"]["runtime.openmcp.cloud/notes"].as_str();
    let notes = notes.unwrap_or_default();
    assert!(
        notes.contains("databases db-0 (database-0, nonce ") && notes.contains("ask its owner"),
        "{notes}"
    );
}

#[test]
fn drift_in_the_back_end_is_found_by_its_interval_and_repaired_and_no_pass_between_asks() {
    let mut scene = Scene::new();
    scene.order(1);
    let observed = scene.back_end.held().observed;
    let configmap = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "db-0", "namespace": "default"}});
    scene.world.server("mcp-team-one").delete(&configmap).unwrap();
    scene.settle();
    assert_eq!(scene.names(), ["database-0"], "repaired");
    assert_eq!(
        scene.back_end.held().observed,
        observed,
        "nothing was asked for that"
    );
    scene.back_end.held().held.get_mut("database-0").unwrap().1 = json!({"size": "tampered"});
    let back_end = scene.back_end.clone();
    let repaired = move |_: &World| back_end.specs() == [json!({"size": "small"})];
    assert_eq!(
        scene.process.drive(Duration::from_secs(800), repaired),
        Ended::Reached
    );
    scene.back_end.held().held.clear();
    let back_end = scene.back_end.clone();
    let remade = move |_: &World| back_end.specs().len() == 1;
    assert_eq!(
        scene.process.drive(Duration::from_secs(800), remade),
        Ended::Reached
    );
    scene.settle();
    let created = scene.back_end.held().created.clone();
    assert!(created.len() == 2 && created[0] != created[1], "{created:?}");
    assert_eq!(scene.names(), ["database-1"]);
    assert!(scene.says("\"phase\":\"Ready\""), "{}", scene.live());
}

#[test]
fn a_back_end_that_does_not_answer_delays_nobody_who_does_not_need_it() {
    let mut scene = Scene::new();
    scene.back_end.held().mood = Mood::Hangs;
    for number in 0..20 {
        let name = format!("n{number}");
        scene.world.add_control_plane("others", &name);
        let order = greeter("others", &name, 1);
        scene.world.server("onboarding").apply(PERSON, &order).unwrap();
    }
    scene.process.drive(Duration::from_secs(60), |_| false);
    let order = greeter("team", "one", 0);
    scene.world.server("onboarding").apply(PERSON, &order).unwrap();
    let ready =
        |world: &World| world.server("onboarding").live(&order).unwrap()["status"]["phase"] == "Ready";
    assert_eq!(scene.process.drive(Duration::from_secs(5), ready), Ended::Reached);
    let waiting = greeter("others", "n7", 0);
    let status = scene.world.server("onboarding").live(&waiting).unwrap()["status"].to_string();
    assert!(status.contains("ExternalUnreachable"), "{status}");
}

#[test]
fn explain_of_a_provider_that_the_platform_does_not_have_names_it_and_fails() {
    let scene = Scene::new();
    let registration = json!({"apiVersion": "openmcp.cloud/v1alpha1", "kind": "ServiceProvider",
        "metadata": {"name": "greeter"}});
    scene.world.server("platform").delete(&registration).unwrap();
    let provider = Provider(scene.back_end.clone());
    let told = Process::explain(&scene.world, provider, "team", "one").unwrap_err();
    assert!(
        told.message.contains("there is no ServiceProvider greeter"),
        "{told}"
    );
}

#[test]
fn explain_tells_what_is_in_back_ends_and_what_a_pass_would_do_and_changes_nothing() {
    let mut scene = Scene::new();
    scene.order(2);
    let explained = |scene: &Scene| {
        let provider = Provider(scene.back_end.clone());
        Process::explain(&scene.world, provider, "team", "one").unwrap()
    };
    let before = (scene.world.version(), scene.back_end.held().effects);
    let told = explained(&scene);
    assert!(
        told.contains("External resources: what they are\n  databases db-0"),
        "{told}"
    );
    assert!(
        told.contains("is    database-0, as it is wanted\n    next  nothing"),
        "{told}"
    );
    scene.back_end.held().held.get_mut("database-0").unwrap().1 = json!({"size": "tiny"});
    scene.back_end.held().held.remove("database-1");
    let told = explained(&scene);
    assert!(
        told.contains("is    database-0, but size is \"tiny\"\n    next  update"),
        "{told}"
    );
    assert!(
        told.contains("is    absent; recorded as database-1\n    next  create another one"),
        "{told}"
    );
    scene.back_end.held().mood = Mood::Unsure;
    let told = explained(&scene);
    assert!(told.contains("unknown: half of the servers answered"), "{told}");
    assert_eq!((scene.world.version(), scene.back_end.held().effects), before);
}
