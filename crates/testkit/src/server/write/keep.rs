//! What a write leaves as it is, whatever it sends.
use serde_json::{Value, json};

/// Takes out of an apply what its door does not let through.
pub(super) fn drop_doors(wanted: &mut Value, is_status: bool, has_status: bool) {
    let Some(fields) = wanted.as_object_mut() else {
        return;
    };
    if is_status {
        let name = fields.get("metadata").map(|metadata| metadata["name"].clone());
        fields.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "status"));
        fields.insert("metadata".to_owned(), json!({"name": name}));
    } else if has_status {
        fields.remove("status");
    }
}

/// Takes from the live object what an update's door does not let through.
pub(super) fn keep_doors(live: &Value, object: &mut Value, is_status: bool, has_status: bool) {
    if is_status {
        let status = object.get("status").cloned();
        *object = live.clone();
        match (status, object.as_object_mut()) {
            (Some(status), Some(fields)) => drop(fields.insert("status".to_owned(), status)),
            (None, Some(fields)) => drop(fields.remove("status")),
            _ => {}
        }
    } else if has_status && let Some(fields) = object.as_object_mut() {
        match live.get("status") {
            Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
}

/// What only the server sets.
pub(super) fn restore(live: &Value, object: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "namespace",
        "name",
    ] {
        let held = live["metadata"].get(field).cloned();
        match (held, object["metadata"].as_object_mut()) {
            (Some(held), Some(metadata)) => drop(metadata.insert(field.to_owned(), held)),
            (None, Some(metadata)) => drop(metadata.remove(field)),
            _ => {}
        }
    }
    // An empty map or list in metadata is none.
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, value| {
            !matches!(
                field.as_str(),
                "labels" | "annotations" | "finalizers" | "ownerReferences"
            ) || !(value.is_null()
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty))
        });
    }
}
