//! Watches that close, stall, and lose or mix up what they carry.
use crate::{
    common::{is_ready, live, order, seconds, simulation},
    stage::{HOSTS, LIMIT, MCP, QUIET, greeting, is_well, platform, served, text},
};
use openmcp_testkit::{Ended, Job, WatchTrouble, World};
use serde_json::json;

#[test]
fn fault_4_watches_that_close_or_lose_bookmarks_go_on() {
    let (world, mut process) = served(1);
    for host in HOSTS {
        process.network().trouble_watches(host, WatchTrouble::NoBookmarks);
    }
    process.drive(seconds(900), |_| false);
    for host in HOSTS {
        process.network().close_watches(host);
    }
    order(&world, 2);
    is_well(&world, &mut process, 2);
}

#[test]
fn fault_4_a_watch_that_stalls_is_found_within_a_minute() {
    for host in ["onboarding", MCP] {
        let (world, mut process) = served(2);
        process.network().trouble_watches(host, WatchTrouble::Stalled);
        process.drive(seconds(1), |_| false);
        order(&world, 3);
        world.server(MCP).delete(&greeting(0)).unwrap();
        let repaired =
            |world: &World| is_ready(world) && text(world, 0) == "hello" && text(world, 2) == "hello";
        assert_eq!(process.drive(seconds(60), repaired), Ended::Reached, "{host}");
        is_well(&world, &mut process, 3);
    }
}

#[test]
fn fault_7_missed_doubled_and_reordered_events_lead_to_the_same_end() {
    for trouble in [
        WatchTrouble::Doubled,
        WatchTrouble::Reordered,
        WatchTrouble::Missed(3),
    ] {
        let (world, mut process) = served(2);
        for host in HOSTS {
            process.network().trouble_watches(host, trouble);
        }
        order(&world, 3);
        process.drive(seconds(30), |_| false);
        world
            .server(MCP)
            .merge(&greeting(0), &json!({"data": {"text": "tampered"}}))
            .unwrap();
        world.server(MCP).delete(&greeting(1)).unwrap();
        process.drive(seconds(60), |_| false);
        process.network().heal();
        // What was missed is seen by the next list.
        for (host, server) in world.servers() {
            let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}});
            server.create(&other).unwrap();
            server.delete(&other).unwrap();
            server.compact();
            process.network().close_watches(&host);
        }
        is_well(&world, &mut process, 3);
    }
}

#[test]
fn fault_7_what_was_said_stays_said_while_a_late_watch_shows_older_versions() {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    process.drive(seconds(5), |_| false);
    let late = WatchTrouble::Late(seconds(5));
    process.network().trouble_watches("onboarding", late);
    order(&world, 1);
    assert_eq!(process.drive(seconds(60), is_ready), Ended::Reached);
    let said = live(&world)["status"].clone();
    // The watch has shown the finalizer by then, and not yet the status.
    process.drive(seconds(7), |_| false);
    world.server(MCP).delete(&greeting(0)).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert_eq!(text(&world, 0), "hello");
    assert_eq!(live(&world)["status"], said, "nothing is said, or timed, twice");
    process.network().heal();
    is_well(&world, &mut process, 1);
}
