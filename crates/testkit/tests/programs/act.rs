//! What a program is made of, and how a seed becomes one.
use openmcp_testkit::{Trouble, WatchTrouble};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::time::Duration;

pub(crate) const TENANTS: [&str; 2] = ["team", "others"];
pub(crate) const HOSTS: [&str; 5] = [
    "platform",
    "onboarding",
    "workload",
    "mcp-team-one",
    "mcp-others-one",
];

/// The host of a tenant's ControlPlane.
pub(crate) fn mcp(tenant: &str) -> String {
    format!("mcp-{tenant}-one")
}

/// What somebody does to a child.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    Changed,
    Deleted,
    /// Our label is removed, so that it leaves the watch.
    Unlabelled,
    /// Another field manager takes a field by force.
    Seized,
}

/// One act. What cannot be done when its turn comes is not done.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A new service object, or another spec of one.
    Order(&'static str, i32),
    Withdraw(&'static str),
    Configure {
        text: &'static str,
        staged: bool,
    },
    /// The input of the second stage.
    Stage(Option<&'static str>),
    Harm(&'static str, usize, Harm),
    LoseNamespace(&'static str),
    /// An object of a kind that the service brings: it blocks the deletion.
    Gadget(&'static str, bool),
    /// Somebody's own object where a child is, was or will be.
    Plant(&'static str, i32),
    /// Somebody's own object that looks like ours.
    Pretend(&'static str),
    Kill,
    KillBefore(usize),
    KillAfter(usize),
    /// Of the next requests to a host that change something: how many, one of how many.
    Trouble(&'static str, Trouble, usize, usize),
    Down(&'static str),
    Watches(&'static str, WatchTrouble),
    CloseWatches(&'static str),
    Compact(&'static str),
    Lag(&'static str),
    Rotate(&'static str),
    Heal,
    Wait(Duration),
}

/// The program of a seed.
pub(crate) fn program(seed: u64) -> Vec<Act> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut acts = vec![Act::Order("team", random.random_range(0..4))];
    for _ in 0..random.random_range(3..11) {
        acts.push(Act::Wait(pause(&mut random)));
        acts.push(act(&mut random));
    }
    acts
}

/// From the middle of a request to longer than most deadlines.
fn pause(random: &mut StdRng) -> Duration {
    let millis = *[3, 15, 60, 250, 1000, 15_000, 90_000]
        .choose(random)
        .unwrap_or(&1);
    Duration::from_millis(random.random_range(0..2 * millis))
}

fn act(random: &mut StdRng) -> Act {
    let tenant = *TENANTS.choose(random).unwrap_or(&"team");
    let host = *HOSTS.choose(random).unwrap_or(&"platform");
    match random.random_range(0..100) {
        0..16 => Act::Order(tenant, random.random_range(-1..4)),
        16..24 => Act::Withdraw(tenant),
        24..30 => Act::Configure {
            text: ["hello", "bye", "panic"].choose(random).unwrap_or(&"hello"),
            staged: random.random(),
        },
        30..34 => Act::Stage([None, Some("second")].choose(random).copied().flatten()),
        34..46 => Act::Harm(tenant, random.random_range(0..8), harm(random)),
        46..48 => Act::LoseNamespace(tenant),
        48..52 => Act::Gadget(tenant, random.random()),
        52..56 => Act::Plant(tenant, random.random_range(0..4)),
        56..58 => Act::Pretend(tenant),
        58..61 => Act::Kill,
        61..65 => Act::KillBefore(random.random_range(1..30)),
        65..69 => Act::KillAfter(random.random_range(1..30)),
        69..78 => Act::Trouble(
            host,
            trouble(random),
            random.random_range(1..20),
            random.random_range(1..4),
        ),
        78..82 => Act::Down(host),
        82..87 => Act::Watches(host, watch_trouble(random)),
        87..89 => Act::CloseWatches(host),
        89..91 => Act::Compact(host),
        91..93 => Act::Lag(host),
        93..96 => Act::Rotate(host),
        _ => Act::Heal,
    }
}

fn harm(random: &mut StdRng) -> Harm {
    match random.random_range(0..8) {
        0..3 => Harm::Changed,
        3..6 => Harm::Deleted,
        6 => Harm::Unlabelled,
        _ => Harm::Seized,
    }
}

fn trouble(random: &mut StdRng) -> Trouble {
    match random.random_range(0..8) {
        0 => Trouble::Refused,
        1 => Trouble::Silent,
        2 => Trouble::AnswerLost,
        3 => Trouble::Truncated,
        4 => Trouble::Slow(Duration::from_secs(random.random_range(1..60))),
        5 => Trouble::Status(429, Some(random.random_range(1..10))),
        6 => Trouble::Status(503, None),
        _ => Trouble::Status(500, None),
    }
}

fn watch_trouble(random: &mut StdRng) -> WatchTrouble {
    match random.random_range(0..7) {
        0 => WatchTrouble::NoBookmarks,
        1 => WatchTrouble::Missed(random.random_range(1..4)),
        2 => WatchTrouble::Doubled,
        3 => WatchTrouble::Reordered,
        4 => WatchTrouble::Stalled,
        // Beyond the time in which a watch is renewed, too.
        _ => WatchTrouble::Late(Duration::from_millis(random.random_range(1..20_000))),
    }
}
