//! Objects that bear the provider's label and that it did not make: told, and left alone.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
#[path = "common/log.rs"]
mod log;

use common::{LIMIT, QUIET, greeter, order, seconds, simulation};
use openmcp_testkit::{Ended, Job, PERSON, World, oracle};
use serde_json::{Value, json};

const MCP: &str = "mcp-team-one";

/// Two services on one workload cluster, one of them paused, and a process that has not seen them yet: nobody follows what
/// the paused one has.
fn one_is_paused() -> (openmcp_testkit::Simulation<common::Provider>, World) {
    let simulation = simulation().control_plane("others", "one");
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 2);
    let (onboarding, platform) = (world.server("onboarding"), world.server("platform"));
    onboarding.apply(PERSON, &greeter("others", "one", 1)).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let inventories = platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
    let theirs = inventories
        .iter()
        .find(|it| it["spec"]["owner"]["namespace"] == "others")
        .unwrap();
    let pause = json!({"metadata": {"annotations": {"openmcp.cloud/operation": "ignore"}}});
    platform.merge(theirs, &pause).unwrap();
    (simulation, world)
}

fn labelled(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({"runtime.openmcp.cloud/provider": "greeter"});
    object
}

#[test]
fn what_bears_our_label_and_is_in_no_inventory_is_told_once_and_left_alone() {
    let (simulation, world) = one_is_paused();
    let (mcp, workload) = (world.server(MCP), world.server("workload"));
    let early = labelled(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "early", "namespace": "default"},
    }));
    let late = labelled(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}}));
    let early = mcp.create(&early).unwrap();
    let mut process = simulation.start(&world, Job::Run);
    let ((late, lists), told) = log::unrecorded(|| {
        process.drive(seconds(60), |_| false);
        let late = workload.create(&late).unwrap();
        process.drive(seconds(1200), |_| false);
        let sent = process.network().requests();
        process.drive(seconds(3600), |_| false);
        let trace = process.network().trace().split_off(sent);
        let lists = trace.into_iter().filter(|line| line.contains("labelSelector"));
        (
            late,
            lists.filter(|line| !line.contains("watch=")).collect::<Vec<_>>(),
        )
    });
    assert_eq!(told.len(), 2, "{told:#?}");
    for (line, name) in told.iter().zip(["ConfigMap default/early", "Namespace late"]) {
        let words = "bears the label runtime.openmcp.cloud/provider=greeter and is in no inventory";
        assert!(line.contains(&format!("{name} {words}")), "{line}");
    }
    assert_eq!(mcp.live(&early), Some(early));
    assert_eq!(
        workload.live(&late).unwrap()["metadata"]["uid"],
        late["metadata"]["uid"]
    );
    assert_eq!(lists, Vec::<String>::new(), "nothing is asked for again");
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn where_an_inventory_cannot_be_read_it_is_told_once_that_nothing_can_be_told_of_such_objects() {
    let (simulation, world) = one_is_paused();
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy", "namespace": "default"}});
    world.server(MCP).create(&labelled(copy)).unwrap();
    let platform = world.server("platform");
    let inventories = platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
    let theirs = inventories
        .iter()
        .find(|it| it["spec"]["owner"]["namespace"] == "others");
    let unknown = json!({"spec": {"entries": [{"group": 7}]}});
    platform.merge(theirs.unwrap(), &unknown).unwrap();
    let mut process = simulation.start(&world, Job::Run);
    let ((), told) = log::warnings("are not reported, for an Inventory may list them", || {
        process.drive(seconds(6000), |_| false);
    });
    assert_eq!(told.len(), 1, "{told:#?}");
}
