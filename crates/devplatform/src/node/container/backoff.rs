//! When a container that ended is started again: the kubelet's rule. Pure; the caller brings the time.
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);

/// The kubelet's longest wait.
pub(in crate::node) const LONGEST: Duration = Duration::from_secs(300);

/// The first restart is immediate, the next comes 10 s after the end, then 20, 40 … up to the longest wait. A container
/// that ran for twice the longest wait starts from the beginning.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
    next: Option<Duration>,
}

impl Backoff {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, next: None }
    }

    /// How long to wait after an end at `ended` of a container that was started at `started`.
    pub(super) fn after(&mut self, started: Instant, ended: Instant) -> Duration {
        if ended.saturating_duration_since(started) > self.longest * 2 {
            self.next = None;
        }
        let wait = self.next.unwrap_or(Duration::ZERO);
        self.next = Some(match self.next {
            None => FIRST.min(self.longest),
            Some(last) => (last * 2).min(self.longest),
        });
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(LONGEST);
        let now = Instant::now();
        let waits: Vec<u64> = (0..8).map(|_| backoff.after(now, now).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = Backoff::new(LONGEST);
        let now = Instant::now();
        backoff.after(now, now);
        backoff.after(now, now);
        assert_eq!(backoff.after(now, now + Duration::from_secs(601)), Duration::ZERO);
        assert_eq!(backoff.after(now, now), Duration::from_secs(10));
    }

    #[test]
    fn a_shorter_longest_wait_bounds_the_first_one_too() {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        let now = Instant::now();
        let waits: Vec<u64> = (0..3).map(|_| backoff.after(now, now).as_secs()).collect();
        assert_eq!(waits, [0, 2, 2]);
    }
}
