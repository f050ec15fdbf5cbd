//! One run of a program.
mod judge;
mod people;

use super::{
    act::{Act, HOSTS, TENANTS},
    common::{Provider, simulation},
    log,
};
use openmcp_testkit::{Crash, Ended, Job, Process, Server, Simulation, World};
use people::namespace;
use serde_json::{Value, json};
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Longer than any back-off, and than a watch lingers.
const QUIET: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const GREETINGS: &str = "greetings";

/// What is wrong, and all requests of the provider.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) wrong: Vec<String>,
    pub(crate) trace: Vec<String>,
}

fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| two_tenants().world());
    PLATFORM.fork()
}

fn two_tenants() -> Simulation<Provider> {
    simulation().control_plane("others", "one")
}

/// An object that people made: where, and which.
type Theirs = (Server, Value);

struct Run {
    simulation: Simulation<Provider>,
    world: World,
    process: Process,
    theirs: Vec<Theirs>,
    wrong: Vec<String>,
    /// The requests of the processes that ended.
    trace: Vec<String>,
}

/// Runs a program, and then judges. Returns the requests of the provider.
pub(crate) fn play(seed: u64, acts: &[Act]) -> Result<Vec<String>, Failure> {
    let (ended, told) = log::unrecorded(|| play_and_judge(seed, acts));
    let mut wrong: Vec<String> = told
        .into_iter()
        .filter(|line| !line.contains("ConfigMap default/pretender"))
        .collect();
    match ended {
        Ok(trace) if !wrong.is_empty() => Err(Failure { wrong, trace }),
        Err(mut failure) => {
            failure.wrong.append(&mut wrong);
            Err(failure)
        }
        ended => ended,
    }
}

fn play_and_judge(seed: u64, acts: &[Act]) -> Result<Vec<String>, Failure> {
    let (simulation, world) = (two_tenants().seed(seed), platform());
    let mut run = Run {
        process: simulation.start(&world, Job::Run),
        simulation,
        world,
        theirs: Vec::new(),
        wrong: Vec::new(),
        trace: Vec::new(),
    };
    for act in acts {
        run.act(act);
    }
    run.make_peace();
    run.rest();
    run.judge();
    if run.wrong.is_empty() {
        run.take_everything_back();
    }
    let Run { wrong, mut trace, .. } = run;
    trace.extend(run.process.network().trace());
    match wrong.is_empty() {
        true => Ok(trace),
        false => Err(Failure { wrong, trace }),
    }
}

impl Run {
    fn act(&mut self, act: &Act) {
        let (world, network) = (self.world.clone(), self.process.network().clone());
        match act.clone() {
            Act::Wait(time) => self.drive(time),
            Act::Kill => self.restart(),
            Act::KillBefore(k) => network.crash(Crash::Before(network.effects() + k)),
            Act::KillAfter(k) => network.crash(Crash::After(network.effects() + k)),
            Act::Trouble(host, trouble, times, every) => {
                let count = AtomicUsize::new(0);
                network.trouble(host, times, trouble, move |request| {
                    request.method() != "GET" && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
                });
            }
            Act::Down(host) => network.down(host),
            Act::Watches(host, trouble) => network.trouble_watches(host, trouble),
            Act::CloseWatches(host) => network.close_watches(host),
            Act::Compact(host) => world.server(host).compact(),
            Act::Lag(host) => world.server(host).fall_behind(),
            Act::Rotate(host) => world.rotate_credentials(host),
            Act::Heal => self.heal(),
            // People are refused at times: what is not there cannot be changed.
            people => drop(self.people(&people)),
        }
    }

    /// Lets it run; whoever dies is started again, as its Deployment would.
    fn drive(&mut self, time: Duration) {
        if self.alive(|process| process.drive(time, |_| false)) {
            self.look_after_theirs();
        } else {
            self.drive(time);
        }
    }

    /// Whether the process lives after it has done something.
    fn alive(&mut self, does: impl FnOnce(&mut Process) -> Ended) -> bool {
        match does(&mut self.process) {
            Ended::Exited(ended) => self.wrong.push(format!("the process ended: {ended:?}")),
            Ended::Crashed => {}
            Ended::Reached | Ended::OutOfTime => return true,
        }
        self.restart();
        self.wrong.len() > 10
    }

    fn restart(&mut self) {
        self.trace.extend(self.process.network().trace());
        self.trace.push("a new process".to_owned());
        self.process = self.simulation.start(&self.world, Job::Run);
    }

    fn rest(&mut self) {
        loop {
            let mut ended = None;
            if self.alive(|process| ended.insert(process.settle(QUIET, LIMIT)).clone()) {
                if ended == Some(Ended::OutOfTime) {
                    self.wrong.push("I2: it does not come to rest".to_owned());
                }
                return self.look_after_theirs();
            }
        }
    }

    /// I4: what people made goes only with its namespace, and nobody else writes it.
    fn look_after_theirs(&mut self) {
        let Self { theirs, wrong, .. } = self;
        theirs.retain(|(server, object)| {
            let terminates = server.live(&namespace()).is_none_or(|live| {
                live["metadata"]["uid"] != "" && !live["metadata"]["deletionTimestamp"].is_null()
            });
            match server.live(object) {
                Some(live) if live == *object => return true,
                Some(live) if live["metadata"]["uid"] == object["metadata"]["uid"] && !terminates => {
                    wrong.push(format!("I4: somebody wrote what is not ours: {live}"));
                }
                _ if !terminates && object["metadata"]["namespace"] == GREETINGS => {
                    // Its namespace may have been made anew meanwhile.
                    let made_after = server.live(&namespace()).is_some_and(|live| {
                        live["metadata"]["creationTimestamp"].as_str()
                            > object["metadata"]["creationTimestamp"].as_str()
                    });
                    if !made_after {
                        wrong.push(format!("I4: somebody deleted what is not ours: {object}"));
                    }
                }
                None if object["metadata"]["namespace"] != GREETINGS => {
                    wrong.push(format!("I4: somebody deleted what is not ours: {object}"));
                }
                _ => {}
            }
            false
        });
    }

    fn heal(&self) {
        self.process.network().heal();
        for (_, server) in self.world.servers() {
            server.catch_up();
        }
    }

    /// All faults are over, people take away what is in the way, and what watches missed is listed again.
    fn make_peace(&mut self) {
        self.look_after_theirs();
        self.heal();
        for (server, object) in std::mem::take(&mut self.theirs) {
            drop(server.delete(&object));
        }
        for tenant in TENANTS {
            self.people(&Act::Gadget(tenant, false));
            if self.ordered(tenant).is_some_and(|count| count < 0) {
                self.people(&Act::Order(tenant, 1));
            }
        }
        if self.configured().0 == "panic" {
            let staged = self.configured().1;
            self.people(&Act::Configure {
                text: "hello",
                staged,
            });
        }
        if self.configured().1 && self.stage().is_none() {
            self.people(&Act::Stage(Some("second")));
        }
        let touch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}});
        for host in HOSTS {
            let server = self.world.server(host);
            server.create(&touch).unwrap();
            server.delete(&touch).unwrap();
            server.compact();
            self.process.network().close_watches(host);
        }
    }
}
