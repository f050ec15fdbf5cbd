//! A provider on a simulated platform, and scenarios with a crash before and after every effect.
mod run;
mod scenario;

pub use scenario::{Scenario, children};

use crate::{Crash, Ended, Job, Process, Start, World, oracle::BYSTANDER, world::must};
use serde_json::{Value, json};
use service_provider_runtime::ServiceProvider;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Longer than any back-off: then nothing is coming any more.
const LIMIT: Duration = Duration::from_secs(3600);

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
}
