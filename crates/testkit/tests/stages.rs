//! A provider in stages, each made when the one before is ready: it reads how its own children are.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Greeter, LIMIT, ProviderConfig, QUIET, config, greeter, is_ready, live, order, seconds};
use openmcp_testkit::{Ended, Job, PERSON, Process, Scenario, Simulation, World, oracle};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, rules};

const MCP: &str = "mcp-team-one";

/// Settings, a Deployment with them, and what says where it is.
struct Stages;

impl ServiceProvider for Stages {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])]).workload([rules::manage("apps", &["deployments"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        if cx.object().spec.count < 0 {
            return Err(Invalid::new("NegativeCount", "spec.count: must not be negative"));
        }
        let greeting = &cx.config().spec.greeting;
        let mut desired = Desired::new();
        desired.mcp(note("settings", greeting))?;
        let settings = cx.mcp_child("v1", "ConfigMap", "default", "settings");
        if !settings.is_ready() {
            desired.wait("ConfigMap settings", settings.to_string());
            return Ok(desired);
        }
        let home = cx.workload_namespace();
        let labels = json!({"app": "server"});
        desired.workload(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "server", "namespace": home},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "server", "image": "server", "args": [greeting]}]},
            }},
        }))?;
        let server = cx.workload_child("apps/v1", "Deployment", home, "server");
        if !server.is_ready() {
            desired.wait("Deployment server", server.to_string());
            return Ok(desired);
        }
        for number in 0..cx.object().spec.count {
            desired.mcp(note(&format!("address-{number}"), greeting))?;
        }
        Ok(desired)
    }
}

fn note(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"text": text},
    })
}

fn simulation() -> Simulation<Stages> {
    Simulation::new("greeter", || Stages)
        .on_platform(config("hello"))
        .control_plane("team", "one")
}

/// A service that is Ready, and its process.
fn served() -> (Simulation<Stages>, World, Process) {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 2);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    (simulation, world, process)
}

fn has(world: &World, name: &str) -> bool {
    world.server(MCP).live(&note(name, "")).is_some()
}

/// Since when the service is as Ready as it is.
fn since(world: &World) -> Value {
    let conditions = live(world)["status"]["conditions"].take();
    let ready = |it: &&Value| it["type"] == "Ready";
    let conditions = conditions.as_array().cloned().unwrap_or_default();
    conditions.iter().find(ready).cloned().unwrap_or_default()["lastTransitionTime"].take()
}

#[test]
fn a_crash_at_any_effect_of_a_provider_that_reads_its_children_changes_nothing() {
    let one = greeter("team", "one", 1);
    let scenario = Scenario::new("stages")
        .apply("onboarding", one.clone())
        .drift()
        .apply("onboarding", greeter("team", "one", 2))
        .apply("platform", config("bye"))
        .delete("onboarding", &one);
    let effects = simulation().crash_everywhere(&scenario);
    effects.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_stage_is_made_when_the_one_before_is_ready_and_no_sooner() {
    let simulation = simulation();
    let world = simulation.world();
    world.serve_workloads(false);
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(has(&world, "settings") && !has(&world, "address-0"));
    let conditions = live(&world)["status"]["conditions"].to_string();
    assert!(
        conditions.contains("waiting for Deployment server"),
        "{conditions}"
    );
    world.serve_workloads(true);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert!(has(&world, "address-0"));
}

#[test]
fn a_stage_that_is_not_ready_for_a_while_takes_no_later_one_with_it() {
    let (_simulation, world, mut process) = served();
    let before = world.version();
    world.serve_workloads(false);
    world.server("platform").apply(PERSON, &config("bye")).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(!is_ready(&world) && has(&world, "address-0") && has(&world, "address-1"));
    world.serve_workloads(true);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
}

#[test]
fn a_restart_writes_nothing_and_a_service_stays_ready() {
    let (simulation, world, process) = served();
    drop(process);
    let (before, ready) = (world.version(), since(&world));
    let mut process = simulation.start(&world, Job::Run);
    process.drive(seconds(300), |_| false);
    let network = process.network();
    assert_eq!(network.effects(), 0, "{:#?}", network.trace());
    assert_eq!(since(&world), ready);
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    // It goes on with what it read: the next change reaches all stages.
    world.server("platform").apply(PERSON, &config("bye")).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let address = world.server(MCP).live(&note("address-1", "")).unwrap();
    assert!(is_ready(&world) && address["data"]["text"] == "bye", "{address}");
}

#[test]
fn a_wrong_order_is_told_before_anything_is_asked_for() {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, -1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(
        live(&world)["status"]
            .to_string()
            .contains("must not be negative")
    );
    let platform = world.server("platform");
    let asked = platform.objects("clusters.openmcp.cloud/v1alpha1", "AccessRequest");
    let own = asked
        .iter()
        .filter(|it| it["metadata"]["name"].as_str().unwrap().contains("one"));
    assert_eq!(own.count(), 0, "{asked:#?}");
}

/// The ControlPlane is on another cluster from now on.
fn move_to(world: &World, host: &str) {
    world.add_shared_cluster(host);
    let platform = world.server("platform");
    let requests = platform.objects("clusters.openmcp.cloud/v1alpha1", "ClusterRequest");
    let of_control_plane = |it: &Value| it["spec"]["purpose"] == "mcp";
    let request = requests.into_iter().find(of_control_plane).unwrap();
    let status = json!({"cluster": {"name": host, "namespace": "openmcp-system"}});
    platform.merge_status(&request, &status).unwrap();
}

#[test]
fn a_service_that_moves_goes_through_its_stages_on_the_other_cluster_however_that_is_called() {
    for there in ["after", "zone"] {
        let simulation = Simulation::new("greeter", || Stages).on_platform(config("hello"));
        let world = simulation.world();
        world.add_shared_cluster("middle");
        world.add_control_plane_on("middle", "team", "one");
        let mut process = simulation.start(&world, Job::Run);
        order(&world, 1);
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert!(is_ready(&world), "{}", live(&world));
        move_to(&world, there);
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert!(is_ready(&world), "{there}: {}", live(&world));
        let has = |host: &str| world.server(host).live(&note("address-0", "")).is_some();
        assert_eq!((has(there), has("middle")), (true, false), "{there}");
    }
}

#[test]
fn who_asks_why_is_told_what_is_not_known_and_not_that_it_is_not_there() {
    let (_simulation, world, process) = served();
    drop(process);
    world.server(MCP).accept_only([]);
    let told = Process::explain(&world, Stages, "team", "one").unwrap();
    assert!(told.contains("waits for ConfigMap default/settings: "), "{told}");
    assert!(!told.contains("does not exist yet"), "{told}");
    assert!(!told.contains("NoWorkloadAccess"), "{told}");
}

#[test]
fn who_asks_why_is_told_what_the_provider_waits_for() {
    let (_simulation, world, process) = served();
    drop(process);
    let told = Process::explain(&world, Stages, "team", "one").unwrap();
    assert!(told.contains("ConfigMap default/address-1"), "{told}");
    assert!(!told.contains("waits for"), "{told}");
}
