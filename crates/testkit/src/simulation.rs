//! Scenarios, with a crash before and after every effect.
use crate::{
    Crash, Ended, Job, Process, Start, World,
    oracle::{self, BYSTANDER},
    world::must,
};
use serde_json::{Value, json};
use service_provider_runtime::ServiceProvider;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Nobody writes for this time: it is over.
const QUIET: Duration = Duration::from_secs(70);
/// Longer than any back-off: then nothing is coming any more.
const LIMIT: Duration = Duration::from_secs(3600);

type Does = Arc<dyn Fn(&World) + Send + Sync>;

/// What people do, one thing after the other; the world comes to rest after each.
#[derive(Clone)]
pub struct Scenario {
    name: String,
    acts: Vec<(String, Does)>,
}

impl Scenario {
    /// Nothing happens yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            acts: Vec::new(),
        }
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
    /// The requests of the process, to its crash or its end.
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
        self.run_in(&self.world(), scenario, crash, None)
    }

    fn run_in(
        &self,
        start: &World,
        scenario: &Scenario,
        crash: Option<Crash>,
        expected: Option<&Outcome>,
    ) -> Result<Outcome, Failure> {
        let world = start.fork();
        let mut run = Run {
            simulation: self,
            process: self.start(&world, Job::Run),
            world: &world,
            wrong: Vec::new(),
            first: None,
        };
        if let Some(crash) = crash {
            run.process.network().crash(crash);
        }
        run.settle("start");
        let start = (oracle::snapshot(&world), run.counts());
        for (what, does) in &scenario.acts {
            does(&world);
            run.settle(what);
        }
        let end = oracle::snapshot(&world);
        if crash.is_none() && end == start.0 && run.counts() != start.1 {
            let (before, after) = (start.1, run.counts());
            run.wrong
                .push(format!("I9: (tasks, watches) were {before:?} and are {after:?}"));
        }
        run.wrong.extend(oracle::judge(&world));
        if let Some(expected) = expected {
            run.wrong.extend(oracle::differences(&expected.end, &end));
        }
        let (effects, trace) = run.first_life();
        if run.wrong.is_empty() {
            return Ok(Outcome { effects, end });
        }
        Err(Failure {
            scenario: scenario.name.clone(),
            seed: self.seed,
            crash,
            wrong: run.wrong,
            trace,
        })
    }

    /// Runs a scenario without a crash, and then once with a crash before and once after each of its effects: it has
    /// to end alike. Returns the number of effects.
    pub fn crash_everywhere(&self, scenario: &Scenario) -> Result<usize, Failure> {
        let world = self.world();
        let expected = self.run_in(&world, scenario, None, None)?;
        for number in 1..=expected.effects {
            for crash in [Crash::Before(number), Crash::After(number)] {
                self.run_in(&world, scenario, Some(crash), Some(&expected))?;
            }
        }
        Ok(expected.effects)
    }
}

struct Run<'a, P> {
    simulation: &'a Simulation<P>,
    world: &'a World,
    process: Process,
    wrong: Vec<String>,
    /// Effects and requests of the first process, when it has died.
    first: Option<(usize, Vec<String>)>,
}

impl<P: ServiceProvider> Run<'_, P> {
    /// Lets the world come to rest; a process that dies is started again, as its Deployment would.
    fn settle(&mut self, after: &str) {
        loop {
            match self.process.settle(QUIET, LIMIT) {
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
            self.process = self.simulation.start(self.world, Job::Run);
        }
    }

    fn life(&self) -> (usize, Vec<String>) {
        (self.process.network().effects(), self.process.network().trace())
    }

    fn first_life(&self) -> (usize, Vec<String>) {
        self.first.clone().unwrap_or_else(|| self.life())
    }

    /// Tasks of the process, and open watches on all servers.
    fn counts(&self) -> (usize, usize) {
        let watches = self
            .world
            .servers()
            .iter()
            .map(|(_, server)| server.open_watches())
            .sum();
        (self.process.tasks(), watches)
    }
}
