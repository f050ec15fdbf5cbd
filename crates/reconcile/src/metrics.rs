//! Metrics under controller-runtime's names, so that existing dashboards work, and ours beside them.
//!
//! One registry a process: metrics, like the log, belong to the process. Labels are bounded: never an object's
//! name. Gauges are brought up to date when somebody looks, from the controllers themselves.
mod hosts;
mod purpose;

pub(crate) use hosts::Host;

use crate::{Fault, Lane, Outcome, cluster::Fare, fault::Class, process};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::{
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfController {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    name: &'static str,
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLane {
    name: &'static str,
    controller: &'static str,
    priority: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequeue {
    controller: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPurpose {
    verb: &'static str,
    purpose: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMethod {
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWatch {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfName {
    name: String,
}

fn from_1ms() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

struct Families {
    reconcile: Family<OfResult, Counter>,
    errors: Family<OfController, Counter>,
    terminal_errors: Family<OfController, Counter>,
    panics: Family<OfController, Counter>,
    timeouts: Family<OfController, Counter>,
    time: Family<OfController, Histogram, fn() -> Histogram>,
    active: Family<OfController, Gauge>,
    max_concurrent: Family<OfController, Gauge>,
    depth: Family<OfLane, Gauge>,
    adds: Family<OfLane, Counter>,
    retries: Family<OfQueue, Counter>,
    queued: Family<OfQueue, Histogram, fn() -> Histogram>,
    worked: Family<OfQueue, Histogram, fn() -> Histogram>,
    unfinished: Family<OfQueue, Seconds>,
    longest: Family<OfQueue, Seconds>,
    requeue: Family<OfRequeue, Counter>,
    requests: hosts::Requests,
    request_time: Family<OfMethod, Histogram, fn() -> Histogram>,
    api_requests: Family<OfPurpose, Counter>,
    clusters: Family<OfState, Gauge>,
    watches: Family<OfWatch, Gauge>,
    watch_restarts: Family<OfWatch, Counter>,
    undecodable: Family<OfWatch, Counter>,
    events_dropped: Counter,
    leader: Family<OfName, Gauge>,
    tasks: Gauge,
}

struct Process {
    registry: Mutex<Registry>,
    families: Families,
}

static PROCESS: LazyLock<Process> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let families = Families::register(&mut registry);
    Process {
        registry: Mutex::new(registry),
        families,
    }
});

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Families {
    #[rustfmt::skip]
    fn register(to: &mut Registry) -> Self {
        Self {
            reconcile: add(to, "controller_runtime_reconcile", "Passes by result", Family::default()),
            errors: add(to, "controller_runtime_reconcile_errors", "Passes that failed", Family::default()),
            terminal_errors: add(to, "controller_runtime_terminal_reconcile_errors", "Passes refused for a wrong input: not retried before it changes", Family::default()),
            panics: add(to, "controller_runtime_reconcile_panics", "Passes that panicked", Family::default()),
            timeouts: add(to, "controller_runtime_reconcile_timeouts", "Passes cancelled at their deadline", Family::default()),
            time: add(to, "controller_runtime_reconcile_time_seconds", "Length of a pass", Family::new_with_constructor(from_1ms)),
            active: add(to, "controller_runtime_active_workers", "Passes running now", Family::default()),
            max_concurrent: add(to, "controller_runtime_max_concurrent_reconciles", "Bound of passes at once", Family::default()),
            depth: add(to, "workqueue_depth", "Keys queued now", Family::default()),
            adds: add(to, "workqueue_adds", "Keys queued", Family::default()),
            retries: add(to, "workqueue_retries", "Keys queued again after a fault", Family::default()),
            queued: add(to, "workqueue_queue_duration_seconds", "How long a key was queued", Family::new_with_constructor(from_1ms)),
            worked: add(to, "workqueue_work_duration_seconds", "How long a key was worked on", Family::new_with_constructor(from_1ms)),
            unfinished: add(to, "workqueue_unfinished_work_seconds", "Sum of the time that running passes took so far", Family::default()),
            longest: add(to, "workqueue_longest_running_processor_seconds", "Time that the longest running pass took so far", Family::default()),
            requeue: add(to, "sp_requeue", "Passes that will be repeated, by reason", Family::default()),
            requests: add(to, "rest_client_requests", "Requests to API servers", Family::default()),
            request_time: add(to, "rest_client_request_duration_seconds", "Time to the head of an API server's answer", Family::new_with_constructor(from_1ms)),
            api_requests: add(to, "sp_api_requests", "Requests to API servers by verb and what they are for: the resource", Family::default()),
            clusters: add(to, "sp_cluster_state", "Connections to API servers by how they fare", Family::default()),
            watches: add(to, "sp_watch_active", "Watches that run", Family::default()),
            watch_restarts: add(to, "sp_watch_restarts", "Watches that failed and were tried again", Family::default()),
            undecodable: add(to, "sp_watch_undecodable", "Objects that a watch could not decode and skipped", Family::default()),
            events_dropped: add(to, "sp_events_dropped", "Events dropped: the channel was full or the API server refused", Counter::default()),
            leader: add(to, "leader_election_master_status", "1 while this process leads", Family::default()),
            tasks: add(to, "tokio_alive_tasks", "Tasks that have not ended", Gauge::default()),
        }
    }
}

fn add<M: prometheus_client::registry::Metric + Clone>(
    to: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    to.register(name, help, metric.clone());
    metric
}

/// Registers further metrics of the process. Counters without `_total`: the suffix is appended.
pub fn register<T>(with: impl FnOnce(&mut Registry) -> T) -> T {
    with(&mut lock(&PROCESS.registry))
}

/// All metrics of the process as OpenMetrics text.
pub fn encode() -> Result<String, std::fmt::Error> {
    process::measure();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        PROCESS
            .families
            .tasks
            .set(count(runtime.metrics().num_alive_tasks()));
    }
    let mut text = String::new();
    text::encode(&mut text, &lock(&PROCESS.registry))?;
    Ok(text)
}

/// Counts a request and its time to the answer's head.
pub(crate) fn request(method: &http::Method, host: &str, code: &str, took: Duration) {
    hosts::count(method, host, code);
    // Without hosts: each would have a whole histogram.
    let labels = OfMethod {
        method: method.to_string(),
    };
    PROCESS
        .families
        .request_time
        .get_or_create(&labels)
        .observe(took.as_secs_f64());
}

/// Counts a request by its verb and resource.
pub(crate) fn api_request<B>(request: &http::Request<B>) {
    let (verb, purpose) = purpose::of(request);
    PROCESS
        .families
        .api_requests
        .get_or_create(&OfPurpose { verb, purpose })
        .inc();
}

/// A connection fares otherwise than before.
pub(crate) fn cluster_fares(before: Option<Fare>, after: Option<Fare>) {
    let gauge = |fare: Fare| {
        let state = fare.as_str();
        PROCESS.families.clusters.get_or_create_owned(&OfState { state })
    };
    if let Some(before) = before {
        gauge(before).dec();
    }
    if let Some(after) = after {
        gauge(after).inc();
    }
}

/// A watch of a kind: counted while this lives.
pub(crate) struct WatchMetrics(OfWatch);

impl WatchMetrics {
    pub(crate) fn new(kind: &str) -> Self {
        let labels = OfWatch {
            kind: kind.to_owned(),
        };
        PROCESS.families.watches.get_or_create(&labels).inc();
        Self(labels)
    }
    pub(crate) fn restarted(&self) {
        PROCESS.families.watch_restarts.get_or_create(&self.0).inc();
    }
    pub(crate) fn undecodable(&self) {
        PROCESS.families.undecodable.get_or_create(&self.0).inc();
    }
}

impl Drop for WatchMetrics {
    fn drop(&mut self) {
        PROCESS.families.watches.get_or_create(&self.0).dec();
    }
}

/// An Event that nobody will see.
pub(crate) fn event_dropped() {
    PROCESS.families.events_dropped.inc();
}

/// Whether this process leads under a lease's name.
pub(crate) fn leads(lease: &str, leads: bool) {
    PROCESS
        .families
        .leader
        .get_or_create(&OfName {
            name: lease.to_owned(),
        })
        .set(leads.into());
}

/// The metrics of one controller.
pub(crate) struct ControllerMetrics {
    name: &'static str,
}

/// The metrics of the controller `name`.
pub(crate) fn controller(name: &'static str) -> ControllerMetrics {
    ControllerMetrics { name }
}

impl ControllerMetrics {
    fn own(&self) -> OfController {
        OfController {
            controller: self.name,
        }
    }
    fn queue(&self) -> OfQueue {
        OfQueue {
            name: self.name,
            controller: self.name,
        }
    }
    fn lane(&self, lane: Lane) -> OfLane {
        OfLane {
            name: self.name,
            controller: self.name,
            priority: lane.as_str(),
        }
    }

    pub(crate) fn added(&self, lane: Lane) {
        PROCESS.families.adds.get_or_create(&self.lane(lane)).inc();
    }
    pub(crate) fn started(&self, _lane: Lane, waited: Duration) {
        PROCESS
            .families
            .queued
            .get_or_create(&self.queue())
            .observe(waited.as_secs_f64());
    }
    pub(crate) fn panicked(&self) {
        PROCESS.families.panics.get_or_create(&self.own()).inc();
    }
    pub(crate) fn timed_out(&self) {
        PROCESS.families.timeouts.get_or_create(&self.own()).inc();
    }

    pub(crate) fn ended(&self, took: Duration, ended: &Result<Outcome, Fault>, again: bool) {
        let families = &PROCESS.families;
        families
            .time
            .get_or_create(&self.own())
            .observe(took.as_secs_f64());
        families
            .worked
            .get_or_create(&self.queue())
            .observe(took.as_secs_f64());
        let (result, requeue) = match ended {
            Ok(Outcome::Settled) => ("success", None),
            Ok(Outcome::Wake(_)) => ("requeue_after", Some("time")),
            Err(fault) => {
                families.errors.get_or_create(&self.own()).inc();
                if fault.class == Class::Invalid {
                    families.terminal_errors.get_or_create(&self.own()).inc();
                }
                ("error", again.then(|| fault.class.as_str()))
            }
        };
        families
            .reconcile
            .get_or_create(&OfResult {
                controller: self.name,
                result,
            })
            .inc();
        if again {
            families.retries.get_or_create(&self.queue()).inc();
        }
        if let Some(reason) = requeue {
            families
                .requeue
                .get_or_create(&OfRequeue {
                    controller: self.name,
                    reason,
                })
                .inc();
        }
    }

    pub(crate) fn measure(&self, workers: usize, depth: &[(Lane, usize)], running: &[Duration]) {
        let families = &PROCESS.families;
        for (lane, depth) in depth {
            families.depth.get_or_create(&self.lane(*lane)).set(count(*depth));
        }
        families
            .active
            .get_or_create(&self.own())
            .set(count(running.len()));
        families
            .max_concurrent
            .get_or_create(&self.own())
            .set(count(workers));
        let unfinished: Duration = running.iter().sum();
        families
            .unfinished
            .get_or_create(&self.queue())
            .set(unfinished.as_secs_f64());
        let longest = running.iter().max().copied().unwrap_or_default();
        families
            .longest
            .get_or_create(&self.queue())
            .set(longest.as_secs_f64());
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
