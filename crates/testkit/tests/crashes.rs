//! Fault 1: a crash before and after every effect of each scenario, with the invariants as oracle.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{
    Greeter, Provider, ProviderConfig, config, gadget, gadgets, greeter, simulation, stage, staged,
};
use openmcp_testkit::{PERSON, Scenario, Simulation, World};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, rules};

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

/// The tenant's own object of a kind that the service brings, made where there is that kind: whether it was made is
/// noted beside it.
fn make_gadget(world: &World) {
    let mcp = world.server("mcp-team-one");
    if mcp.create(&gadget("mine")).is_ok() {
        mcp.create(&made()).unwrap();
    }
}

fn made() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made", "namespace": "default"}})
}

#[test]
fn a_deletion_that_is_ordered_while_the_process_is_down_takes_nothing_of_the_tenant() {
    let one = greeter("team", "one", 1);
    let ordered = one.clone();
    let scenario = Scenario::new("deletion after a crash")
        .apply("onboarding", one)
        .then_at_once("make a gadget and delete", move |world| {
            make_gadget(world);
            world.server("onboarding").delete(&ordered).unwrap();
        })
        .then("delete the gadget", |world| {
            let mcp = world.server("mcp-team-one");
            if mcp.live(&made()).is_some() {
                let theirs = mcp.live(&gadget("mine"));
                assert!(theirs.is_some(), "the tenant's object went with its definition");
                mcp.delete(&gadget("mine")).unwrap();
                mcp.delete(&made()).unwrap();
            }
        });
    survives(&simulation(), &scenario);
}

#[test]
fn a_custom_resource_of_the_service_blocks_no_deletion_that_is_ordered_while_the_process_is_down() {
    let simulation = Simulation::new("greeter", || WithGadget)
        .on_platform(config("hello"))
        .control_plane("team", "one");
    let one = greeter("team", "one", 1);
    let ordered = one.clone();
    let scenario = Scenario::new("own custom resource")
        .apply("onboarding", one)
        .given()
        .apply("onboarding", greeter("team", "one", 2))
        .then_at_once("delete", move |world| {
            world.server("onboarding").delete(&ordered).unwrap();
        });
    if let Err(failure) = simulation.crash_everywhere(&scenario) {
        panic!("{failure}");
    }
}

/// A provider that makes objects of the kind that it brings, when it is asked for more than the kind.
struct WithGadget;

impl ServiceProvider for WithGadget {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("greeter.example.com", &["gadgets"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        desired.mcp(gadgets())?;
        for number in 1..cx.object().spec.count {
            desired.mcp(gadget(&format!("ours-{number}")))?;
        }
        Ok(desired)
    }
}
