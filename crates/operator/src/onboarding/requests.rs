//! What the operator asks for on the platform to get onto the onboarding cluster: least privilege, and no more service
//! kinds than are registered. Pure.
use super::{NAME, roles};
use openmcp_api::{
    clusters::purpose,
    keys::{groups, labels},
    names::static_request,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Name of the static ClusterRequest and AccessRequest.
pub(super) fn name() -> String {
    static_request(NAME, purpose::ONBOARDING)
}

pub(super) fn cluster_request(namespace: &str) -> Value {
    json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest",
        "metadata": {"name": name(), "namespace": namespace, "labels": {labels::MANAGED_BY: NAME}},
        "spec": {"purpose": purpose::ONBOARDING},
    })
}

pub(super) fn access_request(namespace: &str, service_groups: &BTreeSet<String>) -> Value {
    json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
        "metadata": {"name": name(), "namespace": namespace, "labels": {labels::MANAGED_BY: NAME}},
        "spec": {
            "requestRef": {"name": name(), "namespace": namespace},
            "token": {"permissions": [{"rules": rules(service_groups)}]},
        },
    })
}

/// What the operator does on the onboarding cluster.
fn rules(service_groups: &BTreeSet<String>) -> Vec<Value> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let keep = ["get", "list", "watch", "create", "patch", "update"];
    let mut rules = vec![
        rule(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &["get", "list", "watch", "create", "patch", "update", "delete"],
        ),
        rule(
            "admissionregistration.k8s.io",
            &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            &keep,
        ),
        rule(
            groups::CORE,
            &["controlplanes/status", "controlplanes/finalizers"],
            &keep,
        ),
        // `delete` because nobody can grant, by the tenants' roles, what he does not have.
        rule(groups::CORE, &["controlplanes"], &roles::TENANT_VERBS),
        rule("rbac.authorization.k8s.io", &["clusterroles"], &keep),
        rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "create", "patch", "update", "delete"],
        ),
        rule("", &["namespaces"], &["get", "list", "watch"]),
        rule("", &["events"], &["create", "patch"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ];
    rules.extend(
        service_groups
            .iter()
            .map(|group| rule(group, &["*"], &["get", "list", "watch", "delete"])),
    );
    rules
}

/// The groups of service kinds that a granted AccessRequest lets the operator read.
pub(super) fn readable_groups(access: &openmcp_api::AccessRequest) -> BTreeSet<String> {
    let permissions = access.spec.token.iter().flat_map(|t| &t.permissions);
    permissions
        .flat_map(|p| &p.rules)
        .flat_map(|r| r.api_groups.iter().flatten())
        .cloned()
        .collect()
}
