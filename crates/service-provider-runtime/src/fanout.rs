//! Config fan-out: a change that concerns every service object reaches them a few at a time, so that it is no storm
//! on the API servers of all tenants in one second (known fault 14).
//!
//! Owns the order and the rate. Must not know what changed.
use openmcp_reconcile::{Key, Lane, controller::Handle};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Service objects that are woken at once; the next ones after [`PAUSE`].
const BURST: usize = 25;
/// So that a change goes through at most at a hundred service objects a second.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells the fan-out that something concerns everybody. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FanOut(Arc<Notify>);

impl FanOut {
    /// Everybody is to be woken; a round that is under way is not begun again but goes on and once around.
    pub(crate) fn start(&self) {
        self.0.notify_one();
    }

    /// Wakes all keys, for ever.
    pub(crate) async fn run(
        self,
        handle: Handle,
        all: impl Fn() -> Vec<Key> + Send,
        shutdown: CancellationToken,
    ) {
        let mut round = VecDeque::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.0.notified() => round = begin(&round, all()),
                () = tokio::time::sleep(PAUSE), if !round.is_empty() => {}
            }
            for key in round.drain(..BURST.min(round.len())) {
                handle.wake(key, Lane::Bulk);
            }
        }
    }
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
    use std::sync::Mutex;

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

    #[tokio::test]
    async fn everybody_is_woken_and_never_more_than_the_budget_allows() {
        let count = 2 * BURST + 1;
        let controller = Controller::new("fan-out", Limits::default());
        let (fan_out, stop) = (FanOut::default(), CancellationToken::new());
        let seen = Arc::new(Seen(Mutex::default()));
        let all = move || keys(0..count);
        tokio::spawn(fan_out.clone().run(controller.handle(), all, stop.clone()));
        let (reconciler, end) = (seen.clone(), stop.clone());
        tokio::spawn(async move { controller.run(reconciler, end).await });
        let start = tokio::time::Instant::now();
        fan_out.start();
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
