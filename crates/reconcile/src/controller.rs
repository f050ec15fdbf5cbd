//! Workers: take keys from the queue, run the reconciler with a deadline, contain panics, back off.
//!
//! Knows the queue and the clock; knows nothing of what a reconciler does.
mod pass;

use crate::{
    Environment, Fault, Lane,
    environment::Lent,
    metrics::{self, ControllerMetrics},
    process,
    queue::{Bounds, Finish, Job, Queue, Tenanted},
};
#[cfg(test)]
pub(crate) use pass::in_lane;
use pass::{REPORT_GRACE, Running, pass};
pub(crate) use pass::{lane, woken};
use std::{
    future::Future,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// What one reconcile is about: an object of a kind on the controller's root cluster. Cheap to clone: there may be tens
/// of thousands, each held in many places, and clones share its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<Named>);

/// The names of a [`Key`].
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// The kind's name, which tells apart keys of one controller with several root kinds.
    pub kind: &'static str,
    /// Empty for cluster-scoped objects. It is also the tenant for fairness.
    pub namespace: Box<str>,
    /// The object's name.
    pub name: Box<str>,
}

impl Key {
    /// A key; `namespace` is empty for cluster-scoped kinds.
    pub fn new(kind: &'static str, namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Named {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }))
    }
}

impl Deref for Key {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.0
    }
}

impl Tenanted for Key {
    fn tenant(&self) -> &str {
        &self.namespace
    }
}
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// How a reconcile ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until an event wakes the key.
    Settled,
    /// Time itself is an input (a token's renewal, a ttl): look again then. Never used for polling.
    Wake(Duration),
}

/// The one thing that a controller's author writes.
pub trait Reconciler: Send + Sync + 'static {
    /// Brings the world to what the object named by `key` wants. Level-based, idempotent, crash-safe at every
    /// await. Is called for absent objects too. Never concurrently for one key.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Called with the fault when a pass panicked or ran out of time, so that it could not report it itself: the
    /// place to write a condition and an Event. Has five seconds; what it does with them changes nothing else.
    fn report(&self, _key: &Key, _fault: &Fault) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Bounds of a controller.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Reconciles at once.
    pub workers: usize,
    /// After this a reconcile is cancelled and counted as [`crate::fault::Class::Unreachable`].
    pub deadline: Duration,
}
impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 16,
            deadline: Duration::from_secs(60),
        }
    }
}

/// A queue and its workers.
///
/// ```no_run
/// use openmcp_reconcile::{Controller, Fault, Key, Lane, Limits, Outcome, Reconciler};
/// use std::sync::Arc;
///
/// struct Hello;
/// impl Reconciler for Hello {
///     async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
///         println!("{key}");
///         Ok(Outcome::Settled)
///     }
/// }
/// # async fn example() {
/// let controller = Controller::new("hello", Limits::default());
/// controller.handle().wake(Key::new("Job", "default", "x"), Lane::Urgent);
/// controller.run(Arc::new(Hello), Default::default()).await;
/// # }
/// ```
pub struct Controller {
    shared: Arc<Shared>,
    limits: Limits,
    lent: Lent,
}

/// Wakes keys of one controller. Cheap to clone; outlives the controller harmlessly.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What a controller and its handles share.
pub(crate) struct Shared {
    name: &'static str,
    workers: usize,
    queue: Mutex<Queue<Key>>,
    changed: Notify,
    start: Instant,
    stage: AtomicU8,
    metrics: ControllerMetrics,
}

/// Before, during and after [`Controller::run`].
const NEW: u8 = 0;
const RUNS: u8 = 1;
const ENDED: u8 = 2;

