//! Fault 1: a crash before and after every effect of each scenario, with the invariants as oracle.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{greeter, simulation};
use openmcp_testkit::{Scenario, Simulation};
use service_provider_runtime::ServiceProvider;

fn survives<P: ServiceProvider>(simulation: &Simulation<P>, scenario: &Scenario) {
    match simulation.crash_everywhere(scenario) {
        Ok(effects) => println!("{effects} effects"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_crash_at_any_effect_of_creating_and_deleting_changes_nothing() {
    let one = greeter("team", "one", 2);
    let scenario = Scenario::new("create and delete")
        .apply("onboarding", one.clone())
        .delete("onboarding", &one);
    survives(&simulation(), &scenario);
}
