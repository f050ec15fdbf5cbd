//! A process that dies, panics or is cancelled in the middle.
use crate::{
    common::{config, greeter, order, seconds, simulation},
    stage::{HOSTS, LIMIT, QUIET, conditions, is_well, platform, served},
};
use openmcp_testkit::{Crash, Job, PERSON, Scenario, Trouble, oracle};

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
