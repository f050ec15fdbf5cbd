//! One of a service object's two clusters does not answer: what is on the other one is repaired all the same; nothing is
//! made, nothing removed, and the service is not Ready (fault 13, runtime design §7).
use crate::{
    common::{is_ready, order, seconds, simulation},
    stage::{MCP, conditions, greeting, is_well, served, text},
};
use openmcp_testkit::{Ended, Job, Process, World, oracle};
use serde_json::{Value, json};

const WORKLOAD: &str = "workload";

/// A service with two greetings, of which one cluster does not answer any more: to the process that made it, or to one
/// that was started meanwhile.
fn cut_off(host: &str, restarted: bool) -> (World, Process) {
    let (world, mut process) = served(2);
    if restarted {
        process = simulation().start(&world, Job::Run);
    }
    process.network().down(host);
    process.drive(seconds(60), |_| false);
    assert!(!is_ready(&world));
    (world, process)
}

fn deployment(world: &World) -> Option<Value> {
    world.server(WORKLOAD).objects("apps/v1", "Deployment").pop()
}

/// What the Inventory lists on a cluster.
fn entries(world: &World, cluster: &str) -> usize {
    let platform = world.server("platform");
    let inventories = platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
    let entries = inventories[0]["spec"]["entries"].as_array().unwrap();
    let is_there = |entry: &&Value| entry["cluster"].as_str().unwrap().starts_with(cluster);
    entries.iter().filter(is_there).count()
}

fn says(world: &World, what: &str) {
    let said = conditions(world);
    assert!(said.contains("Unreachable") && said.contains(what), "{said}");
}

#[test]
fn fault_13_a_control_plane_that_does_not_answer_keeps_nobody_from_repairing_the_workload() {
    for restarted in [false, true] {
        let (world, mut process) = cut_off(MCP, restarted);
        let before = world.version();
        let scaled = json!({"spec": {"replicas": 0}});
        world
            .server(WORKLOAD)
            .merge(&deployment(&world).unwrap(), &scaled)
            .unwrap();
        let repaired = |world: &World| deployment(world).is_some_and(|it| it["spec"]["replicas"] == 1);
        assert_eq!(process.drive(seconds(20), repaired), Ended::Reached);
        world
            .server(WORKLOAD)
            .delete(&deployment(&world).unwrap())
            .unwrap();
        process.drive(seconds(1), |world| deployment(world).is_none());
        assert_eq!(process.drive(seconds(20), repaired), Ended::Reached);
        let listed = entries(&world, "mcp/");
        order(&world, 3);
        process.drive(seconds(300), |_| false);
        assert_eq!(entries(&world, "mcp/"), listed);
        says(&world, "the ControlPlane (Cluster mcp--");
        let deleted = oracle::deleted_children(&world, before);
        assert!(
            deleted.len() == 1 && deleted[0].contains("deployments"),
            "{deleted:?}"
        );
        process.network().heal();
        is_well(&world, &mut process, 3);
    }
}

#[test]
fn fault_13_a_workload_cluster_that_does_not_answer_keeps_nobody_from_repairing_the_control_plane() {
    for restarted in [false, true] {
        let (world, mut process) = cut_off(WORKLOAD, restarted);
        let before = world.version();
        let tampered = json!({"data": {"text": "tampered"}});
        world.server(MCP).merge(&greeting(0), &tampered).unwrap();
        let repaired = |world: &World| text(world, 0) == "hello";
        assert_eq!(process.drive(seconds(20), repaired), Ended::Reached);
        order(&world, 1);
        process.drive(seconds(300), |_| false);
        assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
        order(&world, 3);
        process.drive(seconds(300), |_| false);
        assert_eq!(text(&world, 2), "", "it is made when all can be made");
        assert!(!is_ready(&world));
        says(&world, "the workload cluster (Cluster openmcp-system/workload)");
        process.network().heal();
        is_well(&world, &mut process, 3);
    }
}
