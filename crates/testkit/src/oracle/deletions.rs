//! I6: a child is deleted because its order is, or because it is not wanted any more; never because something could not
//! be seen.
//!
//! What is wanted is known to the provider alone, and is the same for the same inputs. So a process that deletes a child
//! of an order that stays, and makes the same one again, must have seen inputs that want it, others that do not, and
//! again some that do: they changed twice at least since the child was made. A child that stays away is missing at the
//! end (I1).
use super::owner;
use crate::{
    record::Effect,
    server::{Change, Entry, Place},
};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Host and place.
type At = (String, Place);

/// The deletions of which that cannot be said, one sentence each.
pub(super) fn groundless(history: &[(String, Entry)], effects: &[Effect]) -> Vec<String> {
    let mut seen = Seen {
        sent: effects.iter().flat_map(Effect::writes).collect(),
        deletes: effects
            .iter()
            .filter(|effect| effect.what.starts_with("DELETE "))
            .flat_map(Effect::writes)
            .collect(),
        ..Seen::default()
    };
    for (host, entry) in history {
        seen.see(host, entry);
    }
    seen.wrong
}

/// A child that a process has deleted although its order stays.
struct Pruned {
    owner: String,
    /// By which write the child was made.
    made: u64,
    child: Value,
}

#[derive(Default)]
struct Seen {
    /// The writes of processes.
    sent: HashSet<u64>,
    /// Those of them that delete.
    deletes: HashSet<u64>,
    /// Service objects by UID, and whether their deletion was asked for.
    orders: HashMap<String, bool>,
    /// The writes that changed inputs: of everybody, and of one service object.
    common: Vec<u64>,
    own: HashMap<String, Vec<u64>>,
    made: HashMap<At, u64>,
    pruned: HashMap<At, Pruned>,
    wrong: Vec<String>,
}

impl Seen {
    fn see(&mut self, host: &str, entry: &Entry) {
        match host {
            "platform" => self.see_platform(entry),
            "onboarding" if entry.place.group.ends_with(".services.open-control-plane.io") => {
                self.see_order(entry);
            }
            "onboarding" => {}
            _ => self.see_cluster(host, entry),
        }
    }

    /// What people write there may be anybody's input; how accesses are given is not.
    fn see_platform(&mut self, entry: &Entry) {
        let is_plumbing = matches!(
            entry.place.group.as_str(),
            "clusters.openmcp.cloud" | "coordination.k8s.io" | "events.k8s.io" | "runtime.openmcp.cloud"
        );
        if !is_plumbing && !self.sent.contains(&entry.version) {
            self.common.push(entry.version);
        }
    }

    fn see_order(&mut self, entry: &Entry) {
        let object = &entry.object;
        let uid = text(&object["metadata"]["uid"]);
        let ends = entry.change == Change::Deleted || !object["metadata"]["deletionTimestamp"].is_null();
        *self.orders.entry(uid.clone()).or_default() |= ends;
        let generation = |object: &Value| object["metadata"]["generation"].as_i64();
        let previous = entry.previous.as_ref().and_then(|previous| generation(previous));
        if generation(object) != previous {
            self.own.entry(uid).or_default().push(entry.version);
        }
    }

    fn see_cluster(&mut self, host: &str, entry: &Entry) {
        let Some(of) = owner(&entry.object) else { return };
        let at = (host.to_owned(), entry.place.clone());
        let before = entry.previous.as_deref();
        match entry.change {
            Change::Added => {
                if let Some(pruned) = self.pruned.remove(&at) {
                    self.judge(&at, &pruned, entry);
                }
                self.made.insert(at, entry.version);
                return;
            }
            // A provider may read how its children are.
            Change::Modified if before.is_some_and(|before| before["status"] != entry.object["status"]) => {
                if !self.sent.contains(&entry.version) {
                    self.own.entry(of.to_owned()).or_default().push(entry.version);
                }
            }
            Change::Modified | Change::Deleted => {}
        }
        if self.deletes.contains(&entry.version) {
            self.see_deletion(at, of, before.unwrap_or(&entry.object));
        }
    }

    fn see_deletion(&mut self, at: At, of: &str, child: &Value) {
        match self.orders.get(of) {
            Some(true) => {}
            Some(false) => {
                let pruned = Pruned {
                    owner: of.to_owned(),
                    made: self.made.get(&at).copied().unwrap_or_default(),
                    child: child.clone(),
                };
                self.pruned.insert(at, pruned);
            }
            None => self.wrong.push(format!(
                "I6: {} was deleted, and nothing is known of its order",
                said(&at)
            )),
        }
    }

    /// The child is there again.
    fn judge(&mut self, at: &At, pruned: &Pruned, entry: &Entry) {
        let again = &entry.object;
        let by_process = self.sent.contains(&entry.version) && owner(again) == Some(&*pruned.owner);
        // Another one in its place: what cannot be changed was replaced.
        let is_same = content(again) == content(&pruned.child);
        let own = self.own.get(&pruned.owner).into_iter().flatten();
        let inputs = self.common.iter().chain(own);
        let changes = inputs.filter(|version| (pruned.made..entry.version).contains(version));
        if by_process && is_same && changes.count() < 2 {
            self.wrong.push(format!(
                "I6: {} was deleted and made again, and its inputs did not change so",
                said(at)
            ));
        }
    }
}

fn said((host, place): &At) -> String {
    format!("{host} {} {}/{}", place.plural, place.namespace, place.name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the provider wrote, and nobody else.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("metadata");
        fields.remove("status");
    }
    object
}
