//! Faults 2 to 9, 12 to 14 and 16 of the fault matrix, in simulated time. Fault 1 is `crashes.rs`, 10 and 11 are
//! `leadership.rs`.
#![allow(clippy::unwrap_used, clippy::panic)]
#[path = "../common/mod.rs"]
mod common;

mod credentials;
mod halves;
mod interference;
mod process;
mod servers;
mod stage;
mod watches;

use common::{greeter, is_ready, order};
use openmcp_testkit::{Ended, Job, Process, Start, children, oracle};
use serde_json::json;
use stage::{LIMIT, MCP, greeting, platform, served};

#[test]
fn the_oracle_sees_what_is_missing_left_or_changed() {
    let (world, _process) = served(1);
    let expected = oracle::snapshot(&world);
    assert!(expected.len() > 20 && !children(&world).is_empty());
    world.server(MCP).delete(&greeting(0)).unwrap();
    assert!(oracle::differences(&expected, &oracle::snapshot(&world))[0].contains("greeting-0 is missing"));
    let mut other = greeting(0);
    other["metadata"]["labels"] = json!({"runtime.openmcp.cloud/owner": "nobody"});
    world.server(MCP).create(&other).unwrap();
    assert!(oracle::judge(&world)[0].contains("was made before an Inventory listed it"));
    world
        .server("onboarding")
        .merge(
            &greeter("team", "one", 1),
            &json!({"metadata": {"finalizers": null}}),
        )
        .unwrap();
    assert!(oracle::judge(&world)[1].contains("I5"));
}

#[test]
fn the_oracle_sees_who_writes_without_the_lease() {
    let world = platform();
    let start = |job, pod| {
        let start = Start {
            job,
            pod,
            ..Start::default()
        };
        Process::start(&world, common::Provider, start).unwrap()
    };
    let mut leader = start(Job::RunElected, "leader");
    order(&world, 1);
    assert_eq!(leader.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
    let mut usurper = start(Job::Run, "usurper");
    order(&world, 2);
    assert_eq!(usurper.drive(LIMIT, is_ready), Ended::Reached);
    assert!(oracle::judge(&world)[0].contains("I7: usurper wrote while \"leader\" had the Lease"));
}
