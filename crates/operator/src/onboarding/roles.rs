//! What tenants may do with ControlPlanes, by aggregation: who is admin or editor of a namespace orders them there, who
//! is viewer reads them. Pure.
use openmcp_api::keys::groups;
use serde_json::{Value, json};

/// What an editor may do.
pub(super) const TENANT_VERBS: [&str; 7] = ["get", "list", "watch", "create", "patch", "update", "delete"];
const VIEWER_VERBS: [&str; 3] = ["get", "list", "watch"];

/// The ClusterRoles that aggregate to admin, edit and view.
pub(super) fn all() -> [Value; 2] {
    [
        role("openmcp:controlplanes:edit", &["admin", "edit"], &TENANT_VERBS),
        role(
            "openmcp:controlplanes:view",
            &["admin", "edit", "view"],
            &VIEWER_VERBS,
        ),
    ]
}

fn role(name: &str, aggregate_to: &[&str], verbs: &[&str]) -> Value {
    let labels: serde_json::Map<String, Value> = aggregate_to
        .iter()
        .map(|role| {
            (
                format!("rbac.authorization.k8s.io/aggregate-to-{role}"),
                "true".into(),
            )
        })
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "rules": [{"apiGroups": [groups::CORE], "resources": ["controlplanes"], "verbs": verbs}],
    })
}
