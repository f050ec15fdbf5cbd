#![allow(clippy::unwrap_used)]
use super::{conditions::Conditions, desired::*};
use crate::{config::ExposedEndpoint, platform::slim::NamespaceName};
use openmcp_api::{
    AccessRequest, ClusterRequest, ControlPlane,
    common::{Endpoint, OidcProviderConfig},
};
use serde_json::{Value, json};

fn control_plane(iam: Value) -> ControlPlane {
    serde_json::from_value(json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"namespace": "foo", "name": "foo", "uid": "u"}, "spec": {"iam": iam},
    }))
    .unwrap()
}

fn default_oidc() -> OidcProviderConfig {
    OidcProviderConfig {
        name: "openmcp".into(),
        issuer: "https://login.example.com".into(),
        client_id: "x".into(),
        ..Default::default()
    }
}

#[test]
fn everything_is_named_and_labelled_as_the_contract_says() {
    let object = control_plane(
        json!({"tokens": [{"name": "ci", "roleRefs": [{"kind": "ClusterRole", "name": "view"}]}]}),
    );
    let plan = Plan::new(&object);
    assert_eq!(
        plan.platform_namespace,
        "mcp--ed00e8ed-8a09-8c62-a9b8-e6fc20255174"
    );
    let namespace: NamespaceName = serde_json::from_value(
        json!({"metadata": {"name": "foo", "labels": {"core.openmcp.cloud/project": "p"}}}),
    )
    .unwrap();
    let request: ClusterRequest =
        serde_json::from_value(plan.cluster_request("mcp", Some(&namespace))).unwrap();
    assert_eq!(request.spec.wait_for_cluster_deletion, Some(true));
    let labels = request.metadata.labels.unwrap();
    assert_eq!(labels["openmcp.cloud/managed-by"], "ManagedControlPlane");
    assert_eq!(labels["core.openmcp.cloud/mcp-name"], "foo");
    assert_eq!(labels["metadata.open-control-plane.io/project"], "p");
    assert!(!labels.contains_key("metadata.open-control-plane.io/workspace"));
    let wanted = plan.accesses(None).pop().unwrap();
    assert_eq!(
        (wanted.key.as_str(), wanted.access_request.as_str()),
        ("token_ci", "ceo35n5o")
    );
    assert_eq!(wanted.user_secret, "token-ci.foo.kubeconfig");
    let access: AccessRequest = serde_json::from_value(plan.access_request(&wanted)).unwrap();
    assert_eq!(
        access.metadata.labels.unwrap()["core.openmcp.cloud/token-provider"],
        "ci"
    );
    assert_eq!(access.spec.token.unwrap().role_refs[0].name, "view");
}

#[test]
fn the_default_oidc_provider_is_used_only_where_roles_are_bound_for_it() {
    let bindings = json!([{"subjects": [], "roleRefs": []}]);
    let keys = |iam: Value, default: Option<&OidcProviderConfig>| -> Vec<String> {
        Plan::new(&control_plane(iam))
            .accesses(default)
            .into_iter()
            .map(|w| w.key)
            .collect()
    };
    let default = default_oidc();
    assert_eq!(
        keys(
            json!({"oidc": {"defaultProvider": {"roleBindings": bindings}}}),
            Some(&default)
        ),
        ["oidc_openmcp"]
    );
    assert!(keys(json!({"oidc": {"defaultProvider": {}}}), Some(&default)).is_empty());
    assert!(
        keys(
            json!({"oidc": {"defaultProvider": {"roleBindings": bindings}}}),
            None
        )
        .is_empty()
    );
    let extra = json!({"oidc": {"extraProviders": [{"name": "own", "issuer": "https://a.b", "clientID": "c", "roleBindings": []}]}});
    assert_eq!(keys(extra, Some(&default)), ["oidc_own"]);
}

#[test]
fn a_namespace_of_another_control_plane_is_not_taken_for_ones_own() {
    let (mine, other) = (
        control_plane(json!({})),
        ControlPlane {
            metadata: kube::api::ObjectMeta {
                namespace: Some("foo".into()),
                name: Some("bar".into()),
                ..Default::default()
            },
            ..control_plane(json!({}))
        },
    );
    let labels = Plan::new(&other)
        .labels()
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
    assert!(Plan::new(&other).owns(&labels));
    assert!(!Plan::new(&mine).owns(&labels));
    assert!(!Plan::new(&mine).owns(&Default::default()));
}

#[test]
fn only_configured_endpoints_are_shown_under_their_new_names() {
    let endpoints = [
        ("apiserver-external", "https://a"),
        ("apiserver-internal", "https://b"),
    ]
    .map(|(name, url)| Endpoint {
        name: name.into(),
        url: url.into(),
    });
    let expose = ExposedEndpoint {
        name: "apiserver-external".into(),
        rename_to: Some("default".into()),
    };
    assert_eq!(
        exposed(&endpoints, &[expose]),
        [Endpoint {
            name: "default".into(),
            url: "https://a".into()
        }]
    );
    assert!(exposed(&endpoints, &[]).is_empty());
}

#[test]
fn ready_needs_every_condition_and_deleting_is_terminating() {
    let mut conditions = Conditions::default();
    assert_eq!(conditions.phase(false), "Progressing");
    conditions.yes("Meta", "");
    assert_eq!(conditions.phase(false), "Ready");
    conditions.set("Cluster.Etcd", None, "", "");
    assert_eq!(conditions.phase(false), "Progressing");
    assert_eq!(conditions.phase(true), "Terminating");
}

#[test]
fn a_cluster_is_up_when_its_provider_says_so_by_conditions_or_by_its_phase() {
    let not_up = |status: Value| {
        let cluster = json!({"apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"},
            "spec": {"profile": "hosted", "tenancy": "Exclusive", "purposes": ["mcp"]}, "status": status});
        not_up(&serde_json::from_value(cluster).unwrap())
    };
    assert!(not_up(Value::Null).unwrap().contains("\"hosted\""));
    assert_eq!(
        not_up(json!({"observedGeneration": 1, "phase": "Progressing"})).unwrap(),
        "is Progressing"
    );
    assert!(not_up(json!({"observedGeneration": 1, "phase": "Ready"})).is_none());
    let told = json!([{"type": "Up", "status": "False", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    assert!(not_up(json!({"observedGeneration": 1, "phase": "Progressing", "conditions": told})).is_none());
}
