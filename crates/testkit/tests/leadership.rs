//! Faults 3, 10 and 11 of the fault matrix, in simulated time: who leads, and what one who does not writes.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{LIMIT, is_ready, order, seconds, simulation};
use jiff::SignedDuration;
use openmcp_reconcile::fault::Class;
use openmcp_testkit::{Ended, Job, Process, Start, Trouble, World, oracle};
use serde_json::{Value, json};
use std::time::Duration;

fn replica(world: &World, pod: &str, skew: SignedDuration) -> Process {
    let start = Start {
        job: Job::RunElected,
        pod,
        seed: 7,
        skew,
    };
    Process::start(world, common::Provider, start).unwrap()
}

fn leader(world: &World) -> String {
    let lease =
        world
            .server("platform")
            .object("coordination.k8s.io/v1", "Lease", "openmcp-system", "sp-greeter");
    lease.unwrap_or_default()["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn fault_10_a_leader_that_was_stopped_past_its_lease_writes_nothing_more() {
    let world = simulation().world();
    let mut first = replica(&world, "first", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(first.drive(LIMIT, is_ready), Ended::Reached);
    // In the middle of its work.
    order(&world, 4);
    let before = first.network().effects();
    let network = first.network().clone();
    first.drive(seconds(30), |_| network.effects() > before + 1);
    let mut second = replica(&world, "second", SignedDuration::ZERO);
    assert_eq!(
        second.drive(seconds(120), |world| leader(world) == "second" && is_ready(world)),
        Ended::Reached
    );
    let stopped_at = first.network().trace().len();
    // Shorter than the lease that the second one holds and does not renew meanwhile.
    let ended = first.drive(seconds(5), |_| false);
    let sent: Vec<String> = first.network().trace().split_off(stopped_at);
    let written: Vec<&String> = sent
        .iter()
        .filter(|line| line.contains('#') && !line.contains("/leases/"))
        .collect();
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(ended, Ended::OutOfTime, "it stands by");
    assert_eq!(leader(&world), "second");
    drop(second);
    order(&world, 2);
    let again = |world: &World| leader(world) == "first" && is_ready(world);
    assert_eq!(
        first.drive(seconds(60), again),
        Ended::Reached,
        "and is there when it is needed"
    );
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn fault_3_a_leader_that_cannot_renew_its_lease_neither_ends_nor_writes_and_goes_on_afterwards() {
    for outage in [30, 600] {
        let world = simulation().world();
        let mut only = replica(&world, "only", SignedDuration::ZERO);
        order(&world, 1);
        assert_eq!(only.drive(LIMIT, is_ready), Ended::Reached);
        let before = world.version();
        // In the middle of its work.
        order(&world, 3);
        let network = only.network().clone();
        let effects = network.effects();
        only.drive(seconds(30), |_| network.effects() > effects);
        network.down("platform");
        assert_eq!(only.drive(seconds(15), |_| false), Ended::OutOfTime);
        let effects = network.effects();
        assert_eq!(only.drive(seconds(outage), |_| false), Ended::OutOfTime);
        assert_eq!(network.effects(), effects, "it wrote without its lease");
        network.heal();
        assert_eq!(only.drive(seconds(120), is_ready), Ended::Reached);
        assert!(oracle::deleted_children(&world, before).is_empty());
        assert_eq!(oracle::judge(&world), Vec::<String>::new());
    }
}

/// Turns of a moment each, as two pods have while one replaces the other.
const TURN: Duration = Duration::from_millis(100);

#[test]
fn a_rolling_update_has_one_writer_at_any_time_and_the_new_pod_takes_over_when_the_old_one_ends() {
    for seed in 0..8 {
        let world = simulation().world();
        let mut old = replica(&world, "old", SignedDuration::ZERO);
        order(&world, 1);
        assert_eq!(old.drive(LIMIT, is_ready), Ended::Reached);
        let mut new = replica(&world, "new", SignedDuration::ZERO);
        for _ in 0..50 {
            old.drive(TURN, |_| false);
            new.drive(TURN, |_| false);
        }
        assert_eq!(leader(&world), "old");
        // In the middle of the old one's work.
        order(&world, 4);
        let (network, before) = (old.network().clone(), old.network().effects());
        old.drive(seconds(30), |_| network.effects() > before + seed);
        old.terminate();
        let mut turns = 0;
        while old.drive(TURN, |_| false) == Ended::OutOfTime {
            new.drive(TURN, |_| false);
            turns += 1;
            assert!(turns < 100, "the old one does not end");
        }
        let leads = |world: &World| leader(world) == "new";
        assert_eq!(new.drive(seconds(2), leads), Ended::Reached);
        assert_eq!(new.drive(seconds(60), is_ready), Ended::Reached);
        assert_eq!(oracle::judge(&world), Vec::<String>::new());
    }
}

#[test]
fn a_replica_that_stood_by_lists_nothing_when_it_takes_over() {
    let world = simulation().world();
    let mut first = replica(&world, "first", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(first.drive(LIMIT, is_ready), Ended::Reached);
    let mut second = replica(&world, "second", SignedDuration::ZERO);
    for _ in 0..50 {
        first.drive(TURN, |_| false);
        second.drive(TURN, |_| false);
    }
    // Watches are told as such.
    let lists = |process: &Process| {
        let trace = process.network().trace();
        let listed = |line: &&String| line.contains("GET ") && line.ends_with("/deployments");
        trace.iter().filter(listed).count()
    };
    assert_eq!((lists(&first), lists(&second)), (1, 1), "the children");
    assert_eq!(second.network().effects(), 0, "it writes nothing");
    drop(first);
    order(&world, 2);
    let leads = |world: &World| leader(world) == "second" && is_ready(world);
    assert_eq!(second.drive(seconds(60), leads), Ended::Reached);
    assert_eq!(lists(&second), 1);
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn a_container_that_is_started_again_in_its_pod_goes_on_at_once() {
    let world = simulation().world();
    let mut first = replica(&world, "pod", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(first.drive(LIMIT, is_ready), Ended::Reached);
    drop(first);
    let mut again = replica(&world, "pod", SignedDuration::ZERO);
    order(&world, 2);
    assert_eq!(
        again.drive(seconds(3), is_ready),
        Ended::Reached,
        "no lease is waited for"
    );
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn a_new_pod_that_cannot_become_ready_says_so_instead_of_waiting_for_the_lease() {
    let world = simulation().world();
    let mut old = replica(&world, "old", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(old.drive(LIMIT, is_ready), Ended::Reached);
    let mut new = replica(&world, "new", SignedDuration::ZERO);
    new.network()
        .trouble("onboarding", usize::MAX, Trouble::Status(403, None), |_| true);
    let ended = new.drive(seconds(6), |_| false);
    assert!(
        matches!(&ended, Ended::Exited(Err(fault)) if fault.class == Class::Denied),
        "{ended:?}"
    );
    assert_eq!(leader(&world), "old");
}

#[test]
fn a_new_version_that_needs_other_rights_becomes_ready_beside_the_old_one() {
    let world = simulation().world();
    let mut old = replica(&world, "old", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(old.drive(LIMIT, is_ready), Ended::Reached);
    // As the old version asked for it.
    let platform = world.server("platform");
    let accesses = platform.objects("clusters.openmcp.cloud/v1alpha1", "AccessRequest");
    let of_run = |it: &&Value| {
        it["metadata"]["name"]
            .as_str()
            .unwrap()
            .ends_with("--onboarding-run")
    };
    let access = accesses.iter().find(of_run).unwrap();
    let fewer = json!({"spec": {"token": {"permissions": []}}});
    platform.merge(access, &fewer).unwrap();
    let mut init = simulation().start(&world, Job::Init);
    assert_eq!(init.drive(seconds(60), |_| false), Ended::Exited(Ok(())));
    let mut new = replica(&world, "new", SignedDuration::ZERO);
    new.drive(seconds(6), |_| false);
    assert_eq!(leader(&world), "old");
    let warm = |line: &String| line.ends_with("/greeters watch");
    let trace = new.network().trace();
    assert!(trace.iter().any(warm), "{trace:#?}");
}

#[test]
fn a_pod_that_is_asked_to_end_before_it_is_ready_ends_and_leaves_no_lease_behind() {
    let world = simulation().world();
    let mut pod = replica(&world, "pod", SignedDuration::ZERO);
    pod.network().down("onboarding");
    assert_eq!(pod.drive(seconds(6), |_| false), Ended::OutOfTime);
    assert_eq!(leader(&world), "pod");
    pod.terminate();
    assert_eq!(pod.drive(seconds(3), |_| false), Ended::Exited(Ok(())));
    assert_eq!(leader(&world), "");
}

#[test]
fn fault_11_nobody_leads_earlier_because_of_a_clock() {
    for skew in [SignedDuration::from_mins(5), SignedDuration::from_mins(-5)] {
        let world = simulation().world();
        let mut first = replica(&world, "first", SignedDuration::ZERO);
        first.drive(seconds(30), |_| false);
        assert_eq!(leader(&world), "first");
        let mut second = replica(&world, "second", skew);
        for _ in 0..60 {
            first.drive(seconds(1), |_| false);
            second.drive(seconds(1), |_| false);
            assert_eq!(leader(&world), "first", "{skew}");
        }
        drop(first);
        assert_eq!(
            second.drive(seconds(30), |world| leader(world) == "second"),
            Ended::Reached
        );
    }
}

#[test]
fn fault_11_clocks_that_jump_neither_move_leadership_nor_stop_work() {
    let world = simulation().world();
    let mut first = replica(&world, "first", SignedDuration::ZERO);
    let mut second = replica(&world, "second", SignedDuration::ZERO);
    order(&world, 1);
    assert_eq!(first.drive(LIMIT, is_ready), Ended::Reached);
    for turn in 0..40 {
        let jump = SignedDuration::from_mins([5, -10, 7, -2][turn % 4]);
        first.jump(jump);
        second.jump(-jump);
        if turn % 10 == 0 {
            order(&world, i32::try_from(turn / 10).unwrap());
        }
        first.drive(seconds(1), |_| false);
        second.drive(seconds(1), |_| false);
        assert_eq!(leader(&world), "first", "turn {turn}");
    }
    assert_eq!(first.drive(seconds(60), is_ready), Ended::Reached);
    first.terminate();
    first.drive(seconds(10), |_| false);
    assert_eq!(
        second.drive(seconds(10), |world| leader(world) == "second"),
        Ended::Reached
    );
    order(&world, 2);
    assert_eq!(second.drive(seconds(60), is_ready), Ended::Reached);
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}
