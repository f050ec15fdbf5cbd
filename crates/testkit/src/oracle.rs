//! What must hold after every fault (the invariants of the fault matrix), judged from the log of all writes.
//!
//! | invariant | how it is judged |
//! |---|---|
//! | I1 converge | the end is that of the same scenario without faults ([`snapshot`]) |
//! | I2 quiesce | the simulator waits until nobody writes; that it does not come to that is an error |
//! | I4 nothing else touched | each child is in an Inventory when it is made; bystanders are never written |
//! | I5 finalizer | it goes only when no child and no Inventory is left, and is there before the first child |
//! | I6 no deletion on absence | a child that a process deletes and makes again was not wanted meanwhile (`oracle/deletions.rs`); one that stays away is missing in the end; and who wants to know asks [`deleted_children`] |
//! | I7 one writer | each write of a process arrives while the provider's Lease names it, where there is one |
//! | I8 observedGeneration | it never falls, and never is ahead of the generation |
//! | I9 counts | the simulator compares tasks and watches with the run without a crash, and where the end is the beginning |
//!
//! I3 concerns back ends that are not Kubernetes: `tests/external.rs` judges it. That one process never works on a
//! key twice at once is a property of the queue.
mod deletions;

use crate::{
    World,
    server::{Change, Entry, Place},
};
use openmcp_api::keys::labels;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Objects of this name are nobody's business.
pub const BYSTANDER: &str = "bystander";

/// What is wrong with what happened, one sentence each.
pub fn judge(world: &World) -> Vec<String> {
    let mut judge = Judge::default();
    let history = history(world);
    for (host, entry) in &history {
        judge.see(host, entry);
    }
    judge.wrong.extend(second_writers(world, &history));
    let effects = world.record().effects();
    judge.wrong.extend(deletions::groundless(&history, &effects));
    judge.wrong
}

/// I7: what arrived from a process while another one, or none, had the Lease of the provider.
fn second_writers(world: &World, history: &[(String, Entry)]) -> Vec<String> {
    let name = format!("sp-{}", world.provider());
    let leases = history.iter().filter(|(host, entry)| {
        host == "platform" && entry.place.plural == "leases" && entry.place.name == name
    });
    let terms: Vec<(u64, String)> = leases
        .map(|(_, entry)| {
            let holder = entry.object["spec"]["holderIdentity"].as_str();
            (entry.version, holder.unwrap_or_default().to_owned())
        })
        .collect();
    let mut wrong = Vec::new();
    for effect in world.record().effects() {
        let before = terms.partition_point(|(version, _)| *version <= effect.after);
        let Some((_, leader)) = before.checked_sub(1).and_then(|last| terms.get(last)) else {
            continue;
        };
        if *leader != effect.by {
            wrong.push(format!(
                "I7: {} wrote while {leader:?} had the Lease: {}",
                effect.by, effect.what
            ));
        }
    }
    wrong
}

/// Every write anywhere, in order.
fn history(world: &World) -> Vec<(String, Entry)> {
    let mut all: Vec<(String, Entry)> = Vec::new();
    for (host, server) in world.servers() {
        all.extend(server.log().into_iter().map(|entry| (host.clone(), entry)));
    }
    all.sort_by_key(|(_, entry)| entry.version);
    all
}

/// The children that were deleted after a point in time (a [`World::version`]), by anybody.
pub fn deleted_children(world: &World, since: u64) -> Vec<String> {
    let all = history(world).into_iter();
    all.filter(|(_, entry)| {
        entry.version > since && entry.change == Change::Deleted && owner(&entry.object).is_some()
    })
    .map(|(host, entry)| {
        format!(
            "{host} {} {}/{}",
            entry.place.plural, entry.place.namespace, entry.place.name
        )
    })
    .collect()
}

fn owner(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][labels::RUNTIME_OWNER].as_str()
}

/// Host, group, kind, namespace, name: as an Inventory has it.
type Id = (String, String, String, String, String);

#[derive(Default)]
struct Judge {
    /// The children that exist, by owner.
    children: HashMap<String, HashSet<(String, Place)>>,
    /// What Inventories list, by owner.
    listed: HashMap<String, HashSet<Id>>,
    /// The last observedGeneration, by UID.
    observed: HashMap<String, i64>,
    wrong: Vec<String>,
}

impl Judge {
    fn see(&mut self, host: &str, entry: &Entry) {
        let place = &entry.place;
        if place.name == BYSTANDER && entry.change != Change::Added {
            self.wrong.push(format!(
                "I4: {host} {} {BYSTANDER} was written: {}",
                place.plural, entry.object
            ));
        }
        match (host, place.plural.as_str()) {
            ("platform", "inventories") => self.see_inventory(entry),
            ("platform", _) => {}
            ("onboarding", _) if place.group.ends_with(".services.open-control-plane.io") => {
                self.see_service(entry)
            }
            _ => self.see_child(host, entry),
        }
    }

