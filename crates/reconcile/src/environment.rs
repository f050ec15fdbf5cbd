//! What a process finds around it: how API servers are reached, what time it is, whether it may write, and chance.
//!
//! The real process has TCP, the system clock and one gate for all its connections. A simulation brings its own of
//! each, one a simulated process; monotonic time is tokio's, which can be paused.
use crate::{cluster::Dial, gate::Gate};
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, LazyLock},
};
use tokio::sync::watch;

/// Handed down through [`crate::cluster::Connection`]s. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) gate: Gate,
    pub(crate) lent: Lent,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    simulated: bool,
}

impl Environment {
    /// The surroundings of one simulated process: its network and its wall clock. Writes are gated on their own.
    pub fn new(dial: impl Dial, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            dial: Arc::new(dial),
            gate: Gate::new(),
            lent: Lent::default(),
            clock: Arc::new(clock),
            simulated: true,
        }
    }

    /// Without the permission to write: for tools that look.
    #[must_use]
    pub fn read_only(self) -> Self {
        let gate = Gate::new();
        gate.close();
        Self { gate, ..self }
    }

    /// Whether this process may change anything now: it leads, or need not. Requests to API servers are held back
    /// without it; effects elsewhere have to ask.
    pub fn may_write(&self) -> bool {
        self.gate.is_open()
    }

    /// Whether all that happens has to follow from a seed: then there is one thread.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// The wall clock: for what people read and for expiry dates, never for leadership.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl Default for Environment {
    /// That of the real process.
    fn default() -> Self {
        Self {
            dial: Arc::new(crate::cluster::Tcp),
            gate: Gate::of_process(),
            lent: LENT.clone(),
            clock: Arc::new(Timestamp::now),
            simulated: false,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// How many passes wait for slow clusters ([`crate::cluster::Turns`]) and lend their workers to others. One for all
/// clusters and controllers of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lent(Arc<watch::Sender<usize>>);

static LENT: LazyLock<Lent> = LazyLock::new(Lent::default);

impl Lent {
    /// One cluster's part changes.
    pub(crate) fn moved(&self, from: usize, to: usize) {
        if from != to {
            self.0
                .send_modify(|lent| *lent = (*lent + to).saturating_sub(from));
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on the jitter of everything on this thread follows from `seed`: for simulations, which run on one thread.
pub fn seed_this_thread(seed: u64) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(StdRng::seed_from_u64(seed)));
}

/// Uniform in 0..1, for jitter.
pub fn chance() -> f64 {
    SEEDED.with_borrow_mut(|seeded| {
        seeded
            .as_mut()
            .map_or_else(rand::random, |seeded| seeded.random())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_follows_from_its_seed() {
        let drawn = |seed| {
            seed_this_thread(seed);
            [chance(), chance()]
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
