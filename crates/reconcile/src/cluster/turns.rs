//! Turns at one cluster: what keeps a cluster that answers late from holding the workers that others need.
//!
//! A pass takes a turn at each cluster that it works on. While the cluster answers in time that is all: its passes may
//! have every worker. When a request has waited for [`LATE`], the cluster is *slow*, until there was no such request for
//! [`HOLD`]:
//!
//! - the passes at it lend their workers to others, at once and wherever they wait;
//! - no more than [`SHARE`] of them work on it at a time. The others end where they would begin, and are woken as those
//!   leave, by the same lanes and turns of tenants as in the queue: they wait outside of a worker, without a request, and
//!   who orders something does not wait for a fan-out.
//!
//! A cluster that does not answer at all is first slow, and then behind its breaker ([`super::breaker`]).
use crate::{
    Environment, Key, Lane,
    controller::{Handle, lane},
    environment::Lent,
    queue::Lanes,
};
use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// A request that has waited so long shows that the cluster is slow. An API server under full load answers in less.
pub(super) const LATE: Duration = Duration::from_secs(1);
/// Without a late request for so long, the cluster is not slow any more.
const HOLD: Duration = Duration::from_secs(10);
/// Passes at a slow cluster at once.
const SHARE: usize = 8;

/// The turns at one cluster. Clones are the same.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    /// How the cluster is called in logs.
    title: String,
    handle: Handle,
    lent: Lent,
    start: Instant,
    state: Mutex<State>,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("title", &self.0.title)
            .finish_non_exhaustive()
    }
}

/// A pass works on the cluster until this is dropped.
#[derive(Debug)]
pub struct Turn(Turns);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.change(State::leave);
    }
}

impl Turns {
    /// Nobody is at the cluster yet. Those who wait are woken by `handle`, which is that of a controller in the same
    /// environment.
    pub fn new(environment: &Environment, title: impl Into<String>, handle: Handle) -> Self {
        Self(Arc::new(Shared {
            title: title.into(),
            handle,
            lent: environment.lent.clone(),
            start: Instant::now(),
            state: Mutex::default(),
        }))
    }

    /// A turn for a pass over `key`. `None`: the cluster is slow and others are at it; the key is woken when one of
    /// them leaves. What is woken and does not come may cost others their turn: ask again after a while too.
    pub fn take(&self, key: &Key) -> Option<Turn> {
        let mut entered = false;
        self.change(|state, now| {
            let due = state.recover(now);
            entered = state.enter(key, lane());
            due
        });
        entered.then(|| Turn(self.clone()))
    }

    /// One request to the cluster.
    pub(super) async fn time<T>(&self, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        if let Ok(answer) = timeout(LATE, &mut exchange).await {
            self.change(State::recover);
            return answer;
        }
        self.change(|state, _| state.late());
        let _late = Late(self);
        exchange.await
    }

    /// For people who look: whether it is slow, how many passes are at it, how many wait.
    pub(super) fn look(&self) -> (bool, usize, usize) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.slow, state.inside, state.tickets.len())
    }

    /// Changes the state, and tells what follows from it: to the log, to those who lend workers, to those who wait.
    fn change(&self, change: impl FnOnce(&mut State, Duration) -> Vec<(Key, Lane)>) {
        let shared = &*self.0;
        let (was, is, due) = {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let was = (state.slow, state.lends());
            let due = change(&mut state, shared.start.elapsed());
            (was, (state.slow, state.lends()), due)
        };
        shared.lent.moved(was.1, is.1);
        match (was.0, is.0) {
            (false, true) => {
                tracing::warn!(
                    cluster = shared.title,
                    "answers late: at most {SHARE} passes at a time"
                )
            }
            (true, false) => tracing::info!(cluster = shared.title, "answers in time again"),
            _ => {}
        }
        for (key, lane) in due {
            shared.handle.wake(key, lane);
        }
    }
}

/// A late request that is not answered yet.
struct Late<'a>(&'a Turns);

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.change(State::late_ended);
    }
}

/// Sans-IO: what each change returns are the keys to wake.
#[derive(Debug, Default)]
struct State {
    inside: usize,
    /// Late requests that are not answered yet.
    late: usize,
    /// When the last of them ended.
    ended: Duration,
    slow: bool,
    waiting: Lanes<Key>,
    /// Lane and ticket of each that waits.
    tickets: HashMap<Key, (Lane, u64)>,
    last_ticket: u64,
}

impl State {
    /// How many workers its passes lend to others.
    fn lends(&self) -> usize {
        if self.slow { self.inside } else { 0 }
    }

    fn enter(&mut self, key: &Key, lane: Lane) -> bool {
        if self.slow && self.inside >= SHARE {
            if self.tickets.get(key).is_none_or(|(held, _)| lane < *held) {
                self.last_ticket += 1;
                self.tickets.insert(key.clone(), (lane, self.last_ticket));
                self.waiting.push(key.clone(), lane, self.last_ticket);
            }
            return false;
        }
        self.inside += 1;
        true
    }

    fn next(&mut self) -> Option<(Key, Lane)> {
        let Self { waiting, tickets, .. } = self;
        let is_current = |key: &Key, ticket| tickets.get(key).is_some_and(|(_, own)| *own == ticket);
        let next = waiting.pop(|_| true, |_| true, is_current)?;
        self.tickets.remove(&next.0);
        Some(next)
    }

    /// As many as there is room for: one that was woken before may be gone.
    fn leave(&mut self, now: Duration) -> Vec<(Key, Lane)> {
        self.inside = self.inside.saturating_sub(1);
        let mut due = self.recover(now);
        while due.len() + self.inside < SHARE
            && let Some(next) = self.next()
        {
            due.push(next);
        }
        due
    }

