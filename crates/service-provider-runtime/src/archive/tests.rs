#![allow(clippy::unwrap_used)]
use super::*;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

fn map(annotation: &str, data: &str) -> ConfigMap {
    let text = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": data},
        "metadata": {"name": "a", "namespace": "b", "uid": "1", "annotations": {"x": annotation}}});
    serde_json::from_value(text).unwrap()
}

fn pack(dictionary: &Arc<Dictionary>, object: ConfigMap) -> Packed<ConfigMap> {
    Packed::of(dictionary, &object)
}

#[test]
fn what_is_packed_is_unpacked() {
    let dictionary = Arc::default();
    let [first, second] = [map("1", "v"), map("2", &"w".repeat(100_000))];
    let packed = [&first, &second].map(|object| pack(&dictionary, object.clone()));
    assert_eq!(
        packed.map(|packed| packed.unpack().ok()),
        [Some(first), Some(second)]
    );
}

#[test]
fn of_what_the_first_one_said_too_little_is_kept() {
    let dictionary = Arc::default();
    let text: String = (0..300).map(|n| format!("{n} ")).collect();
    let [first, second] = ["1", "2"].map(|annotation| pack(&dictionary, map(annotation, &text)));
    assert!(matches!(&second.content, Content::Deflated(deflated) if deflated.len() < 60));
    assert_eq!(first.unpack().ok(), Some(map("1", &text)));
}

/// Reads nothing, not even what it has written.
#[derive(kube::CustomResource, Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[kube(group = "x.example.com", version = "v1", kind = "Strange", namespaced)]
struct StrangeSpec {
    #[serde(rename(serialize = "written"))]
    read: String,
}

#[test]
fn what_does_not_read_back_is_an_error_with_its_name_and_not_absent() {
    let mut object = Strange::new("a", StrangeSpec { read: "x".into() });
    object.metadata.namespace = Some("b".into());
    let unreadable = Packed::of(&Arc::default(), &object).unpack().unwrap_err();
    assert_eq!(
        unreadable.to_string().split(':').next(),
        Some("this version of the provider cannot read Strange b/a")
    );
    assert_eq!(Fault::from(unreadable).class, Class::Bug);
}

#[test]
fn two_wishes_are_told_apart_by_what_users_say() {
    let dictionary = Arc::default();
    let first = pack(&dictionary, map("1", "v"));
    assert!(
        first.wants_the_same(&pack(&dictionary, map("1", "w"))),
        "its generation did not move"
    );
    assert!(!first.wants_the_same(&pack(&dictionary, map("2", "v"))));
}

fn pod(metadata: Value, status: Value) -> Pod {
    let mut object = json!({"metadata": {"name": "x", "uid": "1", "generation": 1}, "status": status});
    for (field, value) in metadata.as_object().into_iter().flatten() {
        object["metadata"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap_or_default()
}

/// Known fault 6: what we write ourselves would wake us for ever.
#[test]
fn a_status_or_a_finalizer_of_our_own_is_no_new_wish_and_all_else_is() {
    let old = pod(json!({"resourceVersion": "1"}), json!({}));
    let same = |metadata| wish(&old.metadata) == wish(&pod(metadata, json!({"phase": "Running"})).metadata);
    assert!(same(json!({"resourceVersion": "2", "finalizers": ["ours"]})));
    assert!(!same(json!({"generation": 2})));
    assert!(!same(json!({"uid": "2"})));
    assert!(!same(
        json!({"annotations": {"openmcp.cloud/operation": "reconcile"}})
    ));
    assert!(!same(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})));
}