impl Controller {
    /// A controller; `name` is its metric label. /readyz waits until it runs.
    pub fn new(name: &'static str, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            name,
            workers: limits.workers,
            queue: Mutex::new(Queue::new(Bounds::of(limits.workers))),
            changed: Notify::new(),
            start: Instant::now(),
            stage: AtomicU8::new(NEW),
            metrics: metrics::controller(name),
        });
        process::add_controller(&shared);
        Self {
            shared,
            limits,
            lent: Environment::default().lent,
        }
    }

    /// In the surroundings of a simulated process.
    #[must_use]
    pub fn within(mut self, environment: &Environment) -> Self {
        self.lent = environment.lent.clone();
        self
    }

    /// The handle by which watches wake keys.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
        }
    }

    /// Runs the workers until `shutdown`; running reconciles get their deadline to end. Dropping it cuts them off
    /// where they stand, and it can be called again after [`Controller::rest`].
    pub async fn run<R: Reconciler>(&self, reconciler: Arc<R>, shutdown: CancellationToken) {
        let Self { shared, limits, lent } = self;
        let mut lent = lent.subscribe();
        let mut passes = JoinSet::new();
        shared.stage.store(RUNS, Ordering::Relaxed);
        tracing::info!(
            controller = shared.name,
            workers = limits.workers,
            "controller runs"
        );
        while !shutdown.is_cancelled() {
            let lends = *lent.borrow_and_update();
            shared.queue().lend(lends);
            while let Some(running) = Running::next(shared) {
                passes.spawn(pass(reconciler.clone(), running, limits.deadline));
            }
            let due = shared.queue().next_due();
            tokio::select! {
                // In this order: one seed of a simulation leads to one run.
                biased;
                () = shutdown.cancelled() => {}
                () = shared.changed.notified() => {}
                // Its sender is held here.
                _ = lent.changed() => {}
                () = sleep_until(shared.start, due) => {}
                Some(_ended) = passes.join_next(), if !passes.is_empty() => {}
            }
        }
        shared.stage.store(ENDED, Ordering::Relaxed);
        tracing::info!(
            controller = shared.name,
            running = passes.len(),
            "controller ends"
        );
        let drained = async { while passes.join_next().await.is_some() {} };
        if tokio::time::timeout(limits.deadline + REPORT_GRACE, drained)
            .await
            .is_err()
        {
            tracing::warn!(
                controller = shared.name,
                "reconciles outlived their deadline and were cancelled"
            );
        }
    }

    /// Waits until no reconcile runs: those of a [`Controller::run`] that was dropped end where they wait next.
    pub async fn rest(&self) {
        while self.shared.queue().running().next().is_some() {
            self.shared.changed.notified().await;
        }
    }
}

impl Handle {
    /// Wakes a key now. Doubled wake-ups of a waiting key are one; a wake-up of a running key runs it again after.
    pub fn wake(&self, key: Key, lane: Lane) {
        if self.shared.stage.load(Ordering::Relaxed) == ENDED {
            return;
        }
        let now = self.shared.now();
        if self.shared.queue().wake(now, key, lane) {
            self.shared.metrics.added(lane);
            self.shared.changed.notify_one();
        }
    }

    /// Drops back-off and timers of a key whose object is gone.
    pub fn forget(&self, key: &Key) {
        self.shared.queue().forget(key);
    }
}

impl Shared {
    /// The queue. The lock is never held across an await.
    fn queue(&self) -> MutexGuard<'_, Queue<Key>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn take(&self) -> Option<Job<Key>> {
        let now = self.now();
        let job = self.queue().next(now)?;
        self.metrics.started(job.lane, job.waited);
        Some(job)
    }

    /// The controller's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its workers were started (and perhaps ended again).
    pub(crate) fn has_started(&self) -> bool {
        self.stage.load(Ordering::Relaxed) != NEW
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let now = self.now();
        let (depth, running) = {
            let queue = self.queue();
            let running: Vec<Duration> = queue
                .running()
                .map(|(_, since)| now.saturating_sub(since))
                .collect();
            (Lane::ALL.map(|lane| (lane, queue.depth(lane))), running)
        };
        self.metrics.measure(self.workers, &depth, &running);
    }

    /// What it does right now, for people who look.
    pub(crate) fn state(&self) -> serde_json::Value {
        let now = self.now();
        let queue = self.queue();
        let running: Vec<_> = queue
            .running()
            .map(|(key, since)| {
                serde_json::json!({"key": key.to_string(), "seconds": now.saturating_sub(since).as_secs_f64()})
            })
            .collect();
        let held: Vec<_> = queue
            .held()
            .map(|held| {
                serde_json::json!({
                    "key": held.key.to_string(), "class": held.class.as_str(), "attempts": held.attempts,
                    "again_in_seconds": held.until.saturating_sub(now).as_secs_f64(),
                })
            })
            .collect();
        let depth: serde_json::Map<_, _> = Lane::ALL
            .into_iter()
            .map(|lane| (lane.as_str().to_owned(), queue.depth(lane).into()))
            .collect();
        serde_json::json!({"controller": self.name, "depth": depth, "running": running, "back_off": held})
    }

    /// Takes over how a pass ended.
    fn finish(&self, key: &Key, took: Duration, ended: &Result<Outcome, Fault>) {
        let finish = match ended {
            Ok(Outcome::Settled) => Finish::Settled,
            Ok(Outcome::Wake(after)) => Finish::Wake(*after),
            Err(fault) => Finish::Failed {
                class: fault.class,
                retry_after: fault.retry_after,
                wake: fault.wake,
            },
        };
        let now = self.now();
        let retry = self.queue().done(now, key, finish, crate::environment::chance());
        self.metrics.ended(took, ended, retry.is_some());
        match ended {
            Ok(outcome) => tracing::debug!(?outcome, ?took, "reconciled"),
            Err(fault) => tracing::warn!(
                class = fault.class.as_str(),
                reason = fault.reason,
                again_in = retry.map(|after| after.as_secs_f64()),
                "{fault}"
            ),
        }
    }
}

async fn sleep_until(start: Instant, due: Option<Duration>) {
    match due.and_then(|due| start.checked_add(due)) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
