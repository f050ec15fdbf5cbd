//! Fan-out: a change that concerns every service object, or all that read an input, reaches them a few at a time, so
//! that it is no storm on the API servers of all tenants in one second (known fault 14).
//!
//! Owns the order and the rate. Must not know what changed.
use openmcp_reconcile::{Key, Lane, controller::Handle};
use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Service objects that are woken at once; the next ones after [`PAUSE`].
const BURST: usize = 25;
/// So that a change goes through at most at a hundred service objects a second.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells the fan-out that something concerns many. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FanOut {
    handle: Handle,
    changed: Arc<Notify>,
    asked: Arc<Mutex<Asked>>,
}

/// Who is to be woken, besides those of the round that is under way.
#[derive(Default)]
struct Asked {
    everybody: bool,
    some: Vec<Key>,
}

impl FanOut {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            changed: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Everybody is to be woken; a round that is under way is not begun again but goes on and once around.
    pub(crate) fn start(&self) {
        self.asked().everybody = true;
        self.changed.notify_one();
    }

    /// Those who read an input that changed: one of them at once, many in their turn.
    pub(crate) fn readers(&self, mut keys: Vec<Key>) {
        if keys.len() > 1 {
            self.asked().some.append(&mut keys);
            self.changed.notify_one();
        }
        for key in keys {
            self.handle.wake(key, Lane::Normal);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who is to be woken, for ever.
    pub(crate) async fn run(self, all: impl Fn() -> Vec<Key> + Send, shutdown: CancellationToken) {
        let mut round = VecDeque::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {
                    let asked = std::mem::take(&mut *self.asked());
                    if asked.everybody {
                        round = begin(&round, all());
                    }
                    join(&mut round, asked.some);
                }
                () = tokio::time::sleep_until(next), if !round.is_empty() => {
                    for key in round.drain(..BURST.min(round.len())) {
                        self.handle.wake(key, Lane::Bulk);
                    }
                    next = Instant::now() + PAUSE;
                }
            }
        }
    }
}

/// Adds those who do not wait yet.
fn join(round: &mut VecDeque<Key>, keys: Vec<Key>) {
    let waiting: HashSet<Key> = round.iter().cloned().collect();
    let mut added = HashSet::new();
    round.extend(
        keys.into_iter()
            .filter(|key| !waiting.contains(key) && added.insert(key.clone())),
    );
}

/// The next round: those whose turn had not come in the last one are first.
fn begin(rest: &VecDeque<Key>, all: Vec<Key>) -> VecDeque<Key> {
    let left: HashSet<&Key> = rest.iter().collect();
    let (mut first, then): (VecDeque<Key>, VecDeque<Key>) =
        all.into_iter().partition(|key| left.contains(key));
    first.extend(then);
    first
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use openmcp_reconcile::{Controller, Fault, Limits, Outcome, Reconciler};

    fn keys(names: std::ops::Range<usize>) -> Vec<Key> {
        names.map(|n| Key::new("X", "a", n.to_string())).collect()
    }

    #[test]
    fn a_change_during_a_round_leaves_nobody_out_and_begins_with_those_who_waited() {
        let rest: VecDeque<Key> = keys(2..4).into();
        let next = begin(&rest, keys(0..4));
        assert_eq!(next, [keys(2..4), keys(0..2)].concat());
    }

    #[test]
    fn who_is_gone_is_not_woken() {
        assert!(begin(&keys(0..3).into(), Vec::new()).is_empty());
    }

    struct Seen(Mutex<Vec<(Key, tokio::time::Instant)>>);
    impl Reconciler for Seen {
        async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
            self.0
                .lock()
                .unwrap()
                .push((key.clone(), tokio::time::Instant::now()));
            Ok(Outcome::Settled)
        }
    }

    #[test]
    fn who_waits_already_waits_once() {
        let mut round: VecDeque<Key> = keys(0..3).into();
        join(&mut round, [keys(1..5), keys(4..5)].concat());
        assert_eq!(round, keys(0..5));
    }

    #[tokio::test]
    async fn everybody_is_woken_and_never_more_than_the_budget_allows() {
        woken_by(|fan_out, _| fan_out.start()).await;
    }

    #[tokio::test]
    async fn the_readers_of_one_input_are_woken_within_the_same_budget() {
        woken_by(|fan_out, all| {
            for key in all.chunks(20) {
                fan_out.readers(key.to_vec());
            }
        })
        .await;
    }

    async fn woken_by(change: impl FnOnce(&FanOut, Vec<Key>)) {
        let count = 2 * BURST + 10;
        let controller = Controller::new("fan-out", Limits::default());
        let (fan_out, stop) = (FanOut::new(controller.handle()), CancellationToken::new());
        let seen = Arc::new(Seen(Mutex::default()));
        let all = move || keys(0..count);
        tokio::spawn(fan_out.clone().run(all, stop.clone()));
        let (reconciler, end) = (seen.clone(), stop.clone());
        tokio::spawn(async move { controller.run(reconciler, end).await });
        let start = tokio::time::Instant::now();
        change(&fan_out, all());
        while seen.0.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seen = seen.0.lock().unwrap();
        for (nth, (_, at)) in seen.iter().enumerate() {
            let pauses = u32::try_from(nth / BURST).unwrap();
            assert!(
                at.duration_since(start) >= PAUSE * pauses,
                "the {nth}th was too early"
            );
        }
        assert_eq!(
            seen.iter().map(|(key, _)| key).collect::<HashSet<_>>().len(),
            count
        );
        stop.cancel();
    }
}
