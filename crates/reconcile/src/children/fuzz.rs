//! Live objects: others write most of what is in them.
use super::{
    drift::Drift,
    exact::surplus,
    kstatus::{health, holders},
};
use crate::{
    digest::{Digester, IGNORE_ANNOTATION, child_at, segment_of},
    fuzz::{DEEPEST, deep, mutated, value},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const KINDS: [&str; 9] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "Pod",
    "Namespace",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "Other",
];

fn live() -> Value {
    json!({
        "kind": "Deployment", "metadata": {
            "name": "a", "uid": "1", "generation": 2, "finalizers": ["x"],
            "annotations": {IGNORE_ANNOTATION: "/spec/replicas", "reconcile/exact-paths": "/data"},
            "managedFields": [
                {"manager": "us", "operation": "Apply", "fieldsV1": {
                    "f:spec": {"f:replicas": {}, "f:list": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}, "f:data": {"f:a": {}},
                }},
                {"manager": "them", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
            ],
        },
        "spec": {"replicas": 1, "list": [{"name": "a", "image": "1"}, {"name": "b"}]}, "data": {"a": "1"},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True", "message": "m"}]},
    })
}

/// Everything that is done with a live object. The same object is never different from itself.
fn look_at(live: &Value) {
    let digester = Digester::new("us", "a test");
    assert_eq!(digester.of_owned(live), digester.of_owned(live));
    for kind in KINDS {
        let _health = health(kind, live);
        holders(kind, live).for_each(drop);
    }
    assert_eq!(Drift::between(live, live, "us"), None);
}

proptest! {
    #[test]
    fn a_live_object_may_be_anything(live in prop_oneof![value(), mutated(live())], applied in mutated(live())) {
        look_at(&live);
        let _drift = Drift::between(&applied, &live, "us");
    }

    #[test]
    fn a_step_of_managed_fields_may_be_anything(body in value(), key in "[fkvi]:.{0,12}|.{0,4}") {
        let _segment = segment_of(&key);
        let _found = child_at(&body, &key);
    }

    #[test]
    fn what_is_removed_at_an_exact_path_is_all_and_can_be_removed(
        wanted in mutated(live()), live in mutated(live()), path in "(/spec|/data|/spec/list|/metadata/labels|/|//a~1|/é)",
    ) {
        let (_, patch) = surplus("us", &wanted, &live, [&*path].into_iter());
        let operations: Result<json_patch::Patch, _> = serde_json::from_value(json!(patch));
        let mut patched = live.clone();
        let done = operations.map(|it| json_patch::patch(&mut patched, &it));
        prop_assert!(matches!(done, Ok(Ok(()))), "{patch:?} of {live}");
        let (left, _) = surplus("us", &wanted, &patched, [&*path].into_iter());
        prop_assert!(left.is_empty(), "{left:?} is left of {live} at {path}");
    }
}

#[test]
fn a_live_object_may_be_as_deep_as_it_can_be_read() {
    for field in ["a", "f:a", "k:{\"a\":1}", "i:0"] {
        let mut body = deep(field, DEEPEST);
        look_at(&body);
        body["metadata"] = json!({"managedFields": [
            {"manager": "us", "operation": "Apply", "fieldsV1": deep(field, DEEPEST)},
            {"manager": "them", "operation": "Update", "fieldsV1": deep(field, DEEPEST)},
        ]});
        look_at(&body);
    }
}
