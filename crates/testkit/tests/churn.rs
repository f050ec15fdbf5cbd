//! ControlPlanes come and go, and nothing of them is kept (invariant 9). Alone in its process, for metrics belong to that.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{LIMIT, QUIET, gadget, gadgets, greeter, is_ready, live, order, seconds, simulation};
use openmcp_reconcile::metrics;
use openmcp_testkit::{Ended, Job, PERSON, Process, World};
use serde_json::json;
use std::collections::BTreeMap;

const CLUSTERS: &str = "clusters.openmcp.cloud/v1alpha1";
/// A lingering watch has ended.
const LINGER: u64 = 600;

/// Lines of the metrics with labels in which a cluster could leave something, without their values.
fn series() -> BTreeMap<String, u64> {
    let text = metrics::encode().unwrap();
    let of_clusters =
        |line: &&str| line.starts_with("rest_client_requests_total") || line.starts_with("sp_cluster_state");
    let parsed = text.lines().filter(of_clusters).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    parsed.collect()
}

fn connections() -> u64 {
    let series = series().into_iter();
    let states = series.filter(|(name, _)| name.starts_with("sp_cluster_state"));
    states.map(|(_, count)| count).sum()
}

fn live_and_die(world: &World, process: &mut Process, name: &str) {
    let host = world.add_control_plane("team", name);
    let onboarding = world.server("onboarding");
    let order = greeter("team", name, 1);
    onboarding.apply(PERSON, &order).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let (mine, definition) = (gadget("mine"), gadgets());
    world.server(&host).create(&mine).unwrap();
    assert!(world.server(&host).live(&definition).is_some());
    onboarding.delete(&order).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(onboarding.live(&order).is_some(), "the gadget blocks it");
    world.server(&host).delete(&mine).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(onboarding.live(&order).is_none(), "{}", live(world));
    process.drive(seconds(LINGER), |_| false);
}

fn hosts() -> Vec<String> {
    let with_hosts = series().into_keys().filter(|name| name.contains("host="));
    with_hosts.collect()
}

fn is_connected(host: &str) -> bool {
    hosts()
        .iter()
        .any(|name| name.contains(&format!("host=\"{host}.")))
}

/// The platform has another workload cluster for all services.
fn move_workloads(world: &World, host: &str) {
    world.add_shared_cluster(host);
    let platform = world.server("platform");
    for request in platform.objects(CLUSTERS, "ClusterRequest") {
        if request["spec"]["purpose"] == "workload" {
            let cluster = json!({"status": {"cluster": {"name": host, "namespace": "openmcp-system"}}});
            platform.merge_status(&request, &cluster["status"]).unwrap();
        }
    }
}

#[test]
fn of_clusters_that_come_and_go_nothing_is_kept() {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    live_and_die(&world, &mut process, "first");
    let (footprint, open, told) = (process.footprint(), connections(), hosts());
    assert!(!told.is_empty() && !is_connected("mcp-team-first"), "{told:#?}");
    for number in 0..4 {
        live_and_die(&world, &mut process, &format!("next-{number}"));
    }
    assert_eq!(process.footprint(), footprint);
    assert_eq!((connections(), hosts()), (open, told));

    // A service that stays, and whose workload cluster does not.
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world) && is_connected("workload"), "{}", live(&world));
    let (footprint, open) = (process.footprint(), connections());
    move_workloads(&world, "elsewhere");
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    process.drive(seconds(LINGER), |_| false);
    assert!(is_ready(&world) && is_connected("elsewhere"), "{}", live(&world));
    assert!(!is_connected("workload"), "{:#?}", hosts());
    assert_eq!((process.footprint(), connections()), (footprint, open));
}
