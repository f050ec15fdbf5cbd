//! Requests, and the objects that they are about.
use http::Method;
use serde_json::{Value, json};

pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const JSON: &str = "application/json";
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// One request. `NS` in a path and body is the namespace; a value `$uid` or `$rv` is that of the object as last seen.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Value,
}

pub(crate) fn step(method: Method, path: &str, content_type: &'static str, body: Value) -> Step {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Step {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        content_type,
        accept: JSON,
        body,
    }
}

pub(crate) fn get(path: &str) -> Step {
    step(Method::GET, path, JSON, Value::Null)
}

pub(crate) fn apply(path: &str, manager: &str, force: bool, body: Value) -> Step {
    step(
        Method::PATCH,
        &format!("{path}?fieldManager={manager}&force={force}"),
        APPLY,
        body,
    )
}

pub(crate) fn widgets(group: &str) -> Value {
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 3},
        "text": text,
        "atoms": {"type": "array", "items": text},
        "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": text, "image": text, "note": text}},
        },
        "map": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec,
                    "status": {"type": "object", "properties": {"phase": text, "count": {"type": "integer"}}},
                }}},
            }],
        },
    })
}

pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "NS"}, "data": data})
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/NS/configmaps";
