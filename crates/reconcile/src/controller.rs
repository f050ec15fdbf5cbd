//! Workers: take keys from the queue, run the reconciler with a deadline, contain panics, back off.
//!
//! Knows the queue and the clock; knows nothing of what a reconciler does.
use crate::{Fault, Lane};
use std::{future::Future, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What one reconcile is about: an object of a kind on the controller's root cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind's name, which tells apart keys of one controller with several root kinds.
    pub kind: &'static str,
    /// Empty for cluster-scoped objects. It is also the tenant for fairness.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key; `namespace` is empty for cluster-scoped kinds.
    pub fn new(kind: &'static str, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
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
pub struct Controller {}

/// Wakes keys of one controller. Cheap to clone; outlives the controller harmlessly.
#[derive(Clone)]
pub struct Handle {}

impl Controller {
    /// A controller; `name` is its metric label.
    pub fn new(_name: &'static str, _limits: Limits) -> Self {
        unimplemented!()
    }
    /// The handle by which watches wake keys.
    pub fn handle(&self) -> Handle {
        unimplemented!()
    }
    /// Runs the workers until `shutdown`; running reconciles get their deadline to end.
    pub async fn run<R: Reconciler>(self, _reconciler: Arc<R>, _shutdown: CancellationToken) {
        unimplemented!()
    }
}
impl Handle {
    /// Wakes a key now. Doubled wake-ups of a waiting key are one; a wake-up of a running key runs it again after.
    pub fn wake(&self, _key: Key, _lane: Lane) {
        unimplemented!()
    }
}
