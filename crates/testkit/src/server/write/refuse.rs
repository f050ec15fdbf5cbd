//! What a write is refused for.
use super::Write;
use crate::server::{
    answer::Refusal,
    managed::Conflicts,
    schema::Node,
    state::{Place, State},
};
use serde_json::{Value, json};

impl Write<'_> {
    /// What identifies an object must be what the path says; and it must be an object.
    pub(super) fn check_identity(&self, object: &Value) -> Result<(), Refusal> {
        check_shape(object)?;
        let wrong = |field: &str, expected: &str| {
            let given = object.pointer(field).and_then(Value::as_str);
            given.is_some_and(|given| given != expected)
        };
        if wrong("/metadata/name", &self.place.name) {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object["metadata"]["name"].as_str().unwrap_or_default(),
                self.place.name
            )));
        }
        if wrong("/metadata/namespace", &self.place.namespace) {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if wrong("/kind", &self.kind.kind) || wrong("/apiVersion", &self.kind.api_version()) {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} is expected here",
                self.kind.kind,
                self.kind.api_version()
            )));
        }
        Ok(())
    }
}

/// What every object has the same.
fn check_shape(object: &Value) -> Result<(), Refusal> {
    let metadata = &object["metadata"];
    let is_map = |value: &Value| value.is_null() || value.is_object();
    let is_list = |value: &Value| value.is_null() || value.is_array();
    let maps = [
        metadata,
        &metadata["labels"],
        &metadata["annotations"],
        &object["spec"],
        &object["status"],
    ];
    let lists = [
        &metadata["finalizers"],
        &metadata["ownerReferences"],
        &metadata["managedFields"],
    ];
    if object.is_object() && maps.into_iter().all(is_map) && lists.into_iter().all(is_list) {
        return Ok(());
    }
    Err(Refusal::bad_request(
        "the object cannot be read: a field that all objects have is of another type",
    ))
}

impl State {
    pub(super) fn check_namespace(&self, write: &Write<'_>) -> Result<(), Refusal> {
        let namespace = &write.place.namespace;
        let at = Place {
            group: String::new(),
            plural: "namespaces".to_owned(),
            namespace: String::new(),
            name: namespace.clone(),
        };
        let Some(found) = self.get(&at) else {
            return Err(Refusal::absent(at.named()));
        };
        if found["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let of = write.place.named();
        let group = match of.group {
            "" => of.plural.to_owned(),
            group => format!("{}.{group}", of.plural),
        };
        let message = format!(
            "{group} {:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
            of.name
        );
        let mut details = json!({"name": of.name, "kind": of.plural, "causes": [{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]});
        if !of.group.is_empty() {
            details["group"] = of.group.into();
        }
        Err(Refusal::new(403, "Forbidden", message, details))
    }
}

pub(super) fn check_nulls(write: &Write<'_>, object: &mut Value) -> Result<(), Refusal> {
    if !write.kind.custom {
        Node::drop_nulls(object);
        return Ok(());
    }
    let Some((path, wants)) = write.kind.node.refused_null(object) else {
        return Ok(());
    };
    let field = path.join(".").replace(".[", "[");
    let why = format!("\"null\": {field} in body must be of type {wants}: \"null\"");
    Err(Refusal::invalid(
        &write.kind.kind,
        write.place.named(),
        "FieldValueTypeInvalid",
        &field,
        &why,
    ))
}

pub(super) fn check_immutable(write: &Write<'_>, live: &Value, object: &Value) -> Result<(), Refusal> {
    let (kind, of) = (write.kind, write.place.named());
    let invalid =
        |reason: &str, field: &str, why: &str| Err(Refusal::invalid(&kind.kind, of, reason, field, why));
    let uid = &object["metadata"]["uid"];
    if !uid.is_null() && *uid != live["metadata"]["uid"] {
        let why = format!("{uid}: field is immutable");
        return invalid("FieldValueInvalid", "metadata.uid", &why);
    }
    if !live["metadata"]["deletionTimestamp"].is_null() {
        let held = live["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let new: Vec<String> = object["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|finalizer| !held.contains(finalizer))
            .map(Value::to_string)
            .collect();
        if !new.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.join(", ")
            );
            return invalid("FieldValueForbidden", "metadata.finalizers", &why);
        }
    }
    let fixed = match kind.kind.as_str() {
        "Deployment" | "StatefulSet" | "DaemonSet" => Some("/spec/selector"),
        "RoleBinding" | "ClusterRoleBinding" => Some("/roleRef"),
        "Secret" => Some("/type"),
        _ => None,
    };
    if let Some(path) = fixed
        && object
            .pointer(path)
            .is_some_and(|new| live.pointer(path) != Some(new))
    {
        let field = path.trim_start_matches('/').replace('/', ".");
        return invalid("FieldValueInvalid", &field, "field is immutable");
    }
    Ok(())
}

pub(super) fn owned_by_others(conflicts: &Conflicts) -> Refusal {
    let mut causes = Vec::new();
    let mut words = Vec::new();
    for (manager, fields) in &conflicts.0 {
        for path in fields.paths() {
            causes.push(json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path,
            }));
        }
        words.push(format!(
            "conflicts with {manager}:\n- {}",
            fields.paths().join("\n- ")
        ));
    }
    let message = match &causes[..] {
        [one] => format!(
            "Apply failed with 1 conflict: {}: {}",
            one["message"].as_str().unwrap_or_default(),
            one["field"].as_str().unwrap_or_default()
        ),
        many => format!("Apply failed with {} conflicts: {}", many.len(), words.join("\n")),
    };
    Refusal::new(409, "Conflict", message, json!({"causes": causes}))
}
