//! Generated values: made once, whatever crashes; never shown; never made anew by themselves.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Greeter, ProviderConfig, config, greeter, live, order};
use openmcp_testkit::{Crash, Ended, Job, Process, Scenario, Simulation, World, oracle};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Generate, Inputs, Invalid, ServiceProvider, rules};
use std::{sync::LazyLock, time::Duration};

const QUIET: Duration = Duration::from_secs(70);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const MCP: &str = "mcp-team-one";

/// A password in a Secret on the ControlPlane, and a ConfigMap that needs none.
struct Provider;

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["secrets", "configmaps"])]).generated_values()
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        desired.mcp(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain", "namespace": "default"},
            "data": {"text": cx.config().spec.greeting},
        }))?;
        if let Some(password) = cx.generated("password", Generate::Password(24)) {
            let mut secret = child();
            secret["stringData"] = json!({"password": password.as_str()});
            desired.mcp(secret)?;
        }
        Ok(desired)
    }
}

fn child() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "admin", "namespace": "default"}})
}

fn simulation() -> Simulation<Provider> {
    Simulation::new("greeter", || Provider)
        .on_platform(config("hello"))
        .control_plane("team", "one")
}

fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| simulation().world());
    PLATFORM.fork()
}

/// Lets it run until nobody writes; who dies is started again.
fn settle(world: &World, process: &mut Process) {
    while process.settle(QUIET, LIMIT) == Ended::Crashed {
        *process = simulation().start(world, Job::Run);
    }
}

/// The Secrets of generated values.
fn kept(world: &World) -> Vec<Value> {
    let secrets = world.server("platform").objects("v1", "Secret").into_iter();
    secrets
        .filter(|secret| secret["type"] == "runtime.openmcp.cloud/generated")
        .collect()
}

/// The value as the tenant's cluster has it, which must be the one that is kept.
fn password(world: &World) -> String {
    let kept = kept(world);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let used = world.server(MCP).live(&child()).unwrap()["data"]["password"].clone();
    assert_eq!(used, kept[0]["data"]["value"]);
    assert_eq!(live(world)["status"]["phase"], "Ready", "{}", live(world));
    used.as_str().unwrap().to_owned()
}

#[test]
fn a_crash_at_any_write_makes_one_value_and_leaves_none_behind() {
    let one = greeter("team", "one", 1);
    let life = Scenario::new("life")
        .apply("onboarding", one.clone())
        .drift()
        .delete("onboarding", &one)
        .then("nothing is left", |world| {
            assert_eq!(kept(world), Vec::<Value>::new())
        });
    if let Err(failure) = simulation().crash_everywhere(&life) {
        panic!("{failure}");
    }
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, 1);
    settle(&world, &mut process);
    let effects = process.network().effects();
    password(&world);
    for crash in (1..=effects).map(Crash::Before) {
        let world = platform();
        let mut process = simulation().start(&world, Job::Run);
        process.network().crash(crash);
        order(&world, 1);
        settle(&world, &mut process);
        password(&world);
        assert_eq!(oracle::judge(&world), Vec::<String>::new(), "{crash:?}");
    }
}

#[test]
fn a_value_stays_what_it_is_without_a_request_and_is_shown_nowhere() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, 1);
    settle(&world, &mut process);
    let made = password(&world);
    drop(process);
    let mut process = simulation().start(&world, Job::Run);
    settle(&world, &mut process);
    let wake = |process: &mut Process, mark: &str| {
        let patch = json!({"metadata": {"annotations": {"note": mark}}});
        world.server("platform").merge(&config("hello"), &patch).unwrap();
        settle(&world, process);
    };
    wake(&mut process, "first");
    let reads = |process: &Process| {
        let trace = process.network().trace().into_iter();
        trace
            .filter(|line| line.contains("/secrets/") || line.contains('#'))
            .count()
    };
    let before = reads(&process);
    wake(&mut process, "second");
    assert_eq!(reads(&process), before);
    assert_eq!(password(&world), made);
    let events = world.server("onboarding").objects("events.k8s.io/v1", "Event");
    let inventories = world
        .server("platform")
        .objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
    let shown = format!(
        "{}{events:?}{inventories:?}{:?}",
        live(&world),
        process.network().trace()
    );
    let plain = String::from_utf8(data_encoding::BASE64.decode(made.as_bytes()).unwrap()).unwrap();
    assert_eq!(plain.len(), 24);
    assert!(!shown.contains(&made) && !shown.contains(&plain), "{shown}");
}

#[test]
fn who_asks_why_is_told_what_was_read() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, 1);
    settle(&world, &mut process);
    drop(process);
    let told = Process::explain(&world, Provider, "team", "one").unwrap();
    assert!(told.contains("  read generated value password\n"), "{told}");
    assert!(!told.contains(&password(&world)), "{told}");
}

#[test]
fn a_value_whose_secret_was_deleted_is_missed_and_made_anew_only_when_the_inventory_lets_it_go() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, 1);
    settle(&world, &mut process);
    let (made, secret) = (password(&world), kept(&world).remove(0));
    let server = world.server("platform");
    server.delete(&secret).unwrap();
    settle(&world, &mut process);
    let status = live(&world)["status"].to_string();
    assert!(
        status.contains("GeneratedValueLost") && status.contains("restore the Secret"),
        "{status}"
    );
    assert_eq!(kept(&world), Vec::<Value>::new());
    let used = world.server(MCP).live(&child()).unwrap();
    assert_eq!(used["data"]["password"], made, "what uses it stays");
    let mut backup = secret;
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        backup["metadata"].as_object_mut().unwrap().remove(field);
    }
    server.create(&backup).unwrap();
    settle(&world, &mut process);
    assert_eq!(password(&world), made);
    // A value that a platform owner gives up: a new one, in a new Secret, and what uses it follows.
    server.delete(&kept(&world).remove(0)).unwrap();
    settle(&world, &mut process);
    let inventory = server
        .objects("runtime.openmcp.cloud/v1alpha1", "Inventory")
        .remove(0);
    server
        .merge(&inventory, &json!({"spec": {"values": null}}))
        .unwrap();
    settle(&world, &mut process);
    let renewed = password(&world);
    assert_ne!(renewed, made);
    let status = live(&world)["status"].to_string();
    assert!(!status.contains("GeneratedValueLost"), "{status}");
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 1))
        .unwrap();
    settle(&world, &mut process);
    assert_eq!((live(&world), kept(&world)), (Value::Null, Vec::new()));
}
