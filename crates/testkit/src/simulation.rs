//! Scenarios, with a crash before and after every effect.
use crate::{
    Crash, Ended, Job, Process, Start, World,
    oracle::{self, BYSTANDER},
    world::must,
};
use serde_json::{Value, json};
use service_provider_runtime::ServiceProvider;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Nobody writes for this time: the next one may act.
const PAUSE: Duration = Duration::from_secs(10);
/// Nobody writes for this time: it is over (I2).
const QUIET: Duration = Duration::from_secs(70);
/// Longer than any back-off: then nothing is coming any more.
const LIMIT: Duration = Duration::from_secs(3600);

type Does = Arc<dyn Fn(&World) + Send + Sync>;

/// What people do, one thing after the other; the world comes to rest after each.
#[derive(Clone)]
pub struct Scenario {
    name: String,
    acts: Vec<(String, Does)>,
    /// The acts before are not crashed in.
    from: usize,
}

impl Scenario {
    /// Nothing happens yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            acts: Vec::new(),
            from: 0,
        }
    }

    /// What was done so far is given: [`Simulation::crash_everywhere`] crashes in what follows.
    #[must_use]
    pub fn given(mut self) -> Self {
        self.from = self.acts.len();
        self
    }

    /// Then somebody does something.
    #[must_use]
    pub fn then(mut self, what: &str, does: impl Fn(&World) + Send + Sync + 'static) -> Self {
        self.acts.push((what.to_owned(), Arc::new(does)));
        self
    }

    /// Then an object is made or changed on a server.
    #[must_use]
    pub fn apply(self, host: &str, object: Value) -> Self {
        let (host, what) = (host.to_owned(), format!("apply {}", words(&object)));
        self.then(&what, move |world| {
            drop(must(world.server(&host).apply(crate::PERSON, &object)))
        })
    }

    /// Then an object is deleted.
    #[must_use]
    pub fn delete(self, host: &str, object: &Value) -> Self {
        let (host, what, object) = (
            host.to_owned(),
            format!("delete {}", words(object)),
            object.clone(),
        );
        self.then(&what, move |world| {
            drop(must(world.server(&host).delete(&object)))
        })
    }

    /// Then all children are tampered with: data of ConfigMaps, replicas of Deployments; ConfigMaps, Secrets and
    /// ServiceAccounts are deleted next.
    #[must_use]
    pub fn drift(self) -> Self {
        self.then("tamper with the children", |world| {
            for (server, child) in children(world) {
                let patch = match child["kind"].as_str() {
                    Some("ConfigMap") => json!({"data": first_key(&child["data"], "tampered")}),
                    Some("Deployment" | "StatefulSet") => json!({"spec": {"replicas": 7}}),
                    _ => continue,
                };
                must(server.merge(&child, &patch));
            }
        })
        .then("delete children", |world| {
            for (server, child) in children(world) {
                if matches!(
                    child["kind"].as_str(),
                    Some("ConfigMap" | "Secret" | "ServiceAccount")
                ) {
                    must(server.delete(&child));
                }
            }
        })
    }
}

fn words(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{} {}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

fn first_key(data: &Value, value: &str) -> Value {
    let key = data
        .as_object()
        .and_then(|data| data.keys().next().cloned())
        .unwrap_or_default();
    json!({key: value})
}

/// What was made for service objects, on all clusters but the platform.
pub fn children(world: &World) -> Vec<(crate::Server, Value)> {
    let mut all = Vec::new();
    for (host, server) in world.servers() {
        if host == "platform" || host == "onboarding" {
            continue;
        }
        for (_, object) in server.everything() {
            if !object["metadata"]["labels"][openmcp_api::keys::labels::RUNTIME_OWNER].is_null() {
                all.push((server.clone(), (*object).clone()));
            }
        }
    }
    all
}

/// What went wrong, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// For [`Simulation::seed`].
    pub seed: u64,
    /// Where the process crashed.
    pub crash: Option<Crash>,
    /// One sentence each.
    pub wrong: Vec<String>,
    /// The requests of the process that went on after the crash; of the only one, if there was none.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "scenario {:?}, seed {}, crash {:?}:",
            self.scenario, self.seed, self.crash
        )?;
        for wrong in &self.wrong {
            writeln!(f, "- {wrong}")?;
        }
        writeln!(f, "requests:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The effects of the first process.
    pub effects: usize,
    /// The end of the world.
    pub end: BTreeMap<String, Value>,
    /// Tasks and watches in the end.
    pub footprint: (usize, usize),
}

/// A provider on a simulated platform.
///
/// See the crate's documentation for an example.
#[derive(Clone)]
pub struct Simulation<P> {
    name: String,
    make: Arc<dyn Fn() -> P + Send + Sync>,
    objects: Vec<(String, Value)>,
    control_planes: Vec<(String, String)>,
    seed: u64,
}

impl<P: ServiceProvider> Simulation<P> {
    /// A platform with the provider `name`, which `make` makes for each of its processes.
    pub fn new(name: &str, make: impl Fn() -> P + Send + Sync + 'static) -> Self {
        Self {
            name: name.to_owned(),
            make: Arc::new(make),
            objects: Vec::new(),
            control_planes: Vec::new(),
            seed: 1,
        }
    }

    /// An object on the platform from the start, such as the ProviderConfig.
    #[must_use]
    pub fn on_platform(mut self, object: Value) -> Self {
        self.objects.push(("platform".to_owned(), object));
        self
    }

    /// A tenant's ControlPlane from the start. Its host is `mcp-<tenant>-<name>`.
    #[must_use]
    pub fn control_plane(mut self, tenant: &str, name: &str) -> Self {
        self.control_planes.push((tenant.to_owned(), name.to_owned()));
        self
    }

    /// Another jitter and latency.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The platform with the provider's definitions installed and its first objects, at rest.
    ///
    /// # Panics
    /// If `init` fails.
    pub fn world(&self) -> World {
        let world = World::new(&self.name);
        let mut init = self.start(&world, Job::Init);
        let ended = init.drive(LIMIT, |_| false);
        assert_eq!(
            ended,
            Ended::Exited(Ok(())),
            "init: {:#?}",
            init.network().trace()
        );
        drop(init);
        for (tenant, name) in &self.control_planes {
            world.add_control_plane(tenant, name);
        }
        for (host, object) in &self.objects {
            must(world.server(host).create(object));
        }
        for (_, server) in world.servers() {
            must(server.create(&json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": BYSTANDER, "namespace": "default"}, "data": {"k": "v"},
            })));
        }
        while world.step() {}
        world
    }

    /// A process of the provider.
    pub fn start(&self, world: &World, job: Job) -> Process {
        let start = Start {
            job,
            seed: self.seed,
            ..Start::default()
        };
        must(Process::start(world, (self.make)(), start))
    }

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
            let mut run = Run::new(self, state.world);
            run.settle("restart", PAUSE);
            run.play(scenario.acts.get(state.acts..).unwrap_or_default());
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

    fn play(&mut self, acts: &[(String, Does)]) {
        for (what, does) in acts {
            does(&self.world);
            self.settle(what, PAUSE);
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
