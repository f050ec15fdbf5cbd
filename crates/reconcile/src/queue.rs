//! The work queue, sans-IO: pure, told the time, property-tested (runtime design §6).
//!
//! Every key is in exactly one phase: idle (perhaps with a time at which it is due), queued, or running. A key is
//! never queued twice and never runs twice at once; waking a running key queues it again when it ends.
//!
//! **Back-off** belongs to a key and a fault class. Events neither reset nor inflate it: an event for a key in
//! back-off gives it an *early* pass (bounded in rate by its lane, and never before the time that the server asked
//! for), and when that fails the same way, the retry stays where it was. Only success, or [`Queue::forget`], resets it.
//!
//! Times are durations since any fixed start. Randomness is an argument. Knows nothing of tokio or Kubernetes.
mod backoff;
mod entry;
mod lanes;
#[cfg(test)]
mod tests;

use crate::fault::Class;
use entry::{Due, Entry, Hold, Phase};
pub use lanes::Lane;
pub(crate) use lanes::Lanes;
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};

/// Passes that wait cost memory only, but they do.
const LENT: usize = 4;

/// What the queue must know of a key.
pub trait Tenanted {
    /// Whose work it is: lanes take turns between tenants.
    fn tenant(&self) -> &str;
}

/// How many passes may run at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In all.
    pub workers: usize,
    /// For one tenant, so that a slow cluster of one cannot hold every worker.
    pub per_tenant: usize,
    /// From the bulk lane, so that a fan-out never holds every worker.
    pub bulk: usize,
}

impl Bounds {
    /// The bounds for a number of workers: half of them for one tenant, three quarters for bulk work.
    pub fn of(workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            workers,
            per_tenant: workers.div_ceil(2),
            bulk: (workers * 3).div_ceil(4),
        }
    }
}

/// A key that is to run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<K> {
    /// The key, which is now running until [`Queue::done`].
    pub key: K,
    /// The lane it came from.
    pub lane: Lane,
    /// How long it was queued.
    pub waited: Duration,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Nothing to do until an event.
    Settled,
    /// Look again after this time.
    Wake(Duration),
    /// It failed; the class decides when it is tried again.
    Failed {
        /// Of the fault.
        class: Class,
        /// The server's wish, honoured as a lower bound, for ten minutes at most.
        retry_after: Option<Duration>,
        /// Where it is not tried again by itself: look again after this time.
        wake: Option<Duration>,
    },
}

/// A key in back-off, for people who look.
#[derive(Debug, Clone)]
pub struct Held<K> {
    /// The key.
    pub key: K,
    /// Of the last fault.
    pub class: Class,
    /// Failures in a row of that class.
    pub attempts: u32,
    /// When it is tried again.
    pub until: Duration,
}

/// The queue. See the module documentation.
///
/// ```
/// use openmcp_reconcile::{Key, Lane, queue::{Bounds, Finish, Queue}};
/// use std::time::Duration;
/// let (now, mut queue) = (Duration::ZERO, Queue::new(Bounds::of(4)));
/// queue.wake(now, Key::new("Kro", "project-a", "mcp"), Lane::Urgent);
/// queue.wake(now, Key::new("Kro", "project-a", "mcp"), Lane::Bulk);
/// let job = queue.next(now).unwrap();
/// assert_eq!(queue.next(now), None, "the second wake-up was the same key");
/// queue.done(now, &job.key, Finish::Settled, 0.5);
/// assert!(queue.is_empty());
/// ```
#[derive(Debug)]
pub struct Queue<K> {
    bounds: Bounds,
    entries: HashMap<K, Entry>,
    ready: Lanes<K>,
    due: BTreeMap<(Duration, u64), K>,
    depth: [usize; Lane::ALL.len()],
    running: usize,
    lent: usize,
    running_bulk: usize,
    running_of: HashMap<String, usize>,
    ticket: u64,
}

