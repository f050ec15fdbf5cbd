//! Writes: create, update, patches, server-side apply. Deletion is a room of its own.
//!
//! There is no admission, no validation beyond what is listed here, and of defaulting only what the table in
//! `default_fields` says.
mod keep;
mod refuse;

use super::{
    answer::Refusal,
    kinds::Kind,
    managed::{self, Writer},
    state::{Place, State},
};
use keep::{drop_doors, keep_doors, restore};
use refuse::{check_immutable, check_nulls, owned_by_others};
use serde_json::{Value, json};
use std::sync::Arc;

/// A write through the main resource or through `status`.
pub(crate) struct Write<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) place: Place,
    pub(crate) writer: Writer,
}

/// The object, and whether it was made by this write.
pub(crate) type Written = (Arc<Value>, bool);

impl Write<'_> {
    fn is_status(&self) -> bool {
        self.writer.subresource.is_some()
    }
}

impl State {
    /// POST.
    pub(crate) fn create(&mut self, write: &Write<'_>, mut object: Value) -> Result<Arc<Value>, Refusal> {
        write.check_identity(&object)?;
        if let Some(live) = self.get(&write.place) {
            let mut refusal = Refusal::exists(write.place.named());
            if !live["metadata"]["deletionTimestamp"].is_null() {
                refusal.message = format!("object is being deleted: {}", refusal.message);
            }
            return Err(refusal);
        }
        if object["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|version| !version.is_empty())
        {
            return Err(Refusal::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.prepare_new(write, &mut object)?;
        let nothing = json!({"apiVersion": object["apiVersion"], "kind": object["kind"]});
        managed::update(
            &nothing,
            &mut object,
            &write.kind.node,
            &write.writer,
            write.kind.status,
        )?;
        self.store_new(write, object)
    }

    /// PUT.
    pub(crate) fn replace(&mut self, write: &Write<'_>, mut object: Value) -> Result<Written, Refusal> {
        write.check_identity(&object)?;
        object["apiVersion"] = write.kind.api_version().into();
        object["kind"] = write.kind.kind.clone().into();
        let Some(live) = self.get(&write.place).cloned() else {
            return Err(Refusal::absent(write.place.named()));
        };
        self.update(write, &live, object).map(|object| (object, false))
    }

    /// A JSON patch or a merge patch.
    pub(crate) fn patch(
        &mut self,
        write: &Write<'_>,
        patch: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Written, Refusal> {
        let Some(live) = self.get(&write.place).cloned() else {
            return Err(Refusal::absent(write.place.named()));
        };
        let mut object = (*live).clone();
        patch(&mut object)?;
        write.check_identity(&object)?;
        self.update(write, &live, object).map(|object| (object, false))
    }

    /// Server-side apply.
    pub(crate) fn apply(
        &mut self,
        write: &Write<'_>,
        mut applied: Value,
        force: bool,
    ) -> Result<Written, Refusal> {
        write.check_identity(&applied)?;
        applied["metadata"]["name"] = write.place.name.clone().into();
        if applied["metadata"]
            .get("managedFields")
            .is_some_and(|it| !it.is_null())
        {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        if write.kind.plural == "secrets" && applied.get("stringData").is_some() {
            return Err(Refusal::unsupported("stringData is sent as data"));
        }
        let status = write.kind.status;
        let mut wanted = applied.clone();
        let precondition = |field: &str| {
            let given = applied["metadata"][field].as_str();
            given.filter(|given| !given.is_empty()).map(str::to_owned)
        };
        let (uid, version) = (precondition("uid"), precondition("resourceVersion"));
        drop_doors(&mut wanted, write.is_status(), status);
        let Some(live) = self.get(&write.place).cloned() else {
            if write.is_status() {
                return Err(Refusal::absent(write.place.named()));
            }
            if let Some(uid) = uid {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Refusal::conflict(write.place.named(), &why));
            }
            let nothing = json!({"apiVersion": wanted["apiVersion"], "kind": wanted["kind"]});
            return self.apply_new(write, &nothing, &wanted);
        };
        if version.is_some_and(|version| live["metadata"]["resourceVersion"] != *version) {
            return Err(Refusal::modified(write.place.named()));
        }
        if let Some(metadata) = wanted["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let merged = managed::apply(&live, &wanted, &write.kind.node, &write.writer, status, force)?;
        let mut object = merged.map_err(|conflicts| owned_by_others(&conflicts))?;
        if let Some(uid) = uid {
            object["metadata"]["uid"] = uid.into();
        }
        self.store_update(write, &live, object)
            .map(|object| (object, false))
    }

    fn apply_new(&mut self, write: &Write<'_>, nothing: &Value, wanted: &Value) -> Result<Written, Refusal> {
        let mut wanted = wanted.clone();
        if let Some(metadata) = wanted["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let applied = managed::apply(
            nothing,
            &wanted,
            &write.kind.node,
            &write.writer,
            write.kind.status,
            true,
        )?;
        let mut object = applied.map_err(|conflicts| owned_by_others(&conflicts))?;
        self.prepare_new(write, &mut object)?;
        Ok((self.store_new(write, object)?, true))
    }

    /// What the server sets on a new object.
    fn prepare_new(&mut self, write: &Write<'_>, object: &mut Value) -> Result<(), Refusal> {
        let kind = write.kind;
        if kind.namespaced {
            self.check_namespace(write)?;
            object["metadata"]["namespace"] = write.place.namespace.clone().into();
        }
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.clone().into();
        object["metadata"]["name"] = write.place.name.clone().into();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
                metadata.remove(field);
            }
        }
        if kind.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        self.stamp(object);
        if kind.generation {
            object["metadata"]["generation"] = 1.into();
        }
        kind.node.conform(object);
        default_fields(kind, object);
        Ok(())
    }

    fn store_new(&mut self, write: &Write<'_>, mut object: Value) -> Result<Arc<Value>, Refusal> {
        if !write.kind.custom && write.kind.kind == "Namespace" {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        if write.kind.kind != "CustomResourceDefinition" {
            return Ok(self.put(write.place.clone(), object));
        }
        self.kinds.define(&object)?;
        let stored = self.put(write.place.clone(), object);
        self.establish(&write.place, &stored)
    }

    /// A change of the stored object, with the optimistic lock that the new one names.
    fn update(
        &mut self,
        write: &Write<'_>,
        live: &Arc<Value>,
        mut object: Value,
    ) -> Result<Arc<Value>, Refusal> {
        let of = write.place.named();
        let given = |field: &str| {
            let given = object["metadata"][field].as_str();
            given.filter(|given| !given.is_empty())
        };
        if given("resourceVersion").is_some_and(|version| live["metadata"]["resourceVersion"] != version) {
            return Err(Refusal::modified(of));
        }
        if let Some(uid) = given("uid").filter(|uid| live["metadata"]["uid"] != *uid) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                live["metadata"]["uid"].as_str().unwrap_or_default()
            );
            return Err(Refusal::conflict(of, &why));
        }
        keep_doors(live, &mut object, write.is_status(), write.kind.status);
        restore(live, &mut object);
        write.kind.node.conform(&mut object);
        managed::update(
            live,
            &mut object,
            &write.kind.node,
            &write.writer,
            write.kind.status,
        )?;
        self.store_update(write, live, object)
    }

    fn store_update(
        &mut self,
        write: &Write<'_>,
        live: &Arc<Value>,
        mut object: Value,
    ) -> Result<Arc<Value>, Refusal> {
        let kind = write.kind;
        check_immutable(write, live, &object)?;
        restore(live, &mut object);
        kind.node.conform(&mut object);
        default_fields(kind, &mut object);
        check_nulls(write, &mut object)?;
        if kind.generation && is_other_wish(kind, live, &object) {
            let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        if object == **live {
            return Ok(live.clone());
        }
        if is_over(&object) {
            self.remove(&write.place);
            self.gone(&write.place);
            return Ok(Arc::new(object));
        }
        if kind.kind == "CustomResourceDefinition" {
            self.kinds.define(&object)?;
        }
        Ok(self.put(write.place.clone(), object))
    }
}

/// Nothing holds a deleted object any more.
pub(crate) fn is_over(object: &Value) -> bool {
    let none = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    !object["metadata"]["deletionTimestamp"].is_null()
        && none(&object["metadata"]["finalizers"])
        && (object["kind"] != "Namespace" || none(&object["spec"]["finalizers"]))
}

/// Whether anything changed that its controller has to act on.
fn is_other_wish(kind: &Kind, live: &Value, object: &Value) -> bool {
    let wish = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("metadata");
            if kind.status || !kind.custom {
                fields.remove("status");
            }
        }
        object
    };
    wish(live) != wish(object)
}

/// The defaults that are filled in for built-in kinds: what controllers and kstatus need.
fn default_fields(kind: &Kind, object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    let mut default = |path: &[&str], value: Value| {
        let mut at = &mut *object;
        for segment in path {
            at = &mut at[*segment];
        }
        if at.is_null() {
            *at = value;
        }
    };
    match (kind.custom, kind.kind.as_str()) {
        (false, "Namespace") => default(&["metadata", "labels", "kubernetes.io/metadata.name"], name),
        (false, "Secret") => default(&["type"], json!("Opaque")),
        (false, "Deployment" | "StatefulSet") => default(&["spec", "replicas"], json!(1)),
        (false, "CustomResourceDefinition") => default(&["spec", "conversion"], json!({"strategy": "None"})),
        _ => {}
    }
}
