//! Fault 16: a pass that is cut off where it waits for a request, while its process lives on with all that it knows.
//!
//! That is what happens when a lease is lost: all passes are dropped at the await at which they stand. Here that is tried
//! at every request of a service object's life, before the server has done it and after.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{config, greeter, is_ready, live, order, simulation};
use http::Method;
use openmcp_testkit::{Ended, Job, PERSON, Process, Start, Trouble, World, oracle};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(3600);
/// Longer than a pass, shorter than what a request may take.
const REST: Duration = Duration::from_secs(20);
const HOSTS: [&str; 4] = ["platform", "onboarding", "workload", "mcp-team-one"];
/// Renewals that fail: more than a lease outlives.
const LOST: usize = 12;

fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| simulation().world());
    PLATFORM.fork()
}

fn says(world: &World, text: &str) -> bool {
    let deployments = world.server("workload").objects("apps/v1", "Deployment");
    deployments
        .iter()
        .any(|it| it["spec"]["template"]["spec"]["containers"][0]["args"][0] == text)
}

/// The requests of passes, counted: the one with a number gets into trouble, and the lease with it.
fn cut_off(process: &Process, at: usize, trouble: &Trouble) -> Arc<AtomicUsize> {
    let count = Arc::<AtomicUsize>::default();
    let seen = count.clone();
    process
        .network()
        .trouble("platform", LOST, Trouble::Refused, move |request| {
            request.uri().path().contains("/leases/") && seen.load(Ordering::Relaxed) >= at
        });
    let unanswered = *trouble == Trouble::Unanswered;
    for host in HOSTS {
        let count = count.clone();
        process
            .network()
            .trouble(host, usize::MAX, trouble.clone(), move |request| {
                let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
                let of_another = path.contains("/leases/")
                    || path.starts_with("/apis/events.k8s.io/")
                    || query.contains("watch=true")
                    || query.contains("limit=");
                // To a read it is the same whether it was done.
                let twice = unanswered && *request.method() == Method::GET;
                !of_another && !twice && count.fetch_add(1, Ordering::Relaxed) + 1 == at
            });
    }
    count
}

/// The world after each act.
type Ends = Vec<BTreeMap<String, Value>>;

/// A life: made, changed, deleted. Returns how it looked in between, and how many requests it took.
fn live_through(at: usize, trouble: &Trouble) -> (Ends, usize) {
    let world = platform();
    let start = Start {
        job: Job::RunElected,
        seed: 3,
        ..Start::default()
    };
    let mut process = Process::start(&world, common::Provider, start).unwrap();
    process.drive(REST, |_| false);
    let count = cut_off(&process, at, trouble);
    let mut ends = Vec::new();
    let mut act = |act: &dyn Fn(), is_done: fn(&World) -> bool| {
        act();
        assert_eq!(
            process.drive(LIMIT, is_done),
            Ended::Reached,
            "cut off at request {at} ({trouble:?}): {:?}\n{}",
            live(&world),
            process.network().trace().join("\n")
        );
        process.drive(REST, |_| false);
        ends.push(oracle::snapshot(&world));
    };
    act(&|| order(&world, 2), |world| {
        is_ready(world) && says(world, "hello")
    });
    act(
        &|| {
            order(&world, 1);
            world.server("platform").apply(PERSON, &config("servus")).unwrap();
        },
        |world| is_ready(world) && says(world, "servus"),
    );
    act(
        &|| {
            drop(
                world
                    .server("onboarding")
                    .delete(&greeter("team", "one", 0))
                    .unwrap(),
            )
        },
        |world| live(world).is_null(),
    );
    assert_eq!(
        oracle::judge(&world),
        Vec::<String>::new(),
        "cut off at request {at} ({trouble:?})"
    );
    (ends, count.load(Ordering::Relaxed))
}

/// Every request of a life, one after the other.
fn cut_off_everywhere(trouble: &Trouble) {
    let (expected, requests) = live_through(usize::MAX, trouble);
    assert!(requests > 20, "{requests}");
    for at in 1..=requests {
        let (ends, _) = live_through(at, trouble);
        for (expected, found) in expected.iter().zip(&ends) {
            let wrong = oracle::differences(expected, found);
            assert!(
                wrong.is_empty(),
                "cut off at request {at} ({trouble:?}):\n{}",
                wrong.join("\n")
            );
        }
    }
}

#[test]
fn fault_16_passes_that_are_cut_off_before_the_server_has_done_what_they_asked_are_made_up_for() {
    cut_off_everywhere(&Trouble::Silent);
}

#[test]
fn fault_16_passes_that_are_cut_off_after_the_server_has_done_it_are_made_up_for() {
    cut_off_everywhere(&Trouble::Unanswered);
}
