//! A pass that runs out of its time is told on its object, and holds up nobody else.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{LIMIT, QUIET, greeter, is_ready, live, order, seconds, simulation};
use openmcp_testkit::{Ended, Job, PERSON, Trouble, World};

const MCP: &str = "mcp-team-one";

#[test]
fn a_pass_that_takes_longer_than_its_deadline_is_told_on_its_object_and_others_go_on() {
    let simulation = simulation().control_plane("others", "one");
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    // Each answer comes in time, all of them together do not.
    process
        .network()
        .trouble(MCP, usize::MAX, Trouble::Slow(seconds(25)), |_| true);
    let onboarding = world.server("onboarding");
    let theirs = greeter("others", "one", 1);
    order(&world, 1);
    onboarding.apply(PERSON, &theirs).unwrap();
    let told = |world: &World| live(world)["status"].to_string().contains("DeadlineExceeded");
    assert_eq!(process.drive(seconds(150), told), Ended::Reached);
    process.drive(seconds(3), |_| false);
    let (slow, others) = (live(&world), onboarding.live(&theirs).unwrap());
    assert_eq!(others["status"]["phase"], "Ready", "{others}");
    let conditions = slow["status"]["conditions"].to_string();
    assert!(
        conditions.contains("Greeter team/one took longer than 60s"),
        "{slow}"
    );
    assert!(!is_ready(&world));
    let events = onboarding.objects("events.k8s.io/v1", "Event");
    let told = events.iter().filter(|event| {
        let note = event["note"].as_str().unwrap_or_default();
        event["regarding"]["namespace"] == "team" && note.starts_with("DeadlineExceeded: ")
    });
    assert_eq!(told.count(), 1, "{events:#?}");
    process.network().heal();
    assert_eq!(process.drive(LIMIT, is_ready), Ended::Reached);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
}