    fn see_inventory(&mut self, entry: &Entry) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &entry.object["spec"];
        let of = text(&spec["owner"]["uid"]);
        if entry.change == Change::Deleted {
            self.listed.remove(&of);
            return;
        }
        let ids = spec["entries"].as_array().into_iter().flatten().map(|entry| {
            let cluster = text(&entry["cluster"]);
            let host = cluster.rsplit('/').next().unwrap_or_default().to_owned();
            (
                host,
                text(&entry["group"]),
                text(&entry["kind"]),
                text(&entry["namespace"]),
                text(&entry["name"]),
            )
        });
        self.listed.insert(of, ids.collect());
    }

    fn see_child(&mut self, host: &str, entry: &Entry) {
        let Some(of) = owner(&entry.object) else { return };
        let held = self.children.entry(of.to_owned()).or_default();
        let at = (host.to_owned(), entry.place.clone());
        if entry.change == Change::Deleted {
            held.remove(&at);
            return;
        }
        held.insert(at);
        let kind = entry.object["kind"].as_str().unwrap_or_default().to_owned();
        let Place {
            group,
            namespace,
            name,
            ..
        } = entry.place.clone();
        let id = (host.to_owned(), group, kind, namespace, name);
        if entry.change == Change::Added && self.listed.get(of).is_none_or(|listed| !listed.contains(&id)) {
            self.wrong
                .push(format!("I4: {id:?} was made before an Inventory listed it"));
        }
    }

    fn see_service(&mut self, entry: &Entry) {
        let object = &entry.object;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let finalizer = format!("{}/finalizer", entry.place.group);
        let held = |object: &Value| {
            let held = object["metadata"]["finalizers"].as_array();
            held.is_some_and(|held| held.iter().any(|held| *held == finalizer))
        };
        let had = entry.previous.as_ref().is_some_and(|previous| held(previous));
        if had && (entry.change == Change::Deleted || !held(object)) {
            let children = self.children.get(uid).map_or(0, HashSet::len);
            if children > 0 || self.listed.contains_key(uid) {
                self.wrong.push(format!(
                    "I5: the finalizer of {}/{} went while {children} children and {} entries were left",
                    entry.place.namespace,
                    entry.place.name,
                    self.listed.get(uid).map_or(0, HashSet::len)
                ));
            }
        }
        let observed = object["status"]["observedGeneration"]
            .as_i64()
            .unwrap_or_default();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        let before = self.observed.insert(uid.to_owned(), observed).unwrap_or_default();
        if observed < before || observed > generation {
            self.wrong.push(format!(
                "I8: observedGeneration of {}/{} went from {before} to {observed} at generation {generation}",
                entry.place.namespace, entry.place.name
            ));
        }
    }
}

/// Everything that is, without what differs from run to run: to be compared with another end.
pub fn snapshot(world: &World) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (host, server) in world.servers() {
        for (place, object) in server.everything() {
            let is_ours = host != "platform" && host != "onboarding";
            if matches!(place.plural.as_str(), "events" | "leases")
                || (place.plural == "customresourcedefinitions" && !is_ours)
            {
                continue;
            }
            let key = format!(
                "{host} {}.{} {}/{}",
                place.plural, place.group, place.namespace, place.name
            );
            all.insert(key, timeless(&place, &object));
        }
    }
    all
}

fn timeless(place: &Place, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
        ] {
            metadata.remove(field);
        }
        for map in ["labels", "annotations"] {
            if let Some(map) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                map.retain(|key, _| key != labels::RUNTIME_OWNER && !key.ends_with("/renew-at"));
            }
        }
    }
    match place.plural.as_str() {
        "secrets" => object["data"] = json!("<hidden>"),
        "inventories" => {
            object["spec"]["owner"]["uid"] = json!("<uid>");
            for external in object["spec"]["externals"].as_array_mut().into_iter().flatten() {
                external["nonce"] = json!("<nonce>");
            }
            for entry in object["spec"]["entries"].as_array_mut().into_iter().flatten() {
                for field in ["uid", "desiredHash", "liveDigest"] {
                    if !entry[field].is_null() {
                        entry[field] = json!("<set>");
                    }
                }
            }
        }
        _ => {}
    }
    let conditions = object
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        condition["lastTransitionTime"] = json!("<time>");
        condition["observedGeneration"] = json!("<generation>");
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("observedGeneration");
    }
    object
}

/// How two ends differ, one line each.
pub fn differences(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (key, value) in expected {
        match found.get(key) {
            None => out.push(format!("I1: {key} is missing")),
            Some(found) if found != value => out.push(format!(
                "I1: {key} differs:\n  expected {value}\n  found    {found}"
            )),
            Some(_) => {}
        }
    }
    let left = found.keys().filter(|key| !expected.contains_key(*key));
    out.extend(left.map(|key| format!("I1: {key} is left")));
    out
}
