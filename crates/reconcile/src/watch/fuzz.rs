//! Objects that a watch shows, and the errors of API servers.
#![allow(clippy::unwrap_used)]
use super::decode::Decoded;
use crate::{
    Fault,
    digest::Digest,
    fuzz::{mutated, value},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{Resource, core::Status};
use proptest::prelude::*;
use serde_json::{Value, json};

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "b", "uid": "1", "resourceVersion": "2", "managedFields": [{"manager": "x"}]},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "a"}]}}},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    })
}

/// What an API server sees to: it is an object, and so is its metadata.
fn served(mut value: Value) -> Value {
    if !value.is_object() {
        value = json!({"spec": value});
    }
    if value
        .get("metadata")
        .is_some_and(|metadata| !metadata.is_object())
    {
        value["metadata"] = json!({"labels": value["metadata"]});
    }
    value
}

fn status() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "m", "reason": "r", "code": 409,
        "details": {"name": "a", "kind": "b", "retryAfterSeconds": 1, "causes": [{"reason": "r", "message": "m", "field": "f"}]},
    })
}

proptest! {
    #[test]
    fn an_object_that_cannot_be_decoded_spoils_no_list_and_keeps_its_name(
        object in prop_oneof![value(), mutated(deployment())].prop_map(served), other in value().prop_map(served)
    ) {
        let list = json!([object, other]).to_string();
        let deployments: Vec<Decoded<Deployment>> = serde_json::from_str(&list).unwrap();
        let maps: Vec<Decoded<ConfigMap>> = serde_json::from_str(&list).unwrap();
        if let (Err(_), Some(name)) = (&deployments[0].0, object.pointer("/metadata/name").and_then(Value::as_str)) {
            prop_assert_eq!(deployments[0].meta().name.as_deref(), Some(name));
        }
        prop_assert_eq!(maps.len(), 2);
    }

    #[test]
    fn an_error_of_an_api_server_may_be_anything(status in mutated(status()), code in any::<u16>()) {
        if let Ok(status) = serde_json::from_value::<Status>(status) {
            let fault = Fault::api("x", &kube::Error::Api(status.with_code(code).boxed()));
            prop_assert!(fault.message.len() <= 4096, "{} bytes", fault.message.len());
        }
    }

    #[test]
    fn a_digest_in_an_inventory_may_be_any_text(text in "x1:[0-9a-fA-F+-]{30,34}|.{0,40}") {
        if let Some(digest) = Digest::parse(&text) {
            prop_assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        }
    }
}
