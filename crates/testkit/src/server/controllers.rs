//! The controllers that every cluster has, as far as scenarios need them: definitions become established, namespaces
//! and definitions take their content along, owners their dependents; and, on request, workloads become available.
//!
//! Nothing here runs by itself: [`State::settle_step`] is one round, so that what is in between can be seen.
use super::{
    answer::Refusal,
    delete::{CLEANUP, FOREGROUND, ORPHAN, Options},
    managed::{self, Writer},
    state::{Place, State},
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};

impl State {
    /// The status of a definition whose kind is served now.
    pub(crate) fn establish(&mut self, place: &Place, stored: &Arc<Value>) -> Result<Arc<Value>, Refusal> {
        let now = self.now();
        let condition = |type_: &str, reason: &str, message: &str| json!({"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now});
        let mut object = (**stored).clone();
        let versions: Vec<Value> = object["spec"]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|version| version["storage"] == true)
            .map(|version| version["name"].clone())
            .collect();
        object["status"] = json!({
            "acceptedNames": object["spec"]["names"],
            "storedVersions": versions,
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
        });
        let writer = Writer {
            manager: "kube-apiserver".to_owned(),
            subresource: Some("status"),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            now,
        };
        if let Some(kind) = self.kinds.of(&place.collection()) {
            managed::update(stored, &mut object, &kind.node, &writer, true)?;
        }
        Ok(self.put(place.clone(), object))
    }

    /// One round of the controllers. Returns whether anything was done.
    pub(crate) fn settle_step(&mut self) -> bool {
        let before = self.version();
        self.empty_namespaces();
        self.empty_definitions();
        self.collect_garbage();
        self.version() != before
    }

    fn delete_all(&mut self, places: Vec<Place>) {
        for place in places {
            let Some(kind) = self.kinds.of(&place.collection()) else {
                continue;
            };
            // It may have gone with another one.
            let _gone = self.delete(&kind, &place, &Options::default());
        }
    }

    fn terminating(&self, plural: &str) -> Vec<Place> {
        let all = self.everything();
        all.filter(|(place, object)| {
            place.plural == plural && !object["metadata"]["deletionTimestamp"].is_null()
        })
        .map(|(place, _)| place.clone())
        .collect()
    }

    fn empty_namespaces(&mut self) {
        for namespace in self.terminating("namespaces") {
            let content: Vec<(Place, bool)> = self
                .everything()
                .filter(|(place, _)| place.namespace == namespace.name)
                .map(|(place, object)| (place.clone(), object["metadata"]["deletionTimestamp"].is_null()))
                .collect();
            if content.is_empty() {
                self.release(&namespace, "kubernetes");
            }
            self.delete_all(
                content
                    .into_iter()
                    .filter(|(_, live)| *live)
                    .map(|(place, _)| place)
                    .collect(),
            );
        }
    }

    fn empty_definitions(&mut self) {
        for definition in self.terminating("customresourcedefinitions") {
            let Some((plural, group)) = definition.name.split_once('.') else {
                continue;
            };
            let collection = (group.to_owned(), plural.to_owned());
            let content: Vec<(Place, bool)> = self
                .all_of(&collection)
                .map(|(place, object)| (place.clone(), object["metadata"]["deletionTimestamp"].is_null()))
                .collect();
            if content.is_empty() {
                self.release(&definition, CLEANUP);
            }
            self.delete_all(
                content
                    .into_iter()
                    .filter(|(_, live)| *live)
                    .map(|(place, _)| place)
                    .collect(),
            );
        }
    }

    fn collect_garbage(&mut self) {
        let alive: HashSet<String> = self
            .everything()
            .filter_map(|(_, object)| object["metadata"]["uid"].as_str().map(str::to_owned))
            .collect();
        let mut ownerless = Vec::new();
        for (place, object) in self.everything() {
            let mut owners = owners(object).peekable();
            if owners.peek().is_some()
                && owners.all(|(uid, _)| !alive.contains(uid))
                && object["metadata"]["deletionTimestamp"].is_null()
            {
                ownerless.push(place.clone());
            }
        }
        self.delete_all(ownerless);
        let held = |object: &Value, finalizer: &str| {
            let held = object["metadata"]["finalizers"].as_array();
            !object["metadata"]["deletionTimestamp"].is_null()
                && held.is_some_and(|held| held.iter().any(|held| held == finalizer))
        };
        for finalizer in [FOREGROUND, ORPHAN] {
            let waiting: Vec<(Place, Value)> = self
                .everything()
                .filter(|(_, object)| held(object, finalizer))
                .map(|(place, object)| (place.clone(), object["metadata"]["uid"].clone()))
                .collect();
            for (place, uid) in waiting {
                self.settle_dependents(&place, uid.as_str().unwrap_or_default(), finalizer);
            }
        }
    }

    fn settle_dependents(&mut self, owner: &Place, uid: &str, finalizer: &str) {
        let dependents: Vec<(Place, Arc<Value>, bool)> = self
            .everything()
            .filter_map(|(place, object)| {
                let (_, blocks) = owners(object).find(|(owner, _)| *owner == uid)?;
                Some((place.clone(), object.clone(), blocks))
            })
            .collect();
        if finalizer == ORPHAN {
            for (place, object, _) in dependents {
                let mut object = (*object).clone();
                if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|owner| owner["uid"] != uid);
                }
                self.put(place, object);
            }
            return self.release(owner, finalizer);
        }
        if dependents.iter().all(|(_, _, blocks)| !blocks) {
            self.release(owner, finalizer);
        }
        let live = |object: &Value| object["metadata"]["deletionTimestamp"].is_null();
        self.delete_all(
            dependents
                .into_iter()
                .filter(|(_, object, _)| live(object))
                .map(|(place, ..)| place)
                .collect(),
        );
    }

    /// Every Deployment, StatefulSet and DaemonSet reports itself available, and every Job complete. Returns whether
    /// anything was done.
    pub(crate) fn serve_workloads(&mut self) -> bool {
        let before = self.version();
        let pending: Vec<(Place, Value)> = self
            .everything()
            .filter(|(place, object)| {
                matches!(place.group.as_str(), "apps" | "batch")
                    && object["metadata"]["deletionTimestamp"].is_null()
                    && object["status"]["observedGeneration"] != object["metadata"]["generation"]
            })
            .map(|(place, object)| (place.clone(), (**object).clone()))
            .collect();
        for (place, mut object) in pending {
            object["status"] = available(&place, &object);
            self.put(place, object);
        }
        self.version() != before
    }
}

fn available(place: &Place, object: &Value) -> Value {
    let generation = &object["metadata"]["generation"];
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
    match place.plural.as_str() {
        "jobs" => json!({"observedGeneration": generation, "succeeded": 1,
            "conditions": [{"type": "Complete", "status": "True"}]}),
        "daemonsets" => json!({"observedGeneration": generation, "desiredNumberScheduled": 1,
            "updatedNumberScheduled": 1, "numberAvailable": 1, "numberReady": 1}),
        _ => json!({"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas, "currentReplicas": replicas,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}),
    }
}

fn owners(object: &Value) -> impl Iterator<Item = (&str, bool)> {
    let listed = object["metadata"]["ownerReferences"].as_array();
    listed
        .into_iter()
        .flatten()
        .filter_map(|owner| Some((owner["uid"].as_str()?, owner["blockOwnerDeletion"] == true)))
}
