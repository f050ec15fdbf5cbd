//! A platform with a service object, and what must be true of it after a fault.
use crate::common::{is_ready, live, order, simulation};
use openmcp_testkit::{Ended, Job, Process, World, oracle};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

/// The world, and what the process has.
type End = (BTreeMap<String, Value>, (usize, usize));

/// Longer than any back-off: then nothing is coming any more.
pub(crate) const QUIET: Duration = Duration::from_secs(300);
pub(crate) const LIMIT: Duration = Duration::from_secs(4 * 3600);
pub(crate) const HOSTS: [&str; 4] = ["platform", "onboarding", "workload", "mcp-team-one"];
pub(crate) const MCP: &str = "mcp-team-one";

/// The platform at rest, made once: to install definitions takes long.
pub(crate) fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| simulation().world());
    PLATFORM.fork()
}

/// A service object that is Ready, and the process that made it so.
pub(crate) fn served(count: i32) -> (World, Process) {
    let world = platform();
    let mut process = simulation().start(&world, Job::Run);
    order(&world, count);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    (world, process)
}

pub(crate) fn conditions(world: &World) -> String {
    live(world)["status"]["conditions"].to_string()
}

pub(crate) fn greeting(number: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("greeting-{number}"), "namespace": "greetings"}})
}

pub(crate) fn text(world: &World, number: i32) -> String {
    let found = world.server(MCP).live(&greeting(number)).unwrap_or_default();
    found["data"]["text"].as_str().unwrap_or_default().to_owned()
}

/// The world as it is when `count` were ordered without any fault.
pub(crate) fn fault_free(count: i32) -> End {
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
pub(crate) fn is_well(world: &World, process: &mut Process, count: i32) {
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
