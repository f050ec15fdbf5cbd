//! How a convergence went.
use super::{drift::Drift, observe::Child};
use crate::{Fault, inventory::Id};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// An object that could not be brought to what is wanted.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which object it is.
    pub id: Id,
    /// Why, with the class that decides when it is tried again.
    pub fault: Fault,
}

/// How a convergence went.
#[derive(Debug, Default)]
pub struct Report {
    /// Live children by identity.
    pub live: BTreeMap<Id, Child>,
    /// Requests that changed something.
    pub applied: usize,
    /// What others had changed and is as it is wanted again.
    pub repaired: Vec<Drift>,
    /// What others have changed and is left so, by [`super::Mode::Detect`].
    pub detected: Vec<Drift>,
    /// What could not be brought to what is wanted. The rest was.
    pub failures: Vec<Failure>,
    /// Kinds whose first list is still being read: nothing was compared, the owner is woken when it is there.
    pub reading: Vec<String>,
    /// What is not there yet, or not gone yet, in words: "Namespace x is being deleted and made again after".
    pub missing: Vec<String>,
    /// Everything is as it is wanted, ready or not, and what is not wanted is gone, or [kept](Self::kept).
    pub complete: bool,
    /// What is not wanted any more and has to stay for the time being, in words; the owner is woken when that changes.
    pub kept: Vec<String>,
    /// Left alone in a prune, for they are not ours any more.
    pub foreign: Vec<Id>,
    /// When time itself makes work: a renewal, a damped repair.
    pub wake: Option<Duration>,
}

impl Report {
    /// Whether nothing is on its way: neither objects nor their health.
    pub fn is_settled(&self) -> bool {
        self.reading.is_empty()
            && self.missing.is_empty()
            && self.live.values().all(|child| child.health().is_ready())
    }

    pub(super) fn wake_in(&mut self, after: Duration) {
        self.wake = Some(self.wake.map_or(after, |wake| wake.min(after)));
    }

    /// The next time at which something must be made anew.
    pub(super) fn wake_for_renewals(&mut self, now: Timestamp) {
        let next = self.live.values().filter_map(Child::renew_at).min();
        if let Some(at) = next {
            let after = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            self.wake_in(after.max(Duration::from_secs(1)));
        }
    }
}
