//! What this process is made of, for /readyz and /debug/state: controllers, watches, leadership.
//!
//! Controllers and watches enter by themselves, so that nobody can forget to; what is dropped leaves.
use crate::controller;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

type Look = Box<dyn Fn() -> Option<Value> + Send + Sync>;

/// Brings a gauge up to date; false when what it measures is gone.
type Measure = Box<dyn Fn() -> bool + Send + Sync>;

/// Leadership as far as readiness is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// No lease is asked for, or it is ours.
    #[default]
    Free,
    /// Another process leads and renews its lease: workers wait, and that is in order.
    Standby,
    /// The lease cannot be had for this reason: workers cannot start.
    Failing(String),
}

#[derive(Default)]
struct Process {
    controllers: Mutex<Vec<Weak<controller::Shared>>>,
    watches: Mutex<Vec<Look>>,
    clusters: Mutex<Vec<Look>>,
    measures: Mutex<Vec<Measure>>,
    leadership: Mutex<Leadership>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(Process::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn add_controller(controller: &Arc<controller::Shared>) {
    let mut controllers = lock(&PROCESS.controllers);
    controllers.retain(|known| known.strong_count() > 0);
    controllers.push(Arc::downgrade(controller));
}

pub(crate) fn controllers() -> Vec<Arc<controller::Shared>> {
    lock(&PROCESS.controllers)
        .iter()
        .filter_map(Weak::upgrade)
        .collect()
}

/// `look` tells a watch's state, or nothing when it is gone.
pub(crate) fn add_watch(look: impl Fn() -> Option<Value> + Send + Sync + 'static) {
    add(&PROCESS.watches, look);
}

/// `look` tells a connection's state, or nothing when it is gone.
pub(crate) fn add_cluster(look: impl Fn() -> Option<Value> + Send + Sync + 'static) {
    add(&PROCESS.clusters, look);
}

/// `measure` is called before metrics are read, until it returns false.
pub(crate) fn add_measure(measure: impl Fn() -> bool + Send + Sync + 'static) {
    lock(&PROCESS.measures).push(Box::new(measure));
}

/// Brings all gauges up to date.
pub(crate) fn measure() {
    controllers().iter().for_each(|one| one.measure());
    lock(&PROCESS.measures).retain(|measure| measure());
}

fn add(to: &Mutex<Vec<Look>>, look: impl Fn() -> Option<Value> + Send + Sync + 'static) {
    let mut looks = lock(to);
    looks.retain(|look| look().is_some());
    looks.push(Box::new(look));
}

pub(crate) fn set_leadership(leadership: Leadership) {
    *lock(&PROCESS.leadership) = leadership;
}

/// Why the workers cannot do their work, one sentence each.
pub(crate) fn not_ready() -> Vec<String> {
    reasons(
        &lock(&PROCESS.leadership),
        controllers().iter().map(|one| (one.name(), one.has_started())),
    )
}

fn reasons<'a>(leadership: &Leadership, controllers: impl Iterator<Item = (&'a str, bool)>) -> Vec<String> {
    match leadership {
        Leadership::Standby => Vec::new(),
        Leadership::Failing(why) => vec![format!("the lease cannot be had: {why}")],
        Leadership::Free => controllers
            .filter(|(_, started)| !started)
            .map(|(name, _)| format!("the workers of {name} have not started"))
            .collect(),
    }
}

/// Everything, for people who look.
pub(crate) fn state() -> Value {
    let controllers: Vec<Value> = controllers().iter().map(|one| one.state()).collect();
    let seen =
        |looks: &Mutex<Vec<Look>>| -> Vec<Value> { lock(looks).iter().filter_map(|look| look()).collect() };
    let (watches, clusters) = (seen(&PROCESS.watches), seen(&PROCESS.clusters));
    let leadership = format!("{:?}", lock(&PROCESS.leadership));
    json!({"controllers": controllers, "watches": watches, "clusters": clusters, "leadership": leadership})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_have_not_started_are_named_unless_another_process_leads() {
        let reasons = |leadership: Leadership| {
            reasons(&leadership, [("idle", false), ("busy", true)].into_iter()).join("; ")
        };
        assert_eq!(reasons(Leadership::Free), "the workers of idle have not started");
        assert_eq!(reasons(Leadership::Standby), "");
        assert_eq!(
            reasons(Leadership::Failing("no".to_owned())),
            "the lease cannot be had: no"
        );
    }
}