impl<K: Tenanted + Clone + Eq + Hash> Queue<K> {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            ready: Lanes::default(),
            due: BTreeMap::new(),
            depth: [0; Lane::ALL.len()],
            running: 0,
            lent: 0,
            running_bulk: 0,
            running_of: HashMap::new(),
            ticket: 0,
        }
    }

    /// Wakes a key. Returns whether it was newly queued or scheduled (not merged into a wake-up that was there).
    pub fn wake(&mut self, now: Duration, key: K, lane: Lane) -> bool {
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::new);
        match &mut entry.phase {
            Phase::Running { again, .. } => {
                let first = again.is_none();
                *again = Some(again.map_or(lane, |old| old.min(lane)));
                first
            }
            Phase::Queued {
                lane: old, ticket, ..
            } => {
                if lane < *old {
                    self.ticket += 1;
                    *ticket = self.ticket;
                    self.depth[old.index()] -= 1;
                    self.depth[lane.index()] += 1;
                    *old = lane;
                    self.ready.push(key, lane, self.ticket);
                }
                false
            }
            Phase::Idle { due } => {
                let at = match entry.hold {
                    Some(hold) if hold.until > now => {
                        let early = backoff::early(lane, entry.ended, hold.until);
                        early.max(hold.asked).max(now)
                    }
                    _ => now,
                };
                if at <= now {
                    self.enqueue(now, key, lane);
                    return true;
                }
                match due {
                    Some(due) if due.at <= at => false,
                    _ => {
                        self.schedule(key, at, lane);
                        true
                    }
                }
            }
        }
    }

    /// So many of the running passes only wait, and others may run in their place: up to [`LENT`] for a worker.
    pub fn lend(&mut self, lent: usize) {
        self.lent = lent.min(LENT * self.bounds.workers);
    }

    /// The next key to run, if the bounds allow one. It is running until [`Queue::done`].
    pub fn next(&mut self, now: Duration) -> Option<Job<K>> {
        self.promote(now);
        if self.running >= self.bounds.workers + self.lent {
            return None;
        }
        let Self {
            bounds,
            entries,
            ready,
            lent,
            running_bulk,
            running_of,
            ..
        } = self;
        let (key, lane) = ready.pop(
            |lane| lane != Lane::Bulk || *running_bulk < bounds.bulk + *lent,
            |tenant| {
                running_of
                    .get(tenant)
                    .is_none_or(|running| *running < bounds.per_tenant)
            },
            |key, ticket| {
                entries.get(key).is_some_and(
                    |entry| matches!(entry.phase, Phase::Queued { ticket: own, .. } if own == ticket),
                )
            },
        )?;
        let entry = entries.get_mut(&key)?;
        let waited = match entry.phase {
            Phase::Queued { since, .. } => now.saturating_sub(since),
            _ => Duration::ZERO,
        };
        let early = entry.hold.is_some_and(|hold| hold.until > now);
        if entry.timer.is_some_and(|at| at <= now) {
            entry.timer = None;
        }
        entry.phase = Phase::Running {
            lane,
            since: now,
            again: None,
            early,
        };
        self.depth[lane.index()] -= 1;
        self.running += 1;
        self.running_bulk += usize::from(lane == Lane::Bulk);
        *self.running_of.entry(key.tenant().to_owned()).or_default() += 1;
        Some(Job { key, lane, waited })
    }

    /// When [`Queue::next`] should be asked again although nothing was woken.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// A running key ended. `jitter` is uniform in 0..1. Returns in what time it is tried again, if it failed and
    /// is tried again by itself.
    pub fn done(&mut self, now: Duration, key: &K, finish: Finish, jitter: f64) -> Option<Duration> {
        let entry = self.entries.get_mut(key)?;
        let Phase::Running {
            lane, again, early, ..
        } = entry.phase
        else {
            return None;
        };
        self.running -= 1;
        self.running_bulk -= usize::from(lane == Lane::Bulk);
        if let Some(running) = self.running_of.get_mut(key.tenant()) {
            *running -= 1;
            if *running == 0 {
                self.running_of.remove(key.tenant());
            }
        }
        entry.phase = Phase::Idle { due: None };
        entry.ended = now;
        let retry = entry.settle(now, finish, early, jitter);
        if let Some(at) = entry.hold.map(|hold| hold.until).or(entry.timer) {
            self.schedule(key.clone(), at, Lane::Normal);
        }
        if let Some(lane) = again {
            self.wake(now, key.clone(), lane);
        }
        if self.entries.get(key).is_some_and(Entry::is_blank) {
            self.entries.remove(key);
            slim(&mut self.entries);
        }
        retry
    }

    /// Drops back-off and timers of a key whose object is gone. A pass that is queued or runs still happens.
    pub fn forget(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.hold = None;
        entry.timer = None;
        entry.attempts = Default::default();
        if let Phase::Idle { due } = entry.phase {
            if let Some(due) = due {
                self.due.remove(&(due.at, due.ticket));
            }
            self.entries.remove(key);
        }
    }

    /// Keys queued in a lane.
    pub fn depth(&self, lane: Lane) -> usize {
        self.depth[lane.index()]
    }

    /// The running keys and since when.
    pub fn running(&self) -> impl Iterator<Item = (&K, Duration)> {
        self.entries.iter().filter_map(|(key, entry)| match entry.phase {
            Phase::Running { since, .. } => Some((key, since)),
            _ => None,
        })
    }

    /// The keys in back-off.
    pub fn held(&self) -> impl Iterator<Item = Held<K>> {
        self.entries.iter().filter_map(|(key, entry)| {
            let Hold { class, until, .. } = entry.hold?;
            Some(Held {
                key: key.clone(),
                class,
                attempts: entry.attempts[class.index()],
                until,
            })
        })
    }

    /// Nothing is queued, running, due or remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Queues the keys that are due.
    fn promote(&mut self, now: Duration) {
        while let Some((&(at, ticket), _)) = self.due.first_key_value() {
            if at > now {
                return;
            }
            let Some(key) = self.due.remove(&(at, ticket)) else {
                return;
            };
            let lane = match self.entries.get(&key).map(|entry| &entry.phase) {
                Some(Phase::Idle { due: Some(due) }) => due.lane,
                _ => continue,
            };
            self.enqueue(now, key, lane);
        }
    }

    /// Puts an idle key into its lane; what it was due for happens now.
    fn enqueue(&mut self, now: Duration, key: K, lane: Lane) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Phase::Idle { due: Some(due) } = entry.phase {
            self.due.remove(&(due.at, due.ticket));
        }
        self.ticket += 1;
        entry.phase = Phase::Queued {
            lane,
            ticket: self.ticket,
            since: now,
        };
        self.depth[lane.index()] += 1;
        self.ready.push(key, lane, self.ticket);
    }

    /// Makes an idle key due at a time, instead of any other.
    fn schedule(&mut self, key: K, at: Duration, lane: Lane) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Phase::Idle { due } = &mut entry.phase else {
            return;
        };
        if let Some(old) = due.take() {
            self.due.remove(&(old.at, old.ticket));
        }
        self.ticket += 1;
        *due = Some(Due {
            at,
            lane,
            ticket: self.ticket,
        });
        self.due.insert((at, self.ticket), key);
    }
}

/// Gives back the room of a rush that is over: a first list queues every object there is.
fn slim<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    const SMALL: usize = 256;
    if map.capacity() > SMALL.max(8 * map.len()) {
        map.shrink_to(SMALL.max(2 * map.len()));
    }
}
