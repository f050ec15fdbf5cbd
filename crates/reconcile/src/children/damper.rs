//! A bound on repairs of one child that somebody else keeps changing. It delays, it never drops.
//!
//! The interval between two repairs grows by multiplication with each repair, and shrinks by subtraction while it is quiet
//! (runtime design §4): who comes back after a pause is not fought as if nothing had been.
use crate::inventory::Id;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Repairs that go through at once; after that the interval grows.
const BURST: u32 = 5;
const FIRST: SignedDuration = SignedDuration::from_millis(500);
const LAST: SignedDuration = SignedDuration::from_secs(60);
/// A child left alone starts afresh after so long at the earliest.
const FORGET: SignedDuration = SignedDuration::from_mins(2);
/// It is quiet for so long for each second that the interval loses.
const CALM: i32 = 10;

/// A repair has to wait.
pub(super) struct Pause {
    /// For so long from now on.
    pub(super) due: SignedDuration,
    /// Between two repairs at present: unlike what is left of it, the same in every pass.
    pub(super) interval: SignedDuration,
    /// What the last repair was about.
    pub(super) about: String,
}

struct Fight {
    /// The last repair, in words.
    about: String,
    repairs: u32,
    interval: SignedDuration,
    last: Timestamp,
}

impl Fight {
    /// What is left of the interval: it has been quiet since the end of the last one.
    fn left(&self, now: Timestamp) -> SignedDuration {
        let quiet = now.duration_since(self.last).saturating_sub(self.interval);
        self.interval - quiet.max(SignedDuration::ZERO) / CALM
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) >= FORGET && !self.left(now).is_positive()
    }
}

/// Fights are looked through for those that are over when there are so many.
const TIDY: usize = 64;

/// The fights that go on, by (API server, child).
#[derive(Default)]
pub(super) struct Damper(Mutex<Fights>);

#[derive(Default)]
struct Fights {
    by_child: HashMap<(String, Id), Fight>,
    /// Doubles with what is left, so that tidying costs nothing on average.
    tidy_at: usize,
}

impl Damper {
    /// If a repair may not be made now: asked before anything is sent, so that what is held back costs no request.
    pub(super) fn holds(&self, identity: &str, id: &Id, now: Timestamp) -> Option<Pause> {
        let fights = self.lock();
        let fight = fights.by_child.get(&(identity.to_owned(), id.clone()))?;
        if fight.repairs < BURST || fight.is_over(now) {
            return None;
        }
        let due = fight.interval.saturating_sub(now.duration_since(fight.last));
        due.is_positive().then(|| Pause {
            due,
            interval: fight.interval,
            about: fight.about.clone(),
        })
    }

    /// A repair is made.
    pub(super) fn note(&self, identity: &str, id: &Id, about: &str, now: Timestamp) {
        let mut fights = self.lock();
        fights.tidy(now);
        let fresh = || Fight {
            about: String::new(),
            repairs: 0,
            interval: FIRST,
            last: now,
        };
        let fight = fights
            .by_child
            .entry((identity.to_owned(), id.clone()))
            .or_insert_with(fresh);
        if fight.is_over(now) {
            *fight = fresh();
        }
        if fight.repairs >= BURST {
            fight.interval = fight.left(now).saturating_mul(2).clamp(FIRST, LAST);
        }
        about.clone_into(&mut fight.about);
        fight.repairs += 1;
        fight.last = now;
    }

    fn lock(&self) -> MutexGuard<'_, Fights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many children are repaired more rarely than they are changed.
    pub(super) fn active(&self, now: Timestamp) -> usize {
        let fights = self.lock();
        let active = |fight: &&Fight| fight.repairs >= BURST && !fight.is_over(now);
        fights.by_child.values().filter(active).count()
    }
}

impl Fights {
    fn tidy(&mut self, now: Timestamp) {
        if self.by_child.len() >= self.tidy_at.max(TIDY) {
            self.by_child.retain(|_, fight| !fight.is_over(now));
            self.tidy_at = self.by_child.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id() -> Id {
        let text = String::new;
        Id {
            cluster: text(),
            group: text(),
            kind: text(),
            namespace: text(),
            name: text(),
        }
    }

    #[test]
    fn the_first_repairs_are_at_once_then_ever_rarer_and_a_long_peace_resets() {
        let (damper, start) = (Damper::default(), Timestamp::UNIX_EPOCH);
        let repair = |after: SignedDuration| {
            let held = damper.holds("x", &id(), start + after);
            if held.is_none() {
                damper.note("x", &id(), "what", start + after);
            }
            held.map(|pause| (pause.due, pause.interval, pause.about == "what"))
        };
        for _ in 0..BURST {
            assert_eq!(repair(SignedDuration::ZERO), None);
        }
        assert_eq!(repair(SignedDuration::ZERO), Some((FIRST, FIRST, true)));
        assert_eq!(repair(FIRST / 2), Some((FIRST / 2, FIRST, true)));
        assert_eq!(repair(FIRST), None);
        assert_eq!(repair(FIRST), Some((FIRST * 2, FIRST * 2, true)));
        assert!(
            damper.holds("y", &id(), start).is_none(),
            "another cluster is not concerned"
        );
        assert_eq!(damper.active(start), 1);
        assert_eq!(repair(FIRST + FORGET), None);
        assert_eq!(damper.active(start + FIRST + FORGET), 0);
    }

    #[test]
    fn quiet_takes_off_the_interval_bit_by_bit_and_the_next_repair_doubles_what_is_left() {
        let (damper, start) = (Damper::default(), Timestamp::UNIX_EPOCH);
        let (mut at, mut interval) = (start, SignedDuration::ZERO);
        for _ in 0..20 {
            damper.note("x", &id(), "what", at);
            interval = damper
                .holds("x", &id(), at)
                .map_or(interval, |held| held.interval);
            at += interval;
        }
        assert_eq!(interval, LAST, "nobody rests");
        let quiet = SignedDuration::from_mins(8);
        at += quiet;
        assert!(damper.holds("x", &id(), at).is_none(), "it is repaired at once");
        damper.note("x", &id(), "what", at);
        let held = damper.holds("x", &id(), at).unwrap().interval;
        assert_eq!(held, (LAST - quiet / CALM) * 2);
        at += held * (CALM + 1);
        assert_eq!((damper.active(at - FIRST), damper.active(at)), (1, 0));
    }
}