    fn late(&mut self) -> Vec<(Key, Lane)> {
        self.late += 1;
        self.slow = true;
        Vec::new()
    }

    fn late_ended(&mut self, now: Duration) -> Vec<(Key, Lane)> {
        self.late = self.late.saturating_sub(1);
        self.ended = now;
        Vec::new()
    }

    /// The cluster is not slow any more if it was in time for long enough; then nobody has to wait.
    fn recover(&mut self, now: Duration) -> Vec<(Key, Lane)> {
        if !self.slow || self.late > 0 || now < self.ended + HOLD {
            return Vec::new();
        }
        self.slow = false;
        let all = std::iter::from_fn(|| self.next()).collect();
        self.tickets = HashMap::new();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn key(number: usize) -> Key {
        Key::new("T", "a", number.to_string())
    }

    fn entered(state: &mut State, keys: std::ops::Range<usize>) -> usize {
        keys.filter(|number| state.enter(&key(*number), Lane::Bulk))
            .count()
    }

    fn bulk(keys: &[usize]) -> Vec<(Key, Lane)> {
        keys.iter().map(|number| (key(*number), Lane::Bulk)).collect()
    }

    #[test]
    fn a_cluster_that_answers_in_time_takes_everybody_and_lends_nothing() {
        let mut state = State::default();
        assert_eq!(entered(&mut state, 0..100), 100);
        assert_eq!(state.lends(), 0);
    }

    #[test]
    fn passes_at_a_slow_cluster_lend_their_workers_and_further_ones_wait_in_their_order() {
        let mut state = State::default();
        entered(&mut state, 0..16);
        state.late();
        assert_eq!(state.lends(), 16, "also those that were there before");
        assert_eq!(entered(&mut state, 16..30), 0);
        assert_eq!(entered(&mut state, 16..30), 0, "they ask twice and wait once");
        for _ in 0..8 {
            assert_eq!(state.leave(Duration::ZERO), Vec::new());
        }
        assert_eq!(state.leave(Duration::ZERO), bulk(&[16]));
        assert_eq!(entered(&mut state, 16..17), 1);
        assert_eq!((state.lends(), state.tickets.len()), (SHARE, 13));
    }

    #[test]
    fn who_orders_something_does_not_wait_for_a_fan_out_that_waits_already() {
        let mut state = State::default();
        state.late();
        entered(&mut state, 0..SHARE + 100);
        let order = Key::new("T", "b", "order");
        assert!(!state.enter(&order, Lane::Urgent));
        // One of the fan-out is changed by its user meanwhile.
        assert!(!state.enter(&key(SHARE + 99), Lane::Urgent));
        let mut next = || {
            let due = state.leave(Duration::ZERO);
            state.inside += due.len();
            due
        };
        assert_eq!(next(), [(order, Lane::Urgent)]);
        assert_eq!(next(), [(key(SHARE + 99), Lane::Urgent)]);
        assert_eq!(next(), bulk(&[SHARE]));
        assert_eq!(state.tickets.len(), 98, "nobody waits twice");
    }

    #[test]
    fn one_that_was_woken_and_does_not_come_keeps_nobody_waiting() {
        let mut state = State::default();
        state.late();
        entered(&mut state, 0..SHARE + 3);
        assert_eq!(state.leave(Duration::ZERO), bulk(&[8]));
        assert_eq!(state.leave(Duration::ZERO), bulk(&[9, 10]));
    }

    #[test]
    fn it_is_slow_until_no_request_was_late_for_a_while() {
        let mut state = State::default();
        entered(&mut state, 0..16);
        state.late();
        entered(&mut state, 16..20);
        assert_eq!(state.recover(HOLD * 3), Vec::new(), "one is still late");
        state.late_ended(HOLD * 3);
        assert_eq!(state.recover(HOLD * 4 - Duration::from_millis(1)), Vec::new());
        assert_eq!(state.recover(HOLD * 4).len(), 4);
        assert_eq!((state.lends(), entered(&mut state, 20..40)), (0, 20));
    }

    proptest! {
        #[test]
        fn a_slow_cluster_never_has_more_than_its_share_and_nobody_waits_while_there_is_room(
            steps in prop::collection::vec((0..5_u8, 0..24_usize, 0..8_u64, 0..3_usize), 1..200)
        ) {
            let (mut state, mut now, mut lates) = (State::default(), Duration::ZERO, 0_usize);
            let mut woken: HashSet<Key> = HashSet::new();
            for (what, number, seconds, lane) in steps {
                now += Duration::from_secs(seconds);
                let before = (state.slow, state.inside);
                let due = match what {
                    0 => {
                        let inside = state.enter(&key(number), Lane::ALL[lane]);
                        prop_assert!(!inside || !before.0 || state.inside <= SHARE);
                        prop_assert!(inside || state.tickets.contains_key(&key(number)));
                        woken.remove(&key(number));
                        Vec::new()
                    }
                    1 if state.inside > 0 => state.leave(now),
                    2 => { lates += 1; state.late() }
                    3 if lates > 0 => { lates -= 1; state.late_ended(now) }
                    _ => state.recover(now),
                };
                woken.extend(due.into_iter().map(|(key, _)| key));
                prop_assert!(state.slow || state.tickets.is_empty());
                // Somebody is there to wake who waits, or somebody was woken for the room there is.
                prop_assert!(
                    state.tickets.is_empty() || state.inside > 0 || !woken.is_empty(),
                    "{} wait for nobody", state.tickets.len()
                );
                prop_assert_eq!(state.lends(), if state.slow { state.inside } else { 0 });
            }
        }
    }
}
