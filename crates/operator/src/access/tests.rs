#![allow(clippy::unwrap_used, clippy::panic)]
use super::plan::*;
use openmcp_api::clusters::{AccessRequest, Cluster, ClusterProfile, ClusterRequest};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn access(metadata: Value, spec: Value, status: Value) -> AccessRequest {
    let mut it = json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
        "metadata": {"namespace": "n", "name": "a", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": status,
    });
    for (key, value) in metadata.as_object().unwrap() {
        it["metadata"][key] = value.clone();
    }
    serde_json::from_value(it).unwrap()
}

fn by_request() -> Value {
    json!({"requestRef": {"namespace": "n", "name": "r"}, "token": {}})
}

fn request(phase: &str) -> Arc<ClusterRequest> {
    let cluster = (phase == "Granted").then(|| json!({"namespace": "c", "name": "c"}));
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest", "metadata": {"namespace": "n", "name": "r"},
            "spec": {"purpose": "mcp"}, "status": {"observedGeneration": 1, "phase": phase, "cluster": cluster},
        }))
        .unwrap(),
    )
}

fn cluster() -> Arc<Cluster> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster", "metadata": {"namespace": "c", "name": "c"},
            "spec": {"profile": "hosted", "tenancy": "Shared", "purposes": ["mcp"]},
        }))
        .unwrap(),
    )
}

fn profile() -> Arc<ClusterProfile> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterProfile", "metadata": {"name": "hosted"},
            "spec": {"providerRef": {"name": "p"}, "providerConfigRef": {"name": "p"}, "supportedVersions": []},
        }))
        .unwrap(),
    )
}

fn reason(target: Target) -> &'static str {
    match target {
        Target::Found { .. } => "Found",
        Target::Waiting { reason, .. } | Target::Denied { reason, .. } => reason,
    }
}

#[test]
fn a_request_leads_over_its_cluster_request_and_profile_to_a_provider() {
    let it = access(json!({}), by_request(), Value::Null);
    let target = resolve(
        &it,
        |_| Some(request("Granted")),
        |_| Some(cluster()),
        |_| Some(profile()),
    );
    let Target::Found {
        cluster,
        provider,
        profile,
    } = target
    else {
        panic!("{target:?}")
    };
    assert_eq!(
        (cluster.to_string().as_str(), provider.as_str(), profile.as_str()),
        ("c/c", "p", "hosted")
    );
}

#[test]
fn what_is_missing_on_the_way_is_named() {
    let it = access(json!({}), by_request(), Value::Null);
    let all = |r: Option<&str>, c: bool, p: bool| {
        reason(resolve(
            &it,
            |_| r.map(request),
            |_| c.then(cluster),
            |_| p.then(profile),
        ))
    };
    assert_eq!(all(None, true, true), "WaitingForClusterRequest");
    assert_eq!(all(Some("Pending"), true, true), "WaitingForClusterRequest");
    assert_eq!(all(Some("Denied"), true, true), "ClusterRequestDenied");
    assert_eq!(all(Some("Granted"), false, true), "WaitingForCluster");
    assert_eq!(all(Some("Granted"), true, false), "WaitingForClusterProfile");
    let none = access(json!({}), json!({"token": {}}), Value::Null);
    assert_eq!(
        reason(resolve(&none, |_| None, |_| None, |_| None)),
        "InvalidReference"
    );
}

#[test]
fn a_cluster_ref_wins_over_a_request_ref() {
    let spec = json!({"clusterRef": {"namespace": "x", "name": "y"}, "requestRef": {"namespace": "n", "name": "r"}, "token": {}});
    let it = access(json!({}), spec, Value::Null);
    let target = resolve(
        &it,
        |_| panic!("the request is not looked at"),
        |_| Some(cluster()),
        |_| Some(profile()),
    );
    assert!(matches!(target, Target::Found { cluster, .. } if cluster.name == "y"));
}

#[test]
fn a_grant_of_another_generation_is_pending_again() {
    let status = |phase: &str, generation: i64, resolved: &str| {
        json!({"phase": phase, "observedGeneration": generation, "conditions": [{
            "type": "Resolved", "status": resolved, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    let pending = |status: Value| must_be_pending(&access(json!({}), by_request(), status));
    assert!(pending(Value::Null));
    assert!(!pending(status("Pending", 1, "True")));
    assert!(pending(status("Granted", 1, "True")));
    assert!(!pending(status("Granted", 2, "True")));
    assert!(
        !pending(status("Denied", 2, "True")),
        "the provider's own denial stands"
    );
    assert!(pending(status("Denied", 2, "False")), "it leads somewhere now");
}

#[test]
fn the_time_to_live_counts_from_the_creation_and_ends_at_zero() {
    let it = access(json!({}), json!({"ttl": "1h", "token": {}}), Value::Null);
    let at = |text: &str| left_to_live(&it, text.parse().unwrap()).unwrap();
    assert_eq!(at("2026-01-01T00:45:00Z"), Some(Duration::from_secs(900)));
    assert_eq!(at("2026-01-01T02:00:00Z"), Some(Duration::ZERO));
    let never = access(json!({}), by_request(), Value::Null);
    assert_eq!(
        left_to_live(&never, "2036-01-01T00:00:00Z".parse().unwrap()),
        Ok(None)
    );
}

#[test]
fn a_deleted_request_whose_cluster_is_gone_is_released_when_no_provider_will() {
    let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["clusters.openmcp.cloud/finalizer"]});
    let it = access(gone, by_request(), Value::Null);
    let at = |text: &str, provider| orphan(&it, provider, text.parse().unwrap());
    assert_eq!(at("2026-01-01T00:00:01Z", false), Orphan::Release);
    assert_eq!(
        at("2026-01-01T00:00:01Z", true),
        Orphan::Patience(PATIENCE_WITH_PROVIDER - Duration::from_secs(1))
    );
    assert_eq!(at("2026-01-01T01:00:00Z", true), Orphan::Release);
    let living = access(
        json!({"finalizers": ["clusters.openmcp.cloud/finalizer"]}),
        by_request(),
        Value::Null,
    );
    assert_eq!(
        orphan(&living, false, "2026-01-01T01:00:00Z".parse().unwrap()),
        Orphan::No
    );
}
