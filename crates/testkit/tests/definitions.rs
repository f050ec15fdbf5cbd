//! A definition that is not wanted any more takes nothing of the tenant with it.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{LIMIT, QUIET, gadget, gadgets, greeter, is_ready, live, order, served, without_gadgets};
use openmcp_testkit::{Ended, Job, PERSON, Process, Scenario, World, children};
use serde_json::{Value, json};
use std::time::Duration;

const MCP: &str = "mcp-team-one";

/// A service whose definition is not wanted any more, and a tenant with objects of that kind.
fn dropped(gadgets: u32) -> (World, Process) {
    let (simulation, world) = served();
    for number in 0..gadgets {
        let mine = gadget(&format!("mine-{number}"));
        world.server(MCP).create(&mine).unwrap();
    }
    let platform = world.server("platform");
    platform.apply(PERSON, &without_gadgets("hello")).unwrap();
    let mut process = simulation.start(&world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    (world, process)
}

fn synced(world: &World) -> Value {
    let conditions = live(world)["status"]["conditions"].take();
    let mut conditions = conditions.as_array().cloned().unwrap_or_default().into_iter();
    conditions.find(|it| it["type"] == "Synced").unwrap_or_default()
}

fn says(condition: &Value, text: &str) -> bool {
    condition["message"].as_str().unwrap().contains(text)
}

#[test]
fn a_crash_at_any_effect_of_dropping_a_definition_takes_nothing_of_the_tenant() {
    let scenario = Scenario::new("dropped definition")
        .apply("onboarding", greeter("team", "one", 2))
        .apply(MCP, gadget("mine"))
        .given()
        .apply("platform", without_gadgets("hello"))
        .apply("onboarding", greeter("team", "one", 1))
        .then("look", |world| {
            assert!(world.server(MCP).live(&gadget("mine")).is_some());
            assert!(is_ready(world), "{}", live(world));
        })
        .delete(MCP, &gadget("mine"));
    let effects = common::simulation().crash_everywhere(&scenario);
    effects.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_the_tenant_makes_while_the_process_is_down_keeps_the_definition_or_comes_too_late() {
    let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made", "namespace": "default"}});
    let note = made.clone();
    let scenario = Scenario::new("a gadget after a crash")
        .apply("onboarding", greeter("team", "one", 1))
        .given()
        .apply("platform", without_gadgets("hello"))
        .then_at_once("make a gadget", move |world| {
            let mcp = world.server(MCP);
            let definition = mcp.live(&gadgets()).unwrap_or_default();
            // An API server makes no objects of one that is being deleted.
            let terminates = !definition["metadata"]["deletionTimestamp"].is_null();
            if !terminates && mcp.create(&gadget("mine")).is_ok() {
                mcp.create(&note).unwrap();
            }
        })
        .then("delete the gadget", move |world| {
            let mcp = world.server(MCP);
            if mcp.live(&made).is_some() {
                let theirs = mcp.live(&gadget("mine"));
                assert!(theirs.is_some(), "the tenant's object went with its definition");
                mcp.delete(&gadget("mine")).unwrap();
                mcp.delete(&made).unwrap();
            }
        });
    let effects = common::simulation().crash_everywhere(&scenario);
    effects.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_definition_with_objects_of_the_tenant_stays_and_the_service_is_ready_and_says_so() {
    let (world, mut process) = dropped(2);
    assert!(is_ready(&world), "{}", live(&world));
    let condition = synced(&world);
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("True"), &json!("DomainObjectsExist"))
    );
    assert!(says(
        &condition,
        "CustomResourceDefinition gadgets.greeter.example.com"
    ));
    assert!(says(&condition, "Gadget default/mine-0, Gadget default/mine-1"));
    let events = world.server("onboarding").objects("events.k8s.io/v1", "Event");
    let told = events
        .iter()
        .filter(|it| it["reason"] == "DomainObjectsExist")
        .count();
    assert_eq!(told, 1, "{events:#?}");
    // Nobody asks again and again.
    let requests = process.network().requests();
    process.drive(Duration::from_secs(1200), |_| false);
    let sent = process.network().trace().split_off(requests);
    let asked: Vec<&String> = sent
        .iter()
        .filter(|line| line.contains(MCP) && !line.ends_with(" watch"))
        .collect();
    assert!(asked.is_empty(), "{asked:#?}");

    let mcp = world.server(MCP);
    mcp.delete(&gadget("mine-0")).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(!says(&synced(&world), "mine-0") && says(&synced(&world), "mine-1"));
    mcp.delete(&gadget("mine-1")).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(mcp.live(&gadgets()).is_none(), "nothing needs it any more");
    assert!(
        is_ready(&world) && synced(&world)["reason"] == "Synced_True",
        "{}",
        live(&world)
    );
}

#[test]
fn a_definition_of_which_nothing_is_served_for_the_moment_takes_nothing_of_the_tenant() {
    for by in ["deletion", "prune"] {
        let (simulation, world) = served();
        let mcp = world.server(MCP);
        mcp.create(&gadget("mine")).unwrap();
        let serve = |served: bool| {
            let mut versions = gadgets()["spec"]["versions"].clone();
            versions[0]["served"] = json!(served);
            mcp.merge(&gadgets(), &json!({"spec": {"versions": versions}}))
                .unwrap();
        };
        serve(false);
        match by {
            "deletion" => drop(world.server("onboarding").delete(&greeter("team", "one", 2))),
            _ => drop(world.server("platform").apply(PERSON, &without_gadgets("hello"))),
        }
        let mut process = simulation.start(&world, Job::Run);
        process.drive(Duration::from_secs(600), |_| false);
        assert!(mcp.live(&gadgets()).is_some(), "{by}");
        let conditions = live(&world)["status"]["conditions"].to_string();
        assert!(conditions.contains("NotServed"), "{by}: {conditions}");
        serve(true);
        process.drive(Duration::from_secs(600), |_| false);
        assert!(mcp.live(&gadget("mine")).is_some(), "{by}");
        let conditions = live(&world)["status"]["conditions"].to_string();
        assert!(conditions.contains("Gadget default/mine"), "{by}: {conditions}");
        mcp.delete(&gadget("mine")).unwrap();
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert!(mcp.live(&gadgets()).is_none(), "{by}: {}", live(&world));
    }
}

#[test]
fn what_may_serve_the_tenants_objects_stays_with_their_definition() {
    let (world, mut process) = dropped(1);
    let greetings = || {
        let all = children(&world).into_iter();
        all.filter(|(_, child)| child["kind"] == "ConfigMap").count()
    };
    order(&world, 1);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world) && greetings() == 2, "{}", live(&world));
    world.server(MCP).delete(&gadget("mine-0")).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world) && greetings() == 1, "{}", live(&world));
}

#[test]
fn what_a_busy_tenant_makes_and_removes_writes_no_status() {
    let (world, mut process) = dropped(30);
    assert!(says(&synced(&world), "and more than 10 more"), "{}", live(&world));
    let before = live(&world)["metadata"]["resourceVersion"].take();
    for number in 30..60 {
        world
            .server(MCP)
            .create(&gadget(&format!("mine-{number}")))
            .unwrap();
        process.drive(Duration::from_secs(1), |_| false);
    }
    assert_eq!(live(&world)["metadata"]["resourceVersion"], before);
}
