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
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

/// What is to be done about one wanted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Create,
    Change,
    Repair,
    Renew,
    /// Others changed it and it is to be left so.
    Report,
    /// It must be gone before it can be made again.
    Await,
}

/// A wanted object with what deciding needs to know of it.
pub(super) struct Candidate<'a> {
    pub wanted: &'a Wanted,
    pub id: Id,
    pub live: Option<Child>,
}

/// What is to be recorded before anything is applied: objects that were not wanted before.
pub(super) fn intents(candidates: &[Candidate<'_>], recorded: &BTreeMap<Id, Entry>) -> Vec<Entry> {
    candidates
        .iter()
        .filter(|candidate| !recorded.contains_key(&candidate.id))
        .map(intent)
        .collect()
}

/// What is recorded and no longer wanted, in groups: custom resources first, then definitions, while what serves their
/// objects is still there; then the last wave first.
pub(super) fn prunes(candidates: &[Candidate<'_>], recorded: &BTreeMap<Id, Entry>) -> Vec<Vec<Id>> {
    let wanted: HashSet<&Id> = candidates.iter().map(|candidate| &candidate.id).collect();
    let mut groups: BTreeMap<_, Vec<Id>> = BTreeMap::new();
    for entry in recorded.values().filter(|entry| !wanted.contains(&entry.id)) {
        let rank = match entry.wave {
            _ if entry.id.is_definition() => 1,
            Wave::Custom => 0,
            _ => 2,
        };
        let of = if rank == 1 { Wave::Foundation } else { entry.wave };
        groups
            .entry((rank, Reverse(of)))
            .or_default()
            .push(entry.id.clone());
    }
    groups.into_values().collect()
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

/// Compares one object: `hash` is of what is wanted now.
pub(super) fn decide(
    candidate: &Candidate<'_>,
    hash: Digest,
    entry: Option<&Entry>,
    now: Timestamp,
) -> Action {
    let Some((entry, uid)) = entry.and_then(|entry| Some((entry, entry.uid.as_deref()?))) else {
        return Action::Create;
    };
    let Some(live) = candidate.live.as_ref() else {
        return Action::Repair;
    };
    if live.is_deleting() {
        return Action::Await;
    }
    if !live.has_uid(uid) {
        return Action::Repair;
    }
    let wanted = candidate.wanted;
    if wanted.mode == Mode::IfAbsent {
        return Action::Nothing;
    }
    if entry.desired != Some(hash) || entry.live.is_none() {
        return Action::Change;
    }
    if entry.live != Some(live.digest()) {
        return if wanted.mode == Mode::Detect {
            Action::Report
        } else {
            Action::Repair
        };
    }
    if wanted.recipe.is_some() && live.renew_at().is_none_or(|at| at <= now) {
        return Action::Renew;
    }
    Action::Nothing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::Digester;
    use serde_json::json;

    fn digest(text: &str) -> Digest {
        Digester::new("m", "k").of_value(&json!(text))
    }

    fn wanted(mode: Mode) -> Wanted {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}});
        Wanted {
            mode,
            ..Wanted::new("mcp", object)
        }
    }

    fn body(uid: &str, text: &str) -> serde_json::Value {
        json!({"metadata": {"uid": uid, "resourceVersion": "1", "managedFields": [
            {"manager": "m", "operation": "Apply", "fieldsV1": {"f:data": {}}}]}, "data": text})
    }

    fn observed(body: &serde_json::Value) -> Child {
        Child::observe(&Digester::new("m", "k"), "ConfigMap", body).unwrap()
    }

    fn live(uid: &str, text: &str) -> Child {
        observed(&body(uid, text))
    }

    fn decided(mode: Mode, seen: Option<Child>, uid: Option<&str>, hash: &str) -> Action {
        let wanted = wanted(mode);
        let candidate = Candidate {
            id: wanted.id(None),
            wanted: &wanted,
            live: seen,
        };
        let entry = Entry {
            uid: uid.map(str::to_owned),
            desired: Some(digest("wanted")),
            live: Some(live("1", "live").digest()),
            ..intent(&candidate)
        };
        decide(&candidate, digest(hash), Some(&entry), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_as_recorded_needs_nothing() {
        assert_eq!(
            decided(Mode::Enforce, Some(live("1", "live")), Some("1"), "wanted"),
            Action::Nothing
        );
    }

    #[test]
    fn without_a_uid_it_is_created() {
        assert_eq!(
            decided(Mode::Enforce, Some(live("1", "live")), None, "wanted"),
            Action::Create
        );
    }

    #[test]
    fn what_differs_decides() {
        assert_eq!(
            decided(Mode::Enforce, Some(live("1", "live")), Some("1"), "new"),
            Action::Change
        );
        assert_eq!(
            decided(Mode::Enforce, Some(live("1", "other")), Some("1"), "wanted"),
            Action::Repair
        );
        assert_eq!(
            decided(Mode::Enforce, Some(live("2", "live")), Some("1"), "wanted"),
            Action::Repair
        );
        assert_eq!(decided(Mode::Enforce, None, Some("1"), "wanted"), Action::Repair);
    }

    #[test]
    fn modes_leave_differences_to_others() {
        assert_eq!(
            decided(Mode::Detect, Some(live("1", "other")), Some("1"), "wanted"),
            Action::Report
        );
        assert_eq!(
            decided(Mode::IfAbsent, Some(live("1", "other")), Some("1"), "new"),
            Action::Nothing
        );
        assert_eq!(decided(Mode::IfAbsent, None, Some("1"), "wanted"), Action::Repair);
    }

    #[test]
    fn what_is_being_deleted_is_awaited() {
        let mut going = body("1", "live");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let going = observed(&going);
        assert_eq!(
            decided(Mode::Enforce, Some(going), Some("1"), "wanted"),
            Action::Await
        );
    }

    #[test]
    fn prunes_come_in_the_opposite_order_of_waves_and_definitions_before_what_serves_their_objects() {
        let kept = wanted(Mode::Enforce);
        let kept = [Candidate {
            id: kept.id(None),
            wanted: &kept,
            live: None,
        }];
        let entry = |name: &str, wave, definition: bool| {
            let mut id = Id {
                name: name.into(),
                ..kept[0].id.clone()
            };
            if definition {
                id.group = "apiextensions.k8s.io".into();
                id.kind = "CustomResourceDefinition".into();
            }
            let entry = Entry {
                id: id.clone(),
                wave,
                ..intent(&kept[0])
            };
            (id, entry)
        };
        let recorded = BTreeMap::from([
            entry("a", Wave::Config, false),
            entry("b", Wave::Config, false),
            entry("ns", Wave::Foundation, false),
            entry("gadgets", Wave::Foundation, true),
            entry("pod", Wave::Workload, false),
            entry("gadget", Wave::Custom, false),
        ]);
        let groups: Vec<Vec<String>> = prunes(&kept, &recorded)
            .into_iter()
            .map(|group| group.into_iter().map(|id| id.name).collect())
            .collect();
        let expected = ["gadget", "gadgets", "pod", "b", "ns"].map(|name| vec![name.to_owned()]);
        assert_eq!(groups, expected);
    }
}
