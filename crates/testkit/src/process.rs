//! One simulated process of a provider: a tokio runtime of its own with paused time. Dropping it is `kill -9`; not
//! driving it is SIGSTOP.
use crate::{Network, World, world::HOME};
use jiff::SignedDuration;
use openmcp_reconcile::{Environment, Fault, admin::Readiness, environment::seed_this_thread};
use service_provider_runtime::{Process as Provider, ServiceProvider};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Everybody else takes this time to react.
const REACTION: Duration = Duration::from_millis(50);

/// What is waited for is looked at this often, when nothing happens.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at what a process has.
const GLANCE: Duration = Duration::from_millis(700);

/// Somebody who asks for an explanation has it by then, or never.
const EXPLAINED: Duration = Duration::from_secs(600);

/// How a drive ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// What was waited for is there.
    Reached,
    /// The time is over.
    OutOfTime,
    /// The process crashed, as it was told to.
    Crashed,
    /// The process ended by itself.
    Exited(Result<(), Fault>),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// `init`
    Init,
    /// `run`
    Run,
    /// `run`, as one of several replicas.
    RunElected,
}

/// How a process is started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// What it does.
    pub job: Job,
    /// The pod's name.
    pub pod: &'a str,
    /// For jitter and latency.
    pub seed: u64,
    /// How far its wall clock is off.
    pub skew: SignedDuration,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self {
            job: Job::Run,
            pod: "pod",
            seed: 0,
            skew: SignedDuration::ZERO,
        }
    }
}

/// See the module.
pub struct Process {
    world: World,
    network: Network,
    runtime: Runtime,
    task: JoinHandle<Result<(), Fault>>,
    shutdown: CancellationToken,
    /// How far its wall clock is off.
    skew: Arc<Mutex<SignedDuration>>,
    /// The world's time when it was driven last.
    seen: Duration,
    /// What jitter follows from when it is driven next: other processes may have used this thread meanwhile.
    seed: u64,
}

impl Process {
    /// Starts a process. Nothing happens before it is driven.
    pub fn start<P: ServiceProvider>(world: &World, provider: P, start: Start<'_>) -> std::io::Result<Self> {
        Self::of(
            world,
            start,
            false,
            async move |process: Provider, stop| match start.job {
                Job::Init => process.init::<P>().await,
                Job::Run | Job::RunElected => process.run(provider, stop).await,
            },
        )
    }

    /// What `<provider> explain <namespace>/<name>` prints: a process that only looks.
    pub fn explain<P: ServiceProvider>(
        world: &World,
        provider: P,
        namespace: &str,
        name: &str,
    ) -> Result<String, Fault> {
        let (of, told) = (
            (namespace.to_owned(), name.to_owned()),
            Arc::<Mutex<String>>::default(),
        );
        let tells = told.clone();
        let tell = async move |process: Provider, _stop| {
            let text = process.explain(provider, &of.0, &of.1).await?;
            *tells.lock().unwrap_or_else(PoisonError::into_inner) = text;
            Ok(())
        };
        let failed = |error| Fault::bug(format!("no process can be made: {error}"));
        let mut process = Self::of(world, Start::default(), true, tell).map_err(failed)?;
        match process.drive(EXPLAINED, |_| false) {
            Ended::Exited(ended) => ended?,
            ended => return Err(Fault::bug(format!("it does not come to an end: {ended:?}"))),
        }
        let text = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(text)
    }

