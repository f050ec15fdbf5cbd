//! Objects that exist and that the provider cannot read, or not see: never taken for deleted (invariant 6, fault 15).
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
#[path = "common/next.rs"]
mod next;

use common::{LIMIT, QUIET, greeter, is_ready, live, seconds, served, simulation};
use openmcp_testkit::{Ended, Job, PERSON, Process, Simulation, Trouble, World, children, oracle};
use serde_json::{Value, json};

fn upgraded() -> Simulation<next::Provider> {
    Simulation::new("greeter", || next::Provider)
}

/// The next version, at rest.
fn upgrade(world: &World) -> Process {
    let mut init = upgraded().start(world, Job::Init);
    assert_eq!(init.drive(LIMIT, |_| false), Ended::Exited(Ok(())));
    let mut process = upgraded().start(world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    process
}

fn condition(world: &World, kind: &str) -> String {
    let object = live(world);
    let conditions = object["status"]["conditions"].as_array().unwrap().clone();
    let found = conditions.into_iter().find(|it| it["type"] == kind).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

fn of_services(world: &World) -> Vec<Value> {
    let platform = world.server("platform");
    platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory")
}

#[test]
fn what_a_new_version_cannot_read_keeps_all_that_it_has_and_goes_on_when_it_is_changed() {
    let world = served().1;
    let (before, had) = (world.version(), children(&world).len());
    let mut process = upgrade(&world);
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    assert_eq!((children(&world).len(), of_services(&world).len()), (had, 1));
    let ready = condition(&world, "Ready");
    assert!(
        ready
            .starts_with("False ObjectUnreadable: this version of the provider cannot read Greeter team/one")
            && ready.contains("missing field `language`"),
        "{ready}"
    );
    assert!(condition(&world, "Stalled").starts_with("True"));
    let mut changed = greeter("team", "one", 2);
    changed["spec"]["language"] = json!("en");
    world.server("onboarding").apply(PERSON, &changed).unwrap();
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
    assert!(
        children(&world)
            .iter()
            .any(|(_, child)| child["metadata"]["name"] == "language")
    );
}

#[test]
fn what_a_new_version_cannot_read_goes_on_under_the_old_one() {
    let world = served().1;
    let before = world.version();
    drop(upgrade(&world));
    let mut process = simulation().start(&world, Job::Run);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_can_be_deleted_and_leaves_nothing_behind() {
    let world = served().1;
    let mut process = upgrade(&world);
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 2))
        .unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(live(&world).is_null(), "{}", live(&world));
    assert!(children(&world).is_empty() && of_services(&world).is_empty());
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn where_the_api_server_refuses_the_status_an_event_says_what_cannot_be_read() {
    let world = served().1;
    let mut process = upgraded().start(&world, Job::Run);
    process
        .network()
        .trouble("onboarding", usize::MAX, Trouble::Status(422, None), |request| {
            request.uri().path().ends_with("/greeters/one/status")
        });
    process.drive(seconds(600), |_| false);
    let events = world.server("onboarding").objects("events.k8s.io/v1", "Event");
    let told = |event: &Value| {
        event["note"]
            .as_str()
            .is_some_and(|note| note.contains("missing field `language`"))
    };
    assert!(events.iter().any(told), "{events:#?}");
}

#[test]
fn what_was_made_for_an_object_is_removed_only_when_the_api_server_says_that_the_object_is_gone() {
    let world = served().1;
    let onboarding = world.server("onboarding");
    let gone = greeter("team", "one", 2);
    onboarding
        .merge(&gone, &json!({"metadata": {"finalizers": null}}))
        .unwrap();
    onboarding.delete(&gone).unwrap();
    let before = world.version();
    for trouble in [
        Trouble::Status(403, None),
        Trouble::Status(404, None),
        Trouble::Refused,
    ] {
        let mut process = simulation().start(&world, Job::Run);
        process
            .network()
            .trouble("onboarding", usize::MAX, trouble, |request| {
                request.method() == "GET" && request.uri().path().ends_with("/greeters/one")
            });
        process.drive(seconds(600), |_| false);
        assert_eq!(oracle::deleted_children(&world, before), Vec::<String>::new());
    }
    let mut process = simulation().start(&world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(children(&world).is_empty() && of_services(&world).is_empty());
}

#[test]
fn a_service_goes_on_by_what_its_cluster_and_its_requests_said_before_they_could_not_be_read() {
    let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": 7}]}});
    for kind in ["Cluster", "ClusterRequest", "AccessRequest"] {
        let (simulation, world) = served();
        let mut process = simulation.start(&world, Job::Run);
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        let platform = world.server("platform");
        for object in platform.objects("clusters.openmcp.cloud/v1alpha1", kind) {
            platform.merge_status(&object, &unknown["status"]).unwrap();
        }
        process.drive(seconds(60), |_| false);
        assert!(is_ready(&world), "{kind}: {}", live(&world));
        let mcp = world.server("mcp-team-one");
        let greeting = &mcp
            .objects("v1", "ConfigMap")
            .into_iter()
            .find(|it| it["metadata"]["namespace"] == "greetings")
            .unwrap();
        mcp.delete(greeting).unwrap();
        let repaired = |_: &World| mcp.live(greeting).is_some();
        assert_eq!(process.drive(seconds(20), repaired), Ended::Reached, "{kind}");
        let events = world.server("onboarding").objects("events.k8s.io/v1", "Event");
        let told = |event: &Value| {
            let note = event["note"].as_str().unwrap_or_default();
            note.contains(&format!("cannot read {kind} ")) && note.contains("any more")
        };
        process.drive(seconds(5), |_| false);
        assert!(events.iter().any(told), "{kind}: {events:#?}");
        world
            .server("onboarding")
            .delete(&greeter("team", "one", 2))
            .unwrap();
        process.drive(seconds(600), |_| false);
        assert!(children(&world).is_empty(), "{kind}");
        assert_eq!(oracle::judge(&world), Vec::<String>::new());
    }
}
