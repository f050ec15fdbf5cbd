//! Simulated time: one for the whole world, moved by whichever simulated process runs.
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600;

/// The world's clock. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Arc<Mutex<Hands>>);

#[derive(Debug, Default)]
struct Hands {
    before: Duration,
    /// Since when a process runs, by its own tokio clock.
    running: Option<Instant>,
}

impl Time {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start of the world.
    pub(crate) fn elapsed(&self) -> Duration {
        let hands = self.hands();
        hands.before + hands.running.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or_default();
        Timestamp::from_second(START).unwrap_or_default() + elapsed
    }

    /// Another clock that shows the same time.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(Hands {
            before: self.elapsed(),
            running: None,
        })))
    }

    /// From now on it follows the clock of the tokio runtime that this is called in, until [`Time::leave`].
    pub(crate) fn enter(&self) {
        self.hands().running = Some(Instant::now());
    }

    pub(crate) fn leave(&self) {
        let elapsed = self.elapsed();
        *self.hands() = Hands {
            before: elapsed,
            running: None,
        };
    }
}
