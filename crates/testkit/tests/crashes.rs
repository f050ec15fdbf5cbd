//! Fault 1: a crash before and after every effect of each scenario, with the invariants as oracle.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Provider, config, gadget, greeter, simulation, stage, staged};
use openmcp_testkit::{PERSON, Scenario, Simulation};
use serde_json::json;

fn survives(simulation: &Simulation<Provider>, scenario: &Scenario) {
    match simulation.crash_everywhere(scenario) {
        Ok(effects) => println!("{effects} effects"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_crash_at_any_effect_of_changing_spec_and_configuration_and_of_pruning_changes_nothing() {
    let scenario = Scenario::new("spec and configuration")
        .apply("onboarding", greeter("team", "one", 1))
        .given()
        .apply("onboarding", greeter("team", "one", 3))
        .apply("platform", config("bye"))
        .apply("onboarding", greeter("team", "one", 1));
    survives(&simulation(), &scenario);
}

#[test]
fn a_crash_at_any_effect_of_repairing_drift_changes_nothing() {
    let scenario = Scenario::new("drift")
        .apply("onboarding", greeter("team", "one", 2))
        .given()
        .drift();
    survives(&simulation(), &scenario);
}

#[test]
fn a_crash_at_any_effect_of_creating_and_of_a_blocked_deletion_changes_nothing() {
    let one = greeter("team", "one", 1);
    let scenario = Scenario::new("blocked deletion")
        .apply("onboarding", one.clone())
        .apply("mcp-team-one", gadget("mine"))
        .delete("onboarding", &one)
        .delete("mcp-team-one", &gadget("mine"));
    survives(&simulation(), &scenario);
}

#[test]
fn a_crash_at_any_effect_of_a_staged_provider_changes_nothing() {
    let simulation = Simulation::new("greeter", || Provider)
        .on_platform(staged("hello"))
        .control_plane("team", "one");
    let scenario = Scenario::new("stages")
        .apply("onboarding", greeter("team", "one", 2))
        .given()
        .apply("platform", stage("second"))
        // While it waits again, nothing is pruned.
        .delete("platform", &stage(""))
        .apply("onboarding", greeter("team", "one", 1))
        .apply("platform", stage("third"));
    survives(&simulation, &scenario);
}

#[test]
fn a_crash_at_any_effect_with_two_tenants_changes_nothing() {
    let scenario = Scenario::new("two tenants")
        .then("order both", |world| {
            for tenant in ["team", "others"] {
                world
                    .server("onboarding")
                    .apply(PERSON, &greeter(tenant, "one", 1))
                    .unwrap();
            }
        })
        .delete("onboarding", &greeter("others", "one", 1));
    survives(&simulation().control_plane("others", "one"), &scenario);
}

#[test]
fn a_crash_at_any_effect_after_the_control_plane_lost_its_objects_changes_nothing() {
    let scenario = Scenario::new("recreated while disconnected")
        .apply("onboarding", greeter("team", "one", 1))
        .given()
        .then("delete the namespace", |world| {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "greetings"}});
            world.server("mcp-team-one").delete(&namespace).unwrap();
        });
    survives(&simulation(), &scenario);
}
