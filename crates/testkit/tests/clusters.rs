//! What a provider asks of its clusters: no right that it did not name, no cluster that it does not use, and no
//! connection or discovery for a pass. Known faults 10, 18 and 29.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Greeter, ProviderConfig, config, greeter, is_ready, live, order, simulation};
use openmcp_testkit::{Ended, Job, Simulation, World, children};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, rules};
use std::time::Duration;

const QUIET: Duration = Duration::from_secs(70);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const CLUSTERS: &str = "clusters.openmcp.cloud/v1alpha1";

/// A provider that needs no workload cluster.
struct Lean;

impl ServiceProvider for Lean {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])])
    }

    fn desired(&self, _: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        desired.mcp(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"},
        }))?;
        Ok(desired)
    }
}

/// What clusters are asked for.
fn purposes(world: &World) -> Vec<Value> {
    let requests = world.server("platform").objects(CLUSTERS, "ClusterRequest");
    requests
        .iter()
        .map(|request| request["spec"]["purpose"].clone())
        .collect()
}

/// The rules of all AccessRequests, each with the name of the request.
fn asked_for(world: &World) -> Vec<(String, Value)> {
    let requests = world.server("platform").objects(CLUSTERS, "AccessRequest");
    let rules = requests.into_iter().flat_map(|request| {
        let name = request["metadata"]["name"].as_str().unwrap().to_owned();
        let token = &request["spec"]["token"];
        assert!(
            token["roleRefs"].as_array().is_none_or(Vec::is_empty),
            "{request}"
        );
        let permissions = token["permissions"].as_array().unwrap().clone();
        let rules = permissions
            .into_iter()
            .flat_map(|it| it["rules"].as_array().unwrap().clone());
        rules.map(move |rule| (name.clone(), rule)).collect::<Vec<_>>()
    });
    rules.collect()
}

#[test]
fn passes_over_a_cluster_share_one_connection_and_discover_nothing() {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let network = process.network().clone();
    let (connections, requests) = (network.connections(), network.requests());
    for count in 2..12 {
        order(&world, count);
        assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
        for (server, child) in children(&world) {
            if child["kind"] == "ConfigMap" {
                server.delete(&child).unwrap();
            }
        }
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    }
    assert_eq!(network.connections(), connections);
    let sent = network.trace().split_off(requests);
    // `/api`, `/apis`, `/api/v1`, `/apis/GROUP/VERSION`, `/version`.
    let asks = |line: &&String| {
        let path = line.split_once('/').map_or("", |(_, path)| path);
        let parts = path.split(' ').next().unwrap_or_default().split('/').count();
        path.starts_with("version") || parts < if path.starts_with("apis") { 4 } else { 3 }
    };
    let discovery: Vec<&String> = sent.iter().filter(asks).collect();
    assert!(sent.len() > 100 && discovery.is_empty(), "{discovery:#?}");
}

#[test]
fn nobody_asks_for_a_role_or_for_more_rights_than_it_names() {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(purposes(&world).contains(&json!("workload")));
    let asked = asked_for(&world);
    assert!(asked.len() > 3, "{asked:?}");
    for (name, rule) in &asked {
        let has = |field: &str, value: &str| rule[field].as_array().unwrap().iter().any(|it| it == value);
        for field in ["apiGroups", "resources", "verbs"] {
            assert!(!has(field, "*"), "{name}: {rule}");
        }
        assert!(!has("resources", "secrets"), "{name}: {rule}");
    }
}

#[test]
fn a_cluster_that_a_provider_does_not_use_is_neither_asked_for_nor_reached() {
    let simulation = Simulation::new("greeter", || Lean)
        .on_platform(config("hello"))
        .control_plane("team", "one");
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    assert!(!purposes(&world).contains(&json!("workload")));
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 1))
        .unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let trace = process.network().trace();
    let reached: Vec<&String> = trace.iter().filter(|line| line.contains(" workload/")).collect();
    assert!(reached.is_empty(), "{reached:#?}");
}
