//! Others who write what is ours, or put theirs in its place.
use crate::{
    common::{gadget, gadgets, greeter, is_ready, live, order, seconds, simulation},
    stage::{LIMIT, MCP, QUIET, conditions, greeting, served, text},
};
use openmcp_testkit::{Ended, Job, Process, children, oracle};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn fault_8_a_second_writer_is_answered_at_a_bounded_rate_and_named() {
    let (world, mut process) = served(1);
    let path = "configmaps/greeting-0";
    let writes = |process: &Process| {
        let trace = process.network().trace();
        trace
            .iter()
            .filter(|line| line.contains("PATCH") && line.ends_with(path))
            .count()
    };
    let before = writes(&process);
    for number in 0..2000 {
        let mut mine = greeting(0);
        mine["data"] = json!({"text": format!("bot-{number}")});
        world.server(MCP).apply("bot", &mine).unwrap();
        process.drive(Duration::from_millis(10), |_| false);
    }
    let answered = writes(&process) - before;
    assert!((1..=40).contains(&answered), "{answered} repairs in 20 seconds");
    assert!(conditions(&world).contains("bot"), "{}", conditions(&world));
    assert_eq!(
        process.drive(LIMIT, |world| text(world, 0) == "hello" && is_ready(world)),
        Ended::Reached
    );
}

#[test]
fn fault_14_what_somebody_made_in_the_place_of_a_child_is_left_alone() {
    let (world, mut process) = served(2);
    process.network().down(MCP);
    process.drive(seconds(30), |_| false);
    let mcp = world.server(MCP);
    mcp.delete(&greeting(0)).unwrap();
    let mut theirs = greeting(0);
    theirs["data"] = json!({"text": "theirs"});
    mcp.create(&theirs).unwrap();
    process.network().heal();
    process.settle(QUIET, LIMIT);
    assert_eq!(text(&world, 0), "theirs");
    assert!(
        conditions(&world).contains("greeting-0"),
        "{}",
        conditions(&world)
    );
    world
        .server("onboarding")
        .delete(&greeter("team", "one", 2))
        .unwrap();
    process.settle(QUIET, LIMIT);
    assert_eq!((live(&world), children(&world).len()), (Value::default(), 0));
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
}

#[test]
fn fault_14_what_was_made_anew_by_us_is_removed_and_somebodys_copy_of_it_is_named_and_left_alone() {
    for by_us in [true, false] {
        let (world, process) = served(2);
        drop(process);
        let mcp = world.server(MCP);
        let mut again = greeting(1);
        let before = mcp.live(&again).unwrap();
        (again["data"], again["metadata"]["labels"]) =
            (before["data"].clone(), before["metadata"]["labels"].clone());
        mcp.delete(&again).unwrap();
        // As a process does that dies before it has recorded the UID.
        let made = if by_us {
            mcp.apply("greeter", &again)
        } else {
            mcp.create(&again)
        };
        assert_ne!(made.unwrap()["metadata"]["uid"], before["metadata"]["uid"]);
        order(&world, 1);
        let mut process = simulation().start(&world, Job::Run);
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert!(is_ready(&world), "{}", live(&world));
        assert_eq!(mcp.live(&greeting(1)).is_none(), by_us);
        let events = world.server("onboarding").objects("events.k8s.io/v1", "Event");
        let named = |event: &Value| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "ForeignObject" && note.contains("ConfigMap greetings/greeting-1")
        };
        assert_eq!(events.iter().any(named), !by_us, "{events:#?}");
        assert_eq!(oracle::judge(&world), Vec::<String>::new());
    }
}

#[test]
fn fault_13_by_force_what_somebody_holds_goes_and_does_not_come_back_with_its_definition() {
    let (world, mut process) = served(1);
    let (platform, onboarding, mcp) = (
        world.server("platform"),
        world.server("onboarding"),
        world.server(MCP),
    );
    let mut held = gadget("mine");
    held["metadata"]["finalizers"] = json!(["example.com/nobody-removes-it"]);
    mcp.create(&held).unwrap();
    let inventory = &platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory")[0];
    let force = json!({"metadata": {"annotations": {"runtime.openmcp.cloud/deletion-policy": "Force"}}});
    platform.merge(inventory, &force).unwrap();
    onboarding.delete(&greeter("team", "one", 1)).unwrap();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert_eq!((live(&world), children(&world).len()), (Value::default(), 0));

    order(&world, 1);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(
        mcp.objects("greeter.example.com/v1", "Gadget"),
        Vec::<Value>::new()
    );
}

#[test]
fn fault_13_by_force_the_garbage_collector_is_left_its_work_and_one_that_does_not_end_is_not_waited_for() {
    for stuck in [false, true] {
        let (world, mut process) = served(1);
        let (platform, workload) = (world.server("platform"), world.server("workload"));
        let deployment = workload.objects("apps/v1", "Deployment").remove(0);
        let metadata = &deployment["metadata"];
        let dependent = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "dependent", "namespace": metadata["namespace"],
                "finalizers": if stuck { json!(["example.com/held"]) } else { json!([]) },
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"],
                    "uid": metadata["uid"], "blockOwnerDeletion": true}],
            },
        });
        workload.create(&dependent).unwrap();
        let inventories = || platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory");
        let force = json!({"metadata": {"annotations": {"runtime.openmcp.cloud/deletion-policy": "Force"}}});
        platform.merge(&inventories()[0], &force).unwrap();
        world
            .server("onboarding")
            .delete(&greeter("team", "one", 1))
            .unwrap();
        process.drive(seconds(120), |_| false);
        assert_eq!(workload.live(&deployment).is_some(), stuck);
        let taken = || {
            let mut notes = inventories()
                .into_iter()
                .map(|it| it["metadata"]["annotations"].to_string());
            notes.any(|notes| notes.contains("foregroundDeletion"))
        };
        assert!(!taken());
        process.drive(seconds(600), |_| false);
        assert_eq!((workload.live(&deployment).is_none(), taken()), (true, stuck));
        if stuck {
            let released = json!({"metadata": {"finalizers": null}});
            workload.merge(&dependent, &released).unwrap();
        }
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert_eq!((live(&world), children(&world).len()), (Value::default(), 0));
    }
}

#[test]
fn what_another_order_of_the_provider_took_over_stays_and_a_mark_that_somebody_wrote_holds_nothing() {
    for (by_us, left) in [(true, 1), (false, 0)] {
        let (world, process) = served(1);
        drop(process);
        let mcp = world.server(MCP);
        let labels = json!({"metadata": {"labels": {
            "runtime.openmcp.cloud/owner": "another", "runtime.openmcp.cloud/provider": "greeter",
        }}});
        if by_us {
            let mut taken = gadgets();
            taken["metadata"]["labels"] = labels["metadata"]["labels"].clone();
            mcp.apply("greeter", &taken).unwrap();
        } else {
            mcp.merge(&gadgets(), &labels).unwrap();
        }
        let onboarding = world.server("onboarding");
        onboarding.delete(&greeter("team", "one", 1)).unwrap();
        let mut process = simulation().start(&world, Job::Run);
        assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
        assert!(live(&world).is_null(), "{}", live(&world));
        assert_eq!(mcp.live(&gadgets()).iter().count(), left);
    }
}
