//! Until when this process may write: a lease that is not renewed ends its writes by itself.
//!
//! The time is looked at when a request is sent, so a process that was stopped past its lease and goes on sends
//! nothing, whatever it was about to do. What had been let through and waits for its socket is stopped there, by the
//! fence of each connection (`cluster/fence.rs`).
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// One for all connections of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    start: Instant,
    /// Milliseconds after `start`; [`OPEN`]: for ever.
    until: Arc<AtomicU64>,
    /// How often leadership has ended.
    term: Arc<AtomicU64>,
}

const OPEN: u64 = u64::MAX;

static PROCESS: LazyLock<Gate> = LazyLock::new(Gate::new);

impl Gate {
    /// An open gate.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            until: Arc::new(AtomicU64::new(OPEN)),
            term: Arc::default(),
        }
    }

    /// The gate of every [`crate::cluster::Connection`] of this process.
    pub(crate) fn of_process() -> Self {
        PROCESS.clone()
    }

    /// Open until then, closed after.
    pub(crate) fn open_until(&self, at: Instant) {
        let millis = at.saturating_duration_since(self.start).as_millis();
        self.until
            .store(u64::try_from(millis).unwrap_or(OPEN), Ordering::Release);
    }

    /// Nothing may be written from now on.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// It was open and is not any more: what was let through may not leave either, not even when it opens again.
    pub(crate) fn end(&self) {
        self.close();
        self.term.fetch_add(1, Ordering::Release);
    }

    /// Counts how often it has ended.
    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Whether what was let through in `term` may not leave any more: the gate has ended since, or its time is over.
    pub(crate) fn has_ended_since(&self, term: u64) -> bool {
        let led = !matches!(self.until.load(Ordering::Acquire), OPEN | 0);
        self.term() != term || (led && !self.is_open())
    }

    /// Whether a write may be sent now.
    pub(crate) fn is_open(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == OPEN || self.start.elapsed() < Duration::from_millis(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_by_itself() {
        let gate = Gate::new();
        assert!(gate.is_open());
        gate.open_until(Instant::now() + Duration::from_secs(3600));
        assert!(gate.is_open());
        gate.open_until(Instant::now() + Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(25));
        assert!(!gate.is_open());
        gate.open_until(Instant::now() + Duration::from_secs(3600));
        gate.close();
        assert!(!gate.is_open());
    }

    #[test]
    fn only_what_was_open_has_ended_and_what_was_let_through_then_never_leaves() {
        let gate = Gate::new();
        let first = gate.term();
        gate.close();
        assert!(!gate.has_ended_since(first), "it never was open");
        gate.open_until(Instant::now() + Duration::from_secs(3600));
        assert!(!gate.has_ended_since(first));
        gate.open_until(Instant::now() + Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(25));
        assert!(gate.has_ended_since(first), "its time is over");
        gate.end();
        assert!(gate.has_ended_since(first) && !gate.is_open());
        let second = gate.term();
        assert!(!gate.has_ended_since(second), "one may ask for the lease again");
        gate.open_until(Instant::now() + Duration::from_secs(3600));
        assert!(gate.has_ended_since(first) && !gate.has_ended_since(second));
    }
}
