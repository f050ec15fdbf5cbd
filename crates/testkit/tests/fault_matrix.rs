//! Faults 2 to 9, 12, 14 and 16 of the fault matrix, in simulated time. Fault 1 is `crashes.rs`, 10 and 11 are
//! `leadership.rs`.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{config, greeter, order, simulation};
use openmcp_testkit::{
    Crash, Ended, Job, PERSON, Process, Scenario, Trouble, WatchTrouble, World, children, oracle,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

/// The world, and what the process has.
type End = (BTreeMap<String, Value>, (usize, usize));

/// Longer than any back-off: then nothing is coming any more.
const QUIET: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const HOSTS: [&str; 4] = ["platform", "onboarding", "workload", "mcp-team-one"];
const MCP: &str = "mcp-team-one";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The platform at rest, made once: to install definitions takes long.
fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| simulation().world());
    PLATFORM.fork()
}

/// A service object that is Ready, and the process that made it so.
fn served(count: i32) -> (World, Process) {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, count);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    (world, process)
}

fn live(world: &World) -> Value {
    world
        .server("onboarding")
        .live(&greeter("team", "one", 0))
        .unwrap_or_default()
}

fn is_ready(world: &World) -> bool {
    let object = live(world);
    object["status"]["phase"] == "Ready"
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn conditions(world: &World) -> String {
    live(world)["status"]["conditions"].to_string()
}

fn greeting(number: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("greeting-{number}"), "namespace": "greetings"}})
}

fn text(world: &World, number: i32) -> String {
    let found = world.server(MCP).live(&greeting(number)).unwrap_or_default();
    found["data"]["text"].as_str().unwrap_or_default().to_owned()
}

/// The world as it is when `count` were ordered without any fault.
fn fault_free(count: i32) -> End {
    static KNOWN: Mutex<BTreeMap<i32, End>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().unwrap().get(&count) {
        return known.clone();
    }
    let (world, mut process) = served(count);
    let end = (oracle::snapshot(&world), process.footprint());
    KNOWN.lock().unwrap().insert(count, end.clone());
    end
}

/// All invariants hold, and the end is that without faults.
fn is_well(world: &World, process: &mut Process, count: i32) {
    process.drive(LIMIT, is_ready);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let mut wrong = oracle::judge(world);
    let (expected, footprint) = fault_free(count);
    wrong.extend(oracle::differences(&expected, &oracle::snapshot(world)));
    let found = process.footprint();
    if found != footprint {
        wrong.push(format!(
            "I9: (tasks, watches) are {found:?}, and {footprint:?} without faults"
        ));
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        process.network().trace().join("\n")
    );
    assert!(is_ready(world), "{}", live(world));
}

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
fn fault_2_a_token_whose_secret_was_never_written_needs_nobody() {
    let simulation = simulation();
    let scenario = Scenario::new("token").apply("onboarding", greeter("team", "one", 1));
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 1);
    process.settle(QUIET, LIMIT);
    let trace = process.network().trace();
    let effects: Vec<&String> = trace.iter().filter(|line| line.contains('#')).collect();
    let token = effects.iter().position(|line| line.ends_with("/token")).unwrap() + 1;
    let without = simulation.run(&scenario, None).unwrap();
    let with = simulation
        .run(&scenario, Some(Crash::After(token)))
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(oracle::differences(&without.end, &with.end), Vec::<String>::new());
}

#[test]
fn fault_3_an_api_server_that_restarts_is_waited_for() {
    for host in HOSTS {
        for outage in [30, 600] {
            let (world, mut process) = served(1);
            let before = world.version();
            process.network().down(host);
            assert_eq!(
                process.drive(seconds(outage), |_| false),
                Ended::OutOfTime,
                "{host}"
            );
            process.network().heal();
            order(&world, 2);
            is_well(&world, &mut process, 2);
            assert!(oracle::deleted_children(&world, before).is_empty(), "{host}");
        }
    }
}

