//! Another cluster under the name of the one before, while the provider is down: nothing is taken for gone (invariant 6).
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{LIMIT, Provider, QUIET, greeter, is_ready, live, seconds, served};
use openmcp_testkit::{Ended, Job, PERSON, Process, Simulation, World, children, oracle};
use serde_json::{Value, json};

const MCP: &str = "mcp-team-one";

fn rests(simulation: &Simulation<Provider>, world: &World) -> Process {
    let mut process = simulation.start(world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    process
}

fn inventories(world: &World) -> Vec<Value> {
    let platform = world.server("platform");
    platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory")
}

fn conditions(world: &World) -> String {
    live(world)["status"]["conditions"].to_string()
}

/// The platform owner's word that the cluster before may be forgotten.
fn forget_clusters(world: &World) {
    let annotations = json!({"metadata": {"annotations": {"runtime.openmcp.cloud/clusters": null}}});
    for inventory in inventories(world) {
        world.server("platform").merge(&inventory, &annotations).unwrap();
    }
}

#[test]
fn a_control_plane_that_leads_elsewhere_after_a_restart_is_refused_until_it_leads_back() {
    let (simulation, world) = served();
    let had = children(&world).len();
    let before = world.replace_server(MCP);
    let mut process = rests(&simulation, &world);
    assert!(conditions(&world).contains("ClusterChanged"), "{}", live(&world));
    assert!(!is_ready(&world));
    assert!(world.server(MCP).objects("v1", "ConfigMap").is_empty());
    // What is not on another cluster is not gone: neither is its record, nor what holds the order.
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 2))
        .unwrap();
    process.drive(seconds(600), |_| false);
    assert!(conditions(&world).contains("ClusterChanged"), "{}", live(&world));
    assert_eq!(inventories(&world).len(), 1);
    world.restore_server(MCP, before);
    assert_eq!(children(&world).len(), had);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(live(&world).is_null() && children(&world).is_empty() && inventories(&world).is_empty());
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn a_platform_owner_can_say_that_the_cluster_before_may_be_forgotten() {
    let (simulation, world) = served();
    world.replace_server(MCP);
    let mut process = rests(&simulation, &world);
    assert!(!is_ready(&world));
    forget_clusters(&world);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(world.server(MCP).objects("v1", "ConfigMap").len(), 2);
}

#[test]
fn a_cluster_that_the_platform_made_anew_is_taken_for_what_it_is() {
    let (simulation, world) = served();
    let platform = world.server("platform");
    let clusters = platform.objects("clusters.openmcp.cloud/v1alpha1", "Cluster");
    let mut cluster = clusters
        .into_iter()
        .find(|it| it["metadata"]["name"] == MCP)
        .unwrap();
    platform.delete(&cluster).unwrap();
    let namespace = cluster["metadata"]["namespace"].clone();
    cluster["metadata"] = json!({"name": MCP, "namespace": namespace});
    let status = cluster.as_object_mut().unwrap().remove("status").unwrap();
    platform.create(&cluster).unwrap();
    platform.merge_status(&cluster, &status).unwrap();
    world.replace_server(MCP);
    let mut process = rests(&simulation, &world);
    assert!(is_ready(&world), "{}", live(&world));
    assert_eq!(world.server(MCP).objects("v1", "ConfigMap").len(), 2);
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 2))
        .unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(children(&world).is_empty() && inventories(&world).is_empty());
}

#[test]
fn an_onboarding_cluster_that_was_made_anew_and_is_empty_is_no_deletion_of_all_services() {
    let (simulation, world) = served();
    let (before, had) = (world.version(), children(&world).len());
    let onboarding = world.rebuild_onboarding();
    let mut init = simulation.start(&world, Job::Init);
    assert_eq!(init.drive(LIMIT, |_| false), Ended::Exited(Ok(())));
    drop(rests(&simulation, &world));
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    assert_eq!((children(&world).len(), inventories(&world).len()), (had, 1));
    // The one before is restored.
    let rebuilt = world.server("onboarding");
    world.restore_server("onboarding", onboarding);
    drop(rests(&simulation, &world));
    assert!(is_ready(&world), "{}", live(&world));
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    // Or it is given up.
    world.restore_server("onboarding", rebuilt);
    let mut process = rests(&simulation, &world);
    forget_clusters(&world);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(children(&world).is_empty() && inventories(&world).is_empty());
}

#[test]
fn an_order_on_an_onboarding_cluster_that_was_made_anew_says_what_is_in_its_way() {
    let (simulation, world) = served();
    let before = world.version();
    world.rebuild_onboarding();
    let mut init = simulation.start(&world, Job::Init);
    assert_eq!(init.drive(LIMIT, |_| false), Ended::Exited(Ok(())));
    let onboarding = world.server("onboarding");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    onboarding.create(&namespace).unwrap();
    let control_plane = json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"name": "one", "namespace": "team"}, "spec": {"iam": {}},
    });
    onboarding.create(&control_plane).unwrap();
    onboarding.apply(PERSON, &greeter("team", "one", 1)).unwrap();
    let mut process = rests(&simulation, &world);
    assert!(conditions(&world).contains("ClusterChanged"), "{}", live(&world));
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    forget_clusters(&world);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
}
