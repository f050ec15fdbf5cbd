//! Keys that are ready: three weighted lanes, in each a ring of tenants, in each tenant first-in first-out.
//!
//! A key that was moved to another lane leaves its old ticket behind; such tickets are skipped when they come up.
use super::{Tenanted, slim};
use std::collections::{HashMap, VecDeque};

/// How urgent a wake-up is. No lane starves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// A user's change, a deletion, drift.
    Urgent,
    /// A dependency changed.
    Normal,
    /// Config fan-out, first list, audit.
    Bulk,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The lane as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// Passes that each lane gets in one round while all have work.
const WEIGHTS: [u32; Lane::ALL.len()] = [8, 4, 1];

#[derive(Debug)]
pub(crate) struct Lanes<K> {
    rings: [Ring<K>; Lane::ALL.len()],
    credit: [u32; Lane::ALL.len()],
}

#[derive(Debug)]
struct Ring<K> {
    /// Tenants with keys, the next one first.
    turn: VecDeque<String>,
    keys: HashMap<String, VecDeque<(K, u64)>>,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self {
            rings: [Ring::new(), Ring::new(), Ring::new()],
            credit: WEIGHTS,
        }
    }
}

impl<K: Tenanted> Lanes<K> {
    pub(crate) fn push(&mut self, key: K, lane: Lane, ticket: u64) {
        self.rings[lane.index()].push(key, ticket);
    }

    /// The next key whose lane and tenant may run and whose ticket is current.
    pub(crate) fn pop(
        &mut self,
        lane_may: impl Fn(Lane) -> bool,
        tenant_may: impl Fn(&str) -> bool,
        is_current: impl Fn(&K, u64) -> bool,
    ) -> Option<(K, Lane)> {
        for _round in 0..2 {
            for lane in Lane::ALL.into_iter().filter(|lane| lane_may(*lane)) {
                let credit = &mut self.credit[lane.index()];
                if *credit == 0 {
                    continue;
                }
                if let Some(key) = self.rings[lane.index()].pop(&tenant_may, &is_current) {
                    *credit -= 1;
                    return Some((key, lane));
                }
            }
            self.credit = WEIGHTS;
        }
        None
    }
}

impl<K> Ring<K> {
    fn new() -> Self {
        Self {
            turn: VecDeque::new(),
            keys: HashMap::new(),
        }
    }
}

impl<K: Tenanted> Ring<K> {
    fn push(&mut self, key: K, ticket: u64) {
        if let Some(keys) = self.keys.get_mut(key.tenant()) {
            keys.push_back((key, ticket));
        } else {
            let tenant = key.tenant().to_owned();
            self.turn.push_back(tenant.clone());
            self.keys.insert(tenant, VecDeque::from([(key, ticket)]));
        }
    }

    fn pop(&mut self, tenant_may: impl Fn(&str) -> bool, is_current: impl Fn(&K, u64) -> bool) -> Option<K> {
        for _ in 0..self.turn.len() {
            let tenant = self.turn.pop_front()?;
            if !tenant_may(&tenant) {
                self.turn.push_back(tenant);
                continue;
            }
            let keys = self.keys.get_mut(&tenant)?;
            let mut found = None;
            while let Some((key, ticket)) = keys.pop_front() {
                if is_current(&key, ticket) {
                    found = Some(key);
                    break;
                }
            }
            if keys.is_empty() {
                self.keys.remove(&tenant);
                slim(&mut self.keys);
            } else {
                self.turn.push_back(tenant);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
