//! Random programs of orders, changes, interference and faults, with the invariants as oracle.
//!
//! A seed is a program, and its run is the same each time. `OPENMCP_PROGRAMS` is how many are run,
//! `OPENMCP_PROGRAM_SEED` the first one's seed: a failure prints both, and the shortest program that still fails.
#![allow(clippy::unwrap_used, clippy::panic)]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/log.rs"]
mod log;

mod act;
mod play;

use act::{Act, Harm, program};
use openmcp_testkit::Trouble;
use play::{Failure, play};
use std::{str::FromStr, time::Duration};

/// As many as run in the time that a test on every commit may take.
const PROGRAMS: u64 = 16;

fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn no_program_leads_to_another_end_than_its_last_wishes() {
    let first = variable("OPENMCP_PROGRAM_SEED", 1);
    for seed in first..first + variable("OPENMCP_PROGRAMS", PROGRAMS) {
        let acts = program(seed);
        if let Err(failure) = play(seed, &acts) {
            let (acts, failure) = shortened(seed, acts, failure);
            panic!(
                "OPENMCP_PROGRAM_SEED={seed} OPENMCP_PROGRAMS=1 shows it again; the shortest program that fails: {acts:#?}\n{}\nrequests:\n  {}",
                failure.wrong.join("\n"),
                failure.trace.join("\n  ")
            );
        }
    }
}

#[test]
fn programs_that_failed_once_fail_no_more() {
    let wait = |seconds| Act::Wait(Duration::from_secs(seconds));
    let configure = |staged| Act::Configure {
        text: "hello",
        staged,
    };
    // The watch of an input stayed when it was read no more.
    let input = [
        Act::Order("team", 3),
        wait(8),
        configure(true),
        wait(2),
        configure(false),
    ];
    // The watch of a kind stayed when its last child, which somebody had deleted, was not wanted any more.
    let last_child = [
        Act::Order("team", 1),
        wait(8),
        Act::Trouble("mcp-team-one", Trouble::Silent, 5, 3),
        wait(0),
        Act::Order("team", 0),
        Act::Harm("team", 0, Harm::Deleted),
        wait(1),
    ];
    for (seed, program) in [(1, &input[..]), (97, &last_child[..])] {
        if let Err(failure) = play(seed, program) {
            panic!("{}\n{}", failure.wrong.join("\n"), failure.trace.join("\n"));
        }
    }
}

/// Leaves out whatever is not needed to fail.
fn shortened(seed: u64, mut acts: Vec<Act>, mut failure: Failure) -> (Vec<Act>, Failure) {
    let mut at = acts.len();
    while at > 0 {
        at -= 1;
        let mut fewer = acts.clone();
        fewer.remove(at);
        if let Err(still) = play(seed, &fewer) {
            (acts, failure) = (fewer, still);
        }
    }
    (acts, failure)
}

#[test]
fn a_seed_leads_to_the_same_requests_each_time() {
    for seed in 1..4 {
        let life = || play(seed, &program(seed)).unwrap_or_else(|failure| failure.trace);
        let (first, again) = (life(), life());
        let differs = first.iter().zip(&again).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let from = at.saturating_sub(5);
            let part = |trace: &[String]| {
                trace[from..]
                    .iter()
                    .take(10)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            panic!("seed {seed}, request {at}:\n{}\n\n{}", part(&first), part(&again));
        }
        assert_eq!(first.len(), again.len());
    }
}