#[test]
fn fault_4_watches_that_close_or_lose_bookmarks_go_on() {
    let (world, mut process) = served(1);
    for host in HOSTS {
        process.network().trouble_watches(host, WatchTrouble::NoBookmarks);
    }
    process.drive(seconds(900), |_| false);
    for host in HOSTS {
        process.network().close_watches(host);
    }
    order(&world, 2);
    is_well(&world, &mut process, 2);
}

#[test]
fn fault_4_a_watch_that_stalls_is_found_within_a_minute() {
    for host in ["onboarding", MCP] {
        let (world, mut process) = served(2);
        process.network().trouble_watches(host, WatchTrouble::Stalled);
        process.drive(seconds(1), |_| false);
        order(&world, 3);
        world.server(MCP).delete(&greeting(0)).unwrap();
        let repaired =
            |world: &World| is_ready(world) && text(world, 0) == "hello" && text(world, 2) == "hello";
        assert_eq!(process.drive(seconds(60), repaired), Ended::Reached, "{host}");
        is_well(&world, &mut process, 3);
    }
}

#[test]
fn fault_5_a_compacted_history_is_listed_anew_and_nothing_is_deleted() {
    // More than a page, so that the list itself is interrupted.
    let (world, mut process) = served(120);
    let before = world.version();
    for host in HOSTS {
        process.network().down(host);
    }
    process.drive(seconds(10), |_| false);
    world
        .server(MCP)
        .merge(&greeting(0), &json!({"data": {"text": "tampered"}}))
        .unwrap();
    for (_, server) in world.servers() {
        server.compact();
    }
    process.network().heal();
    process
        .network()
        .trouble(MCP, 2, Trouble::Status(410, None), |request| {
            request
                .uri()
                .query()
                .is_some_and(|query| query.contains("continue="))
        });
    is_well(&world, &mut process, 120);
    assert!(oracle::deleted_children(&world, before).is_empty());
}

#[test]
fn fault_6_a_server_that_lags_behind_misleads_nobody() {
    for host in [MCP, "onboarding", "platform"] {
        let (world, mut process) = served(2);
        world.server(host).fall_behind();
        order(&world, 3);
        world.server(MCP).delete(&greeting(0)).unwrap();
        process.drive(seconds(60), |_| false);
        drop(process);
        let mut process = simulation().start(&world, Job::Run);
        process.drive(seconds(120), |_| false);
        world.server(host).catch_up();
        is_well(&world, &mut process, 3);
    }
}

#[test]
fn fault_7_missed_doubled_and_reordered_events_lead_to_the_same_end() {
    for trouble in [
        WatchTrouble::Doubled,
        WatchTrouble::Reordered,
        WatchTrouble::Missed(3),
    ] {
        let (world, mut process) = served(2);
        for host in HOSTS {
            process.network().trouble_watches(host, trouble);
        }
        order(&world, 3);
        process.drive(seconds(30), |_| false);
        world
            .server(MCP)
            .merge(&greeting(0), &json!({"data": {"text": "tampered"}}))
            .unwrap();
        world.server(MCP).delete(&greeting(1)).unwrap();
        process.drive(seconds(60), |_| false);
        process.network().heal();
        // What was missed is seen by the next list.
        for (host, server) in world.servers() {
            let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}});
            server.create(&other).unwrap();
            server.delete(&other).unwrap();
            server.compact();
            process.network().close_watches(&host);
        }
        is_well(&world, &mut process, 3);
    }
}

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
fn fault_12_rotated_credentials_are_swapped_in_without_a_new_list() {
    let (world, mut process) = served(1);
    let lists = |process: &Process| {
        let is_list = |line: &&String| line.ends_with(&format!("GET {MCP}/api/v1/configmaps"));
        process.network().trace().iter().filter(is_list).count()
    };
    assert_eq!(lists(&process), 1);
    world.rotate_credentials(MCP);
    process.drive(seconds(600), |_| false);
    world.server(MCP).delete(&greeting(0)).unwrap();
    is_well(&world, &mut process, 1);
    assert_eq!(lists(&process), 1);
}

