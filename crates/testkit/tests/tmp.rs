#![allow(clippy::unwrap_used, clippy::panic)]
mod common;
use common::{greeter, simulation};
use openmcp_testkit::Scenario;
#[test]
fn timing() {
    let s = simulation();
    let t = std::time::Instant::now();
    for _ in 0..5 {
        drop(s.world());
    }
    println!("world {:?}", t.elapsed() / 5);
    let one = greeter("team", "one", 2);
    let scenario = Scenario::new("create and delete")
        .apply("onboarding", one.clone())
        .delete("onboarding", &one);
    let t = std::time::Instant::now();
    println!("{}", s.crash_everywhere(&scenario).unwrap());
    println!("all {:?}", t.elapsed());
    let t = std::time::Instant::now();
    for _ in 0..5 {
        println!("{}", s.run(&scenario, None).unwrap().effects);
    }
    println!("run {:?}", t.elapsed() / 5);
}
