//! A bound on repairs of one child that somebody else keeps changing. It delays, it never drops.
use crate::inventory::Id;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Repairs that go through at once; after that the interval grows.
const BURST: u32 = 5;
const FIRST: SignedDuration = SignedDuration::from_millis(500);
const LAST: SignedDuration = SignedDuration::from_secs(60);
/// A child left alone for so long starts afresh.
const FORGET: SignedDuration = SignedDuration::from_mins(2);

struct Fight {
    repairs: u32,
    interval: SignedDuration,
    last: Timestamp,
}

/// The fights that go on, by (API server, child).
#[derive(Default)]
pub(super) struct Damper {
    fights: Mutex<HashMap<(String, Id), Fight>>,
}

impl Damper {
    /// Whether a repair may be made now, which it then notes; else how long to wait for it.
    pub(super) fn admit(&self, identity: &str, id: &Id, now: Timestamp) -> Result<(), SignedDuration> {
        let mut fights = self.fights.lock().unwrap_or_else(PoisonError::into_inner);
        fights.retain(|_, fight| now.duration_since(fight.last) < FORGET);
        let fresh = || Fight {
            repairs: 0,
            interval: FIRST,
            last: now,
        };
        let fight = fights
            .entry((identity.to_owned(), id.clone()))
            .or_insert_with(fresh);
        if fight.repairs >= BURST {
            let due = fight.interval.saturating_sub(now.duration_since(fight.last));
            if due.is_positive() {
                return Err(due);
            }
            fight.interval = fight.interval.saturating_mul(2).min(LAST);
        }
        fight.repairs += 1;
        fight.last = now;
        Ok(())
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
    fn the_first_repairs_are_at_once_then_ever_rarer_and_peace_resets() {
        let (damper, start) = (Damper::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..BURST {
            damper.admit("x", &id(), start).unwrap();
        }
        assert_eq!(damper.admit("x", &id(), start), Err(FIRST));
        damper.admit("x", &id(), start + FIRST).unwrap();
        assert_eq!(damper.admit("x", &id(), start + FIRST), Err(FIRST * 2));
        assert_eq!(
            damper.admit("y", &id(), start),
            Ok(()),
            "another cluster is not concerned"
        );
        assert_eq!(damper.admit("x", &id(), start + FIRST + FORGET), Ok(()));
    }
}