#[test]
fn fault_12_revoked_credentials_and_missing_rights_are_a_condition_and_no_hot_loop() {
    let (world, mut process) = served(1);
    world.server(MCP).accept_only([]);
    order(&world, 2);
    let before = process.network().requests();
    process.drive(seconds(600), |_| false);
    let sent = process.network().requests() - before;
    assert!(sent < 600, "{sent} requests in ten minutes");
    assert!(
        !is_ready(&world) && conditions(&world).contains("Unauthorized"),
        "{}",
        conditions(&world)
    );
    world.rotate_credentials(MCP);
    is_well(&world, &mut process, 2);
    process
        .network()
        .trouble(MCP, usize::MAX, Trouble::Status(403, None), |request| {
            request.method() == "PATCH"
        });
    order(&world, 3);
    let before = process.network().requests();
    process.drive(seconds(600), |_| false);
    let sent = process.network().requests() - before;
    assert!(sent < 300, "{sent} requests in ten minutes");
    assert!(conditions(&world).contains("forbidden"), "{}", conditions(&world));
    process.network().heal();
    is_well(&world, &mut process, 3);
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
fn fault_16_a_panic_in_the_provider_costs_only_time() {
    let (world, mut process) = served(1);
    world.server("platform").apply(PERSON, &config("panic")).unwrap();
    let before = process.network().requests();
    process.drive(seconds(600), |_| false);
    assert!(conditions(&world).contains("panicked"), "{}", conditions(&world));
    assert!(process.network().requests() - before < 300);
    world.server("platform").apply(PERSON, &config("hello")).unwrap();
    is_well(&world, &mut process, 1);
}

#[test]
fn fault_16_a_pass_that_is_cancelled_at_any_effect_is_made_up_for() {
    for every in [2, 3, 5] {
        for trouble in [
            Trouble::AnswerLost,
            Trouble::Silent,
            Trouble::Truncated,
            Trouble::Slow(seconds(40)),
        ] {
            let world = platform();
            let mut process = simulation().start(&world, Job::Run);
            process.settle(QUIET, LIMIT);
            for host in HOSTS {
                let count = std::sync::atomic::AtomicUsize::new(0);
                process
                    .network()
                    .trouble(host, 20, trouble.clone(), move |request| {
                        request.method() != "GET"
                            && count
                                .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                                .is_multiple_of(every)
                    });
            }
            order(&world, 2);
            is_well(&world, &mut process, 2);
        }
    }
}

#[test]
fn fault_9_a_server_that_throttles_is_left_in_peace_and_others_are_not_affected() {
    let simulation = simulation().control_plane("others", "one");
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    process.settle(QUIET, LIMIT);
    process
        .network()
        .trouble(MCP, usize::MAX, Trouble::Status(429, Some(30)), |_| true);
    order(&world, 1);
    world
        .server("onboarding")
        .apply(PERSON, &greeter("others", "one", 1))
        .unwrap();
    let theirs_is_ready = |world: &World| {
        let theirs = world
            .server("onboarding")
            .live(&greeter("others", "one", 1))
            .unwrap_or_default();
        theirs["status"]["phase"] == "Ready"
    };
    assert_eq!(process.drive(seconds(60), theirs_is_ready), Ended::Reached);
    let throttled = |process: &Process| {
        process
            .network()
            .trace()
            .iter()
            .filter(|line| line.contains(&format!(" {MCP}/")))
            .count()
    };
    let before = throttled(&process);
    process.drive(seconds(300), |_| false);
    let sent = throttled(&process) - before;
    assert!(
        sent <= 60,
        "{sent} requests in five minutes in spite of Retry-After: 30"
    );
    process.network().heal();
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
}
