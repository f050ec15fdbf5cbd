//! One run of a scenario, the states that a crash would leave behind on its way, and its judgement.
use super::{
    Failure, LIMIT, Outcome, Simulation,
    scenario::{Act, Scenario},
};
use crate::{Crash, Ended, Job, Process, World, oracle};
use service_provider_runtime::ServiceProvider;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Nobody writes for this time: the next one may act.
const PAUSE: Duration = Duration::from_secs(10);
/// Nobody writes for this time: it is over (I2).
const QUIET: Duration = Duration::from_secs(70);
impl<P: ServiceProvider> Simulation<P> {
    /// Runs a scenario, with a crash or without, and judges it.
    pub fn run(&self, scenario: &Scenario, crash: Option<Crash>) -> Result<Outcome, Failure> {
        let mut run = Run::new(self, self.world());
        if let Some(crash) = crash {
            run.process.network().crash(crash);
        }
        run.settle("start", PAUSE);
        run.play(&scenario.acts);
        run.end(scenario, crash, None)
    }

    /// Runs a scenario without a crash, and then goes on with another process from every state in which a crash
    /// before or after an effect would have left the world: each time it has to end alike. Returns the number of
    /// effects.
    ///
    /// A process leaves nothing behind but what it wrote: so states that no write lies between are tried once.
    pub fn crash_everywhere(&self, scenario: &Scenario) -> Result<usize, Failure> {
        let mut run = Run::new(self, self.world());
        let states = States::default();
        let (collected, world, from) = (states.clone(), run.world.clone(), scenario.from);
        run.process
            .network()
            .look_at_effects(move |at| collected.add(at, from, &world));
        run.settle("start", PAUSE);
        let start = (oracle::snapshot(&run.world), run.process.footprint());
        for act in &scenario.acts {
            states.next_act();
            run.play(std::slice::from_ref(act));
        }
        run.settle("the end", QUIET);
        let found = run.process.footprint();
        if oracle::snapshot(&run.world) == start.0 && found != start.1 {
            let before = start.1;
            run.wrong
                .push(format!("I9: (tasks, watches) were {before:?} and are {found:?}"));
        }
        let expected = run.end(scenario, None, None)?;
        for state in states.take() {
            let left = scenario.acts.get(state.acts..).unwrap_or_default();
            if left.first().is_some_and(|next| next.at_once) {
                let mut run = Run::new(self, state.world.fork());
                run.play(left);
                run.end(scenario, Some(state.at), Some(&expected))?;
            }
            let mut run = Run::new(self, state.world);
            run.settle("restart", PAUSE);
            run.play(left);
            run.end(scenario, Some(state.at), Some(&expected))?;
        }
        Ok(expected.effects)
    }
}

/// The world when a process could have crashed.
struct State {
    at: Crash,
    /// How many acts were begun.
    acts: usize,
    world: World,
}

/// The states of one run, each once.
#[derive(Clone, Default)]
struct States(Arc<Mutex<(usize, Vec<State>)>>);

impl States {
    fn held(&self) -> MutexGuard<'_, (usize, Vec<State>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_act(&self) {
        self.held().0 += 1;
    }

    fn add(&self, at: Crash, from: usize, world: &World) {
        let mut held = self.held();
        let acts = held.0;
        if from > 0 && acts <= from {
            return;
        }
        let known = |last: &State| last.acts == acts && last.world.version() == world.version();
        if held.1.last().is_none_or(|last| !known(last)) {
            let world = world.fork();
            held.1.push(State { at, acts, world });
        }
    }

    fn take(&self) -> Vec<State> {
        std::mem::take(&mut self.held().1)
    }
}

struct Run<'a, P> {
    simulation: &'a Simulation<P>,
    world: World,
    process: Process,
    wrong: Vec<String>,
    /// Effects and requests of the first process, when it has died.
    first: Option<(usize, Vec<String>)>,
}

impl<'a, P: ServiceProvider> Run<'a, P> {
    fn new(simulation: &'a Simulation<P>, world: World) -> Self {
        Self {
            process: simulation.start(&world, Job::Run),
            simulation,
            world,
            wrong: Vec::new(),
            first: None,
        }
    }

    fn play(&mut self, acts: &[Act]) {
        for act in acts {
            (act.does)(&self.world);
            self.settle(&act.what, PAUSE);
        }
    }

    /// Lets the world come to rest; a process that dies is started again, as its Deployment would.
    fn settle(&mut self, after: &str, quiet: Duration) {
        loop {
            match self.process.settle(quiet, LIMIT) {
                Ended::Reached => return,
                Ended::Crashed => {}
                Ended::Exited(ended) => self
                    .wrong
                    .push(format!("after {after:?} the process ended: {ended:?}")),
                Ended::OutOfTime => {
                    self.wrong
                        .push(format!("I2: after {after:?} it does not come to rest"));
                    return;
                }
            }
            let life = self.life();
            self.first.get_or_insert(life);
            if self.wrong.len() > 10 {
                return;
            }
            self.process = self.simulation.start(&self.world, Job::Run);
        }
    }

    fn life(&self) -> (usize, Vec<String>) {
        (self.process.network().effects(), self.process.network().trace())
    }

    /// The judgement.
    fn end(
        mut self,
        scenario: &Scenario,
        crash: Option<Crash>,
        expected: Option<&Outcome>,
    ) -> Result<Outcome, Failure> {
        self.settle("the end", QUIET);
        let end = oracle::snapshot(&self.world);
        let footprint = self.process.footprint();
        self.wrong.extend(oracle::judge(&self.world));
        if let Some(expected) = expected {
            self.wrong.extend(oracle::differences(&expected.end, &end));
            if footprint != expected.footprint {
                let usual = expected.footprint;
                self.wrong.push(format!(
                    "I9: (tasks, watches) are {footprint:?}, and {usual:?} without a crash"
                ));
            }
        }
        let life = self.life();
        let (effects, trace) = self.first.take().unwrap_or(life);
        if self.wrong.is_empty() {
            return Ok(Outcome {
                effects,
                end,
                footprint,
            });
        }
        Err(Failure {
            scenario: scenario.name.clone(),
            seed: self.simulation.seed,
            crash,
            wrong: self.wrong,
            trace,
        })
    }
}
