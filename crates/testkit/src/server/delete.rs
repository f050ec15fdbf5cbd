//! Deletion: preconditions, finalizers, propagation.
use super::{
    answer::{Named, Refusal},
    kinds::Kind,
    state::{Place, State},
    write::is_over,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Holds an object until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Holds an object until its dependents are let go.
pub(crate) const ORPHAN: &str = "orphan";

/// What a DELETE asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) policy: Option<String>,
}

impl Options {
    pub(crate) fn of(body: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            policy: text(&body["propagationPolicy"]),
        }
    }
}

impl State {
    /// DELETE. The answer's body: the object if something holds it, else a Status.
    pub(crate) fn delete(
        &mut self,
        kind: &Kind,
        place: &Place,
        options: &Options,
    ) -> Result<Arc<Value>, Refusal> {
        let Some(live) = self.get(place).cloned() else {
            return Err(Refusal::absent(place.named()));
        };
        check_preconditions(kind, place, &live, options)?;
        let mut object = (*live).clone();
        hold(kind, &mut object, options.policy.as_deref());
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = self.now().into();
            if is_over(&object) {
                self.remove(place);
                self.gone(place);
                return Ok(Arc::new(success(place, &live)));
            }
            object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            if let Some(generation) = object["metadata"]["generation"].as_i64() {
                object["metadata"]["generation"] = (generation + 1).into();
            }
        }
        if object == *live {
            return Ok(live);
        }
        if is_over(&object) {
            self.remove(place);
            self.gone(place);
            return Ok(Arc::new(success(place, &live)));
        }
        Ok(self.put(place.clone(), object))
    }

    /// An object was removed: a definition takes its kind along.
    pub(crate) fn gone(&mut self, place: &Place) {
        if place.plural == "customresourcedefinitions"
            && let Some((plural, group)) = place.name.split_once('.')
        {
            self.kinds.undefine(&(group.to_owned(), plural.to_owned()));
        }
    }

    /// Takes a finalizer off; the last one lets the object go.
    pub(crate) fn release(&mut self, place: &Place, finalizer: &str) {
        let Some(live) = self.get(place) else { return };
        let mut object = (**live).clone();
        let field = match finalizer {
            "kubernetes" => &mut object["spec"]["finalizers"],
            _ => &mut object["metadata"]["finalizers"],
        };
        if let Some(held) = field.as_array_mut() {
            held.retain(|held| held != finalizer);
        }
        if let Some(metadata) = object["metadata"].as_object_mut()
            && metadata.get("finalizers").is_some_and(|held| *held == json!([]))
        {
            metadata.remove("finalizers");
        }
        if is_over(&object) {
            self.remove(place);
            self.gone(place);
        } else {
            self.put(place.clone(), object);
        }
    }
}

fn check_preconditions(kind: &Kind, place: &Place, live: &Value, options: &Options) -> Result<(), Refusal> {
    // Here, and only here, the real one names the kind.
    let of = Named {
        plural: &kind.kind,
        ..place.named()
    };
    let held = |field: &str| live["metadata"][field].as_str().unwrap_or_default().to_owned();
    if let Some(uid) = &options.uid
        && *uid != held("uid")
    {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            held("uid")
        );
        return Err(Refusal::conflict(of, &why));
    }
    if let Some(version) = &options.version
        && *version != held("resourceVersion")
    {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            held("resourceVersion")
        );
        return Err(Refusal::conflict(of, &why));
    }
    Ok(())
}

/// What the propagation policy and the kind hold an object by.
fn hold(kind: &Kind, object: &mut Value, policy: Option<&str>) {
    let wanted = match policy {
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        _ => None,
    };
    let mut held: Vec<Value> = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if policy.is_some() {
        held.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
    }
    let first = object["metadata"]["deletionTimestamp"].is_null();
    let cleanup = (first && kind.kind == "CustomResourceDefinition").then_some(CLEANUP);
    for finalizer in [wanted, cleanup].into_iter().flatten() {
        if !held.iter().any(|held| held == finalizer) {
            held.push(finalizer.into());
        }
    }
    match (held.is_empty(), object["metadata"].as_object_mut()) {
        (true, Some(metadata)) => drop(metadata.remove("finalizers")),
        (false, Some(metadata)) => drop(metadata.insert("finalizers".to_owned(), held.into())),
        _ => {}
    }
    if !kind.custom && kind.kind == "Namespace" {
        object["status"]["phase"] = "Terminating".into();
    }
}

fn success(place: &Place, live: &Value) -> Value {
    let mut details = json!({"name": place.name, "kind": place.plural, "uid": live["metadata"]["uid"]});
    if !place.group.is_empty() {
        details["group"] = place.group.clone().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
