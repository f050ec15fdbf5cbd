//! Clusters that many tenants share: one that answers late, or not at all, holds back nobody on another one.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Greeter, ProviderConfig, config, greeter, stage, staged};
use openmcp_testkit::{Ended, Job, PERSON, Process, Simulation, Trouble, World, oracle};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, rules};
use std::{ops::Range, sync::LazyLock, time::Duration};

const QUIET: Duration = Duration::from_secs(70);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// On the cluster that gets into trouble: more than workers, and more than all that they could lend.
const MANY: Range<usize> = 0..120;
/// On the other one.
const FEW: Range<usize> = 900..905;
const TROUBLED: &str = "troubled";

/// A ConfigMap for each tenant, side by side on a cluster.
struct Provider;

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let stage = cx
            .config()
            .spec
            .stage
            .as_ref()
            .and_then(|stage| cx.config_map(stage));
        let mut child = child(cx.object().metadata.namespace.as_deref().unwrap_or_default());
        child["data"] =
            json!({"text": cx.config().spec.greeting, "count": cx.object().spec.count.to_string()});
        if let Some(text) = stage.as_ref().and_then(|stage| stage.data.as_ref()?.get("text")) {
            child["data"]["text"] = json!(text);
        }
        let mut desired = Desired::new();
        desired.mcp(child)?;
        Ok(desired)
    }
}

fn child(tenant: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": tenant, "namespace": "default"}})
}

fn tenant(number: usize) -> String {
    format!("tenant-{number:03}")
}

fn simulation() -> Simulation<Provider> {
    Simulation::new("greeter", || Provider).on_platform(config("hello"))
}

fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| {
        let world = simulation().world();
        for (host, tenants) in [(TROUBLED, MANY), ("well", FEW)] {
            world.add_shared_cluster(host);
            tenants.for_each(|number| world.add_control_plane_on(host, &tenant(number), "one"));
        }
        world
    });
    PLATFORM.fork()
}

fn order(world: &World, tenants: Range<usize>, count: i32) {
    for number in tenants {
        let order = greeter(&tenant(number), "one", count);
        world.server("onboarding").apply(PERSON, &order).unwrap();
    }
}

fn live(world: &World, number: usize) -> Value {
    let live = world
        .server("onboarding")
        .live(&greeter(&tenant(number), "one", 0));
    live.unwrap_or_default()
}

fn are_ready(world: &World, mut tenants: Range<usize>) -> bool {
    tenants.all(|number| {
        let object = live(world, number);
        object["status"]["phase"] == "Ready"
            && object["status"]["observedGeneration"] == object["metadata"]["generation"]
    })
}

/// What the ConfigMaps of some tenants say.
fn say(world: &World, host: &str, mut tenants: Range<usize>, text: &str) -> bool {
    let server = world.server(host);
    tenants.all(|number| {
        server
            .live(&child(&tenant(number)))
            .is_some_and(|it| it["data"]["text"] == text)
    })
}

fn trouble(process: &Process, trouble: Trouble) {
    process
        .network()
        .trouble(TROUBLED, usize::MAX, trouble, |request| {
            !request.uri().query().unwrap_or_default().contains("watch=true")
        });
}

/// Tenants of the other cluster change their minds, one after the other, and do not wait.
fn the_few_are_served_at_once(world: &World, process: &mut Process) {
    for count in 2..12 {
        order(world, FEW, count);
        let served = process.drive(Duration::from_secs(2), |world| are_ready(world, FEW));
        assert_eq!(
            served,
            Ended::Reached,
            "change {count}: {}",
            live(world, FEW.start)
        );
        process.drive(Duration::from_secs(3), |_| false);
    }
}

#[test]
fn fault_9_tenants_of_a_slow_shared_cluster_hold_back_nobody_and_are_all_served_in_their_turn() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, MANY, 1);
    order(&world, FEW, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(are_ready(&world, MANY) && are_ready(&world, FEW));
    trouble(&process, Trouble::Slow(Duration::from_secs(10)));
    let before: Vec<Value> = MANY.map(|number| live(&world, number)).collect();
    world.server("platform").apply(PERSON, &config("servus")).unwrap();
    process.drive(Duration::from_secs(5), |_| false);
    assert!(say(&world, "well", FEW, "servus") && !say(&world, TROUBLED, MANY, "servus"));
    the_few_are_served_at_once(&world, &mut process);
    assert!(
        !say(&world, TROUBLED, MANY, "servus"),
        "they still have their turns"
    );
    let done = process.drive(LIMIT, |world| say(world, TROUBLED, MANY, "servus"));
    assert_eq!(done, Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    for (number, before) in MANY.zip(before) {
        assert_eq!(
            live(&world, number),
            before,
            "who waits for a turn says nothing new"
        );
    }
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn fault_9_a_shared_cluster_that_never_answered_holds_back_nobody() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    trouble(&process, Trouble::Silent);
    order(&world, MANY, 1);
    order(&world, FEW, 1);
    assert_eq!(
        process.drive(Duration::from_secs(10), |world| are_ready(world, FEW)),
        Ended::Reached
    );
    the_few_are_served_at_once(&world, &mut process);
    let told = |world: &World| {
        let mut tenants = MANY;
        tenants.all(|number| live(world, number)["status"]["conditions"].is_array())
    };
    assert_eq!(process.drive(LIMIT, told), Ended::Reached);
    process.network().heal();
    assert_eq!(
        process.drive(LIMIT, |world| are_ready(world, MANY)),
        Ended::Reached
    );
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn an_input_that_all_read_reaches_them_a_few_at_a_time() {
    let world = platform();
    world.server("platform").apply(PERSON, &staged("hello")).unwrap();
    world.server("platform").apply(PERSON, &stage("first")).unwrap();
    order(&world, MANY, 1);
    let mut process = simulation().start(&world, Job::Run);
    let has = |text: &'static str| move |world: &World| say(world, TROUBLED, MANY, text);
    assert_eq!(process.drive(LIMIT, has("first")), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    world.server("platform").apply(PERSON, &stage("second")).unwrap();
    process.drive(Duration::from_millis(600), |_| false);
    let reached = MANY.filter(|number| say(&world, TROUBLED, *number..number + 1, "second"));
    let reached = reached.count();
    assert!((1..=75).contains(&reached), "{reached} of {MANY:?} within 600 ms");
    assert_eq!(process.drive(LIMIT, has("second")), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(are_ready(&world, MANY));
}
