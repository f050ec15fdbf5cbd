//! API servers that restart, forget, lag behind or throttle.
use crate::{
    common::{greeter, is_ready, live, order, seconds, simulation, stage, staged},
    stage::{HOSTS, LIMIT, MCP, QUIET, greeting, is_well, platform, served},
};
use openmcp_testkit::{Ended, Job, PERSON, Process, Trouble, World, oracle};
use serde_json::json;
use std::collections::BTreeMap;

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
fn fault_3_in_a_long_outage_the_same_process_tries_rarely_and_at_irregular_times() {
    let (world, mut process) = served(1);
    let before = process.network().requests();
    process.network().down(MCP);
    assert_eq!(process.drive(seconds(600), |_| false), Ended::OutOfTime);
    let sent = process.network().trace().split_off(before);
    let mut tries = BTreeMap::<&str, Vec<f64>>::new();
    for line in &sent {
        let mut words = line.split_whitespace();
        let at = words.next().unwrap_or_default().parse().unwrap();
        if let Some(path) = words.find(|word| word.starts_with(MCP)) {
            tries.entry(path).or_default().push(at);
        }
    }
    assert!(tries.len() >= 3, "{tries:?}");
    for (path, times) in tries {
        assert!((10..=60).contains(&times.len()), "{path}: {times:?}");
        let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let last = &pauses[pauses.len() - 8..];
        let (least, most) = last.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| {
            (least.min(*it), most.max(*it))
        });
        // Full jitter: of many that lost the same server no two come back together.
        assert!(most <= 31.0 && least < 15.0, "{path}: {pauses:?}");
    }
    process.network().heal();
    is_well(&world, &mut process, 1);
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
fn fault_5_what_an_input_asks_for_stays_while_the_input_cannot_be_listed() {
    let world = platform();
    let server = world.server("platform");
    server.apply(PERSON, &staged("hello")).unwrap();
    server.apply(PERSON, &stage("second")).unwrap();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, 1);
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    drop(process);
    let mut process = simulation().start(&world, Job::Run);
    process
        .network()
        .trouble("platform", usize::MAX, Trouble::Status(503, None), |request| {
            request.uri().path().ends_with("/configmaps")
        });
    process.drive(seconds(120), |_| false);
    process.network().heal();
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    assert_eq!(oracle::judge(&world), Vec::<String>::new());
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