    fn of<F>(
        world: &World,
        start: Start<'_>,
        only_looks: bool,
        does: impl FnOnce(Provider, CancellationToken) -> F + Send + 'static,
    ) -> std::io::Result<Self>
    where
        F: Future<Output = Result<(), Fault>> + Send,
    {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let network = world.network(start.pod, start.seed);
        let (time, skew) = (world.time().clone(), Arc::new(Mutex::new(start.skew)));
        let off = skew.clone();
        let environment = Environment::new(network.clone(), move || {
            time.now() + *off.lock().unwrap_or_else(PoisonError::into_inner)
        });
        let environment = match only_looks {
            true => environment.read_only(),
            false => environment,
        };
        let shutdown = CancellationToken::new();
        let (of, stop, pod) = (world.clone(), shutdown.clone(), start.pod.to_owned());
        let leader_elect = start.job == Job::RunElected;
        let task = runtime.spawn(async move {
            let process = Provider {
                provider: of.provider().to_owned(),
                namespace: HOME.to_owned(),
                pod,
                leader_elect,
                platform: of.connect(&environment).await?,
                readiness: Readiness::default(),
            };
            does(process, stop).await
        });
        Ok(Self {
            seen: world.time().elapsed(),
            seed: start.seed,
            world: world.clone(),
            network,
            runtime,
            task,
            shutdown,
            skew,
        })
    }

    /// Its network, for faults.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.shutdown.cancel();
    }

    /// Its wall clock jumps.
    pub fn jump(&self, by: SignedDuration) {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// How many tasks it has.
    pub fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Its tasks, and the open watches on all servers, as they are most of the time: a watch is closed for a moment when
    /// it is renewed. Takes some seconds of simulated time.
    pub fn footprint(&mut self) -> (usize, usize) {
        let mut seen = BTreeMap::new();
        for _ in 0..9 {
            self.drive(GLANCE, |_| false);
            let servers = self.world.servers();
            let watches = servers.iter().map(|(_, server)| server.open_watches()).sum();
            *seen.entry((self.tasks(), watches)).or_insert(0) += 1;
        }
        let most = seen.into_iter().max_by_key(|(_, times)| *times);
        most.map(|(footprint, _)| footprint).unwrap_or_default()
    }

    /// Lets it run, and the world with it, until something is so; at most for `limit` of simulated time.
    pub fn drive(&mut self, limit: Duration, until: impl FnMut(&World) -> bool) -> Ended {
        let Self {
            world,
            network,
            runtime,
            task,
            seen,
            seed,
            ..
        } = self;
        seed_this_thread(*seed);
        *seed = seed.wrapping_mul(31).wrapping_add(1);
        let time = world.time();
        let ended = runtime.block_on(async {
            // Its clock went on while it was stopped.
            tokio::time::advance(time.elapsed().saturating_sub(*seen)).await;
            time.enter();
            let ended = run(world, network, task, limit, until).await;
            // Here and not after it: only in here is the clock the simulated one.
            time.leave();
            ended
        });
        *seen = time.elapsed();
        ended
    }

    /// Lets it run until nobody has written anything for `quiet`; at most for `limit`.
    pub fn settle(&mut self, quiet: Duration, limit: Duration) -> Ended {
        let time = self.world.time().clone();
        let mut last = (self.world.version(), time.elapsed());
        self.drive(limit, move |world| {
            if world.version() != last.0 {
                last = (world.version(), time.elapsed());
            }
            time.elapsed().saturating_sub(last.1) >= quiet
        })
    }
}

async fn run(
    world: &World,
    network: &Network,
    task: &mut JoinHandle<Result<(), Fault>>,
    limit: Duration,
    mut until: impl FnMut(&World) -> bool,
) -> Ended {
    let end = Instant::now() + limit;
    let mut died = network.died();
    let mut seen = 0;
    loop {
        if world.version() != seen {
            while world.step() {}
            seen = world.version();
        }
        if *died.borrow_and_update() {
            return Ended::Crashed;
        }
        if until(world) {
            return Ended::Reached;
        }
        if Instant::now() >= end {
            return Ended::OutOfTime;
        }
        let look = end.min(Instant::now() + LOOK);
        let changed = async {
            world.changed().await;
            tokio::time::sleep(REACTION).await;
        };
        tokio::select! {
            biased;
            _ = died.changed() => {}
            ended = &mut *task => return Ended::Exited(exited(ended)),
            () = changed => {}
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

fn exited(ended: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    match ended {
        Ok(ended) => ended,
        Err(error) => Err(Fault::bug(format!("the process died: {error}"))),
    }
}
