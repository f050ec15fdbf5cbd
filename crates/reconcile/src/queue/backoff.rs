//! How long a key waits after a fault, by class; and how soon an event may interrupt that wait.
use super::Lane;
use crate::fault::Class;
use std::time::Duration;

/// The bounds of one class's exponential back-off.
pub(super) struct Limits {
    base: Duration,
    max: Duration,
}

/// `None`: not retried before an input changes.
pub(super) fn limits(class: Class) -> Option<Limits> {
    let (base, max) = match class {
        Class::Invalid => return None,
        Class::Retry => (Duration::from_millis(100), Duration::from_secs(60)),
        Class::Unreachable => (Duration::from_millis(500), Duration::from_secs(60)),
        Class::Bug => (Duration::from_secs(1), Duration::from_secs(300)),
        Class::Denied => (Duration::from_secs(5), Duration::from_secs(300)),
    };
    Some(Limits { base, max })
}

impl Limits {
    /// Full jitter: uniform between nothing and `base · 2^(attempt-1)`, capped.
    pub(super) fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        let cap = self.base.saturating_mul(1 << doublings).min(self.max);
        cap.mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// The earliest time at which an event of `lane` may run a key whose last pass ended at `ended` and which is in
/// back-off until `until`. A flood of events cannot turn a failing key into a hot loop.
pub(super) fn early(lane: Lane, ended: Duration, until: Duration) -> Duration {
    let spacing = match lane {
        Lane::Urgent => Duration::from_millis(500),
        Lane::Normal => Duration::from_secs(2),
        Lane::Bulk => return until,
    };
    ended.saturating_add(spacing).min(until)
}
