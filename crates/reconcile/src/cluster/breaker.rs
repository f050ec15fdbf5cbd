//! The circuit breaker of one connection, sans-IO: after some requests in a row without an answer, no more are sent
//! for a while; then one tries, and its fate decides.
//!
//! An answer of any kind closes it: what a server answers is the business of those who asked.
use std::time::Duration;

/// Requests in a row without an answer that open it.
const FAILURES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Times are durations since any fixed start; jitter is uniform in 0..1.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Requests in a row without an answer.
    failures: u32,
    answered: bool,
    /// Open until then; a request that is sent after it is the trial.
    until: Option<Duration>,
}

/// How a connection fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fare {
    /// Nothing was answered yet.
    Connecting,
    /// Requests are answered.
    Synced,
    /// The breaker is open.
    Degraded,
}

impl Fare {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Synced => "Synced",
            Self::Degraded => "Degraded",
        }
    }
}

impl Breaker {
    /// Whether a request may be sent now; else how long to wait before asking again.
    pub fn admit(&mut self, now: Duration) -> Result<(), Duration> {
        match self.until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                // This one is the trial: others wait for its fate, or for a while should it never be told.
                self.until = Some(now + LAST_PAUSE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A request was answered.
    pub fn succeeded(&mut self) {
        *self = Self {
            answered: true,
            ..Self::default()
        };
    }

    /// A request was not answered.
    pub fn failed(&mut self, now: Duration, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(FAILURES) {
            let pause = FIRST_PAUSE.saturating_mul(1 << over.min(10)).min(LAST_PAUSE);
            self.until = Some(now + pause.mul_f64(0.5 + 0.5 * jitter));
        }
    }

    pub(super) fn fare(&self) -> Fare {
        match (self.until, self.answered) {
            (Some(_), _) => Fare::Degraded,
            (None, true) => Fare::Synced,
            (None, false) => Fare::Connecting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn after_three_silences_nothing_is_sent_until_one_trial_is_answered() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(Duration::ZERO), Ok(()));
            breaker.failed(Duration::ZERO, 1.0);
        }
        assert_eq!(
            (breaker.admit(Duration::ZERO), breaker.fare()),
            (Err(SECOND), Fare::Degraded)
        );
        assert_eq!(breaker.admit(SECOND), Ok(()));
        assert!(breaker.admit(SECOND).is_err(), "only one tries");
        breaker.succeeded();
        assert_eq!((breaker.admit(SECOND), breaker.fare()), (Ok(()), Fare::Synced));
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause_up_to_half_a_minute() {
        let (mut breaker, mut now, mut pauses) = (Breaker::default(), Duration::ZERO, Vec::new());
        for _ in 0..9 {
            breaker.failed(now, 1.0);
            if let Err(pause) = breaker.admit(now) {
                pauses.push(pause.as_secs());
                now += pause;
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn single_silences_between_answers_do_not_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(Duration::ZERO, 1.0);
            breaker.failed(Duration::ZERO, 1.0);
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_trial_whose_fate_is_never_told_does_not_close_the_way_for_ever() {
        let mut breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed(Duration::ZERO, 0.0));
        assert_eq!(breaker.admit(SECOND), Ok(()));
        assert_eq!(breaker.admit(SECOND + LAST_PAUSE), Ok(()));
    }
}
