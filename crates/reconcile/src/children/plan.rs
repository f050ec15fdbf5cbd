//! The plan: a pure comparison of what is wanted, what was recorded and what is live.
//!
//! | recorded | live | differs in | action |
//! |---|---|---|---|
//! | no, or without UID | – | – | Create (the recorder resolves whose it is) |
//! | UID | absent | – | Repair, missing |
//! | UID | being deleted | – | Await its end |
//! | UID | another UID | – | Repair, replaced |
//! | UID | there | wanted hash, or a digest of an unknown algorithm | Change |
//! | UID | there | live digest | Repair, changed (mode Detect: Report) |
//! | UID | there | its renewal time has come | Renew |
//! | UID | there | nothing | Nothing: no request at all |
use super::{
    observe::Child,
    wanted::{Mode, Wanted, Wave},
};
use crate::{
    digest::Digest,
    inventory::{Entry, Id},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// What is to be done about one wanted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Create,
    Change,
    Repair,
    Renew,
    /// Others changed it and it is to be left so.
    Report,
    /// It must be gone before it can be made again; these finalizers hold it.
    Await(Vec<String>),
}

/// One wanted object with its action.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its index in the wanted list.
    pub wanted: usize,
    pub id: Id,
    /// Of what is wanted.
    pub hash: Digest,
    pub action: Action,
    pub live: Option<Arc<Child>>,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// To be recorded before anything is applied.
    pub intents: Vec<Entry>,
    pub steps: Vec<Step>,
    /// No longer wanted: removed in this order, when everything else has gone well.
    pub prune: Vec<Id>,
}

/// A wanted object with what planning needs to know of it.
pub struct Candidate<'a> {
    pub wanted: &'a Wanted,
    pub id: Id,
    pub hash: Digest,
    pub live: Option<Arc<Child>>,
}

/// Compares. Steps come in the order of waves, prunes in the opposite one.
pub fn plan(candidates: Vec<Candidate<'_>>, recorded: &BTreeMap<Id, Entry>, now: Timestamp) -> Plan {
    let wanted: HashSet<Id> = candidates.iter().map(|candidate| candidate.id.clone()).collect();
    let mut plan = Plan::default();
    let mut waves: Vec<(Wave, Step)> = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.into_iter().enumerate() {
        let entry = recorded.get(&candidate.id);
        if entry.is_none() {
            plan.intents.push(intent(&candidate));
        }
        let action = action(&candidate, entry, now);
        let Candidate {
            wanted,
            id,
            hash,
            live,
        } = candidate;
        waves.push((
            wanted.wave,
            Step {
                wanted: index,
                id,
                hash,
                action,
                live,
            },
        ));
    }
    waves.sort_by_key(|(wave, _)| *wave);
    plan.steps = waves.into_iter().map(|(_, step)| step).collect();
    let mut stale: Vec<&Entry> = recorded
        .values()
        .filter(|entry| !wanted.contains(&entry.id))
        .collect();
    stale.sort_by_key(|entry| std::cmp::Reverse(entry.wave));
    plan.prune = stale.into_iter().map(|entry| entry.id.clone()).collect();
    plan
}

fn intent(candidate: &Candidate<'_>) -> Entry {
    Entry {
        id: candidate.id.clone(),
        version: candidate.wanted.version().to_owned(),
        uid: None,
        wave: candidate.wanted.wave,
        desired: None,
        live: None,
        orphan: candidate.wanted.retain,
    }
}

fn action(candidate: &Candidate<'_>, entry: Option<&Entry>, now: Timestamp) -> Action {
    let Some((entry, uid)) = entry.and_then(|entry| Some((entry, entry.uid.as_deref()?))) else {
        return Action::Create;
    };
    let Some(live) = candidate.live.as_deref() else {
        return Action::Repair;
    };
    if let Some(finalizers) = &live.finalizers {
        return Action::Await(finalizers.iter().map(ToString::to_string).collect());
    }
    if *live.uid != *uid {
        return Action::Repair;
    }
    if candidate.wanted.mode == Mode::IfAbsent {
        return Action::Nothing;
    }
    if entry.desired != Some(candidate.hash) || entry.live.is_none() {
        return Action::Change;
    }
    if entry.live != Some(live.digest) {
        return if candidate.wanted.mode == Mode::Detect {
            Action::Report
        } else {
            Action::Repair
        };
    }
    if candidate.wanted.recipe.is_some() && live.renew_at.is_none_or(|at| at <= now) {
        return Action::Renew;
    }
    Action::Nothing
}
