//! What an AccessRequest needs on its target cluster. Pure: from the request alone to objects.
//!
//! Names are derived from namespace and name of the request and, for roles and bindings, from their content. A
//! binding's role reference can never be changed, so other content is another object; the old one is pruned.
use crate::names::{ANNOTATION_ACCESS_REQUEST, LABEL_ACCESS_REQUEST, LABEL_MANAGED_BY, TARGET_NAMESPACE};
use openmcp_api::{
    AccessRequest,
    clusters::TokenConfig,
    common::{PermissionsRequest, RoleKind, RoleRef},
    names::name_hash,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds that a plan may hold, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ServiceAccount,
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Role,
        Self::ClusterRole,
        Self::RoleBinding,
        Self::ClusterRoleBinding,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
            Self::RoleBinding => "RoleBinding",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }
    pub(crate) const fn api_version(self) -> &'static str {
        match self {
            Self::ServiceAccount => "v1",
            _ => "rbac.authorization.k8s.io/v1",
        }
    }
}

/// Identifies one object on the target. The namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.as_str(), self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
        }
    }
}

/// Everything that a request needs on its target.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plan {
    /// Namespaces that are created if they are missing. They are the tenant's afterwards: never changed or deleted.
    pub(crate) namespaces: BTreeSet<String>,
    /// Objects by identity, in the order of application.
    pub(crate) objects: BTreeMap<Id, Value>,
}

/// The ServiceAccount of a request, in [`TARGET_NAMESPACE`].
pub(crate) fn account_name(request_namespace: &str, request_name: &str) -> String {
    format!("openmcp-{}", name_hash(&[request_namespace, request_name]))
}

/// The plan of a token request. `provider` is recorded as who manages the objects.
pub(crate) fn of_token(request: &AccessRequest, token: &TokenConfig, provider: &str) -> Plan {
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let mut planner = Planner {
        account: account_name(namespace, name),
        metadata: json!({
            "labels": {
                LABEL_MANAGED_BY: provider,
                LABEL_ACCESS_REQUEST: request.metadata.uid.as_deref().unwrap_or_default(),
            },
            "annotations": {ANNOTATION_ACCESS_REQUEST: format!("{namespace}/{name}")},
        }),
        plan: Plan::default(),
    };
    planner.account();
    for permission in &token.permissions {
        planner.permission(permission);
    }
    for role in &token.role_refs {
        planner.role_ref(role);
    }
    planner.plan
}

struct Planner {
    account: String,
    metadata: Value,
    plan: Plan,
}

impl Planner {
    fn account(&mut self) {
        self.plan.namespaces.insert(TARGET_NAMESPACE.to_owned());
        self.add(
            Kind::ServiceAccount,
            TARGET_NAMESPACE,
            &self.account.clone(),
            json!({"automountServiceAccountToken": false}),
        );
    }

    fn permission(&mut self, permission: &PermissionsRequest) {
        let namespace = permission.namespace().unwrap_or_default();
        if permission.creates_namespace() {
            self.plan.namespaces.insert(namespace.to_owned());
        }
        if permission.rules.is_empty() {
            return;
        }
        let rules = json!(permission.rules);
        let made_up = self.derived(&["permission", namespace, &rules.to_string()]);
        let name = permission
            .name
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or(&made_up)
            .to_owned();
        let kind = if namespace.is_empty() {
            RoleKind::ClusterRole
        } else {
            RoleKind::Role
        };
        let role = if namespace.is_empty() {
            Kind::ClusterRole
        } else {
            Kind::Role
        };
        self.add(role, namespace, &name, json!({"rules": rules}));
        self.bind(namespace, kind, &name);
    }

    fn role_ref(&mut self, role: &RoleRef) {
        let namespace = role.namespace.as_deref().unwrap_or_default();
        self.bind(namespace, role.kind, &role.name);
    }

    /// Binds a role to the ServiceAccount; without a namespace in the whole cluster.
    fn bind(&mut self, namespace: &str, kind: RoleKind, role: &str) {
        let name = self.derived(&["binding", namespace, kind.as_str(), role]);
        let binding = if namespace.is_empty() {
            Kind::ClusterRoleBinding
        } else {
            Kind::RoleBinding
        };
        let body = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind.as_str(), "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": self.account, "namespace": TARGET_NAMESPACE}],
        });
        self.add(binding, namespace, &name, body);
    }

    fn derived(&self, parts: &[&str]) -> String {
        format!("{}-{}", self.account, name_hash(parts))
    }

    fn add(&mut self, kind: Kind, namespace: &str, name: &str, mut object: Value) {
        let mut metadata = self.metadata.clone();
        metadata["name"] = json!(name);
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.as_str());
        object["metadata"] = metadata;
        self.plan.objects.insert(
            Id {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            object,
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(token: Value) -> Plan {
        let request: AccessRequest = serde_json::from_value(json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": "a", "namespace": "team", "uid": "u-1"}, "spec": {"token": token},
        }))
        .unwrap();
        of_token(&request, request.spec.token.as_ref().unwrap(), "hosted")
    }
    fn kinds(plan: &Plan) -> Vec<(Kind, &str)> {
        plan.objects
            .keys()
            .map(|id| (id.kind, id.namespace.as_str()))
            .collect()
    }

    #[test]
    fn a_permission_with_a_namespace_is_a_role_there_and_the_namespace_is_made() {
        let plan = plan(
            json!({"permissions": [{"namespace": "a", "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}]}),
        );
        assert_eq!(
            kinds(&plan),
            [
                (Kind::ServiceAccount, TARGET_NAMESPACE),
                (Kind::Role, "a"),
                (Kind::RoleBinding, "a")
            ]
        );
        assert!(plan.namespaces.contains("a"));
    }

    #[test]
    fn a_permission_without_a_namespace_is_a_cluster_role() {
        let plan = plan(
            json!({"permissions": [{"name": "mine", "rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}]}),
        );
        assert_eq!(
            kinds(&plan),
            [
                (Kind::ServiceAccount, TARGET_NAMESPACE),
                (Kind::ClusterRole, ""),
                (Kind::ClusterRoleBinding, "")
            ]
        );
        assert!(plan.objects.keys().any(|id| id.name == "mine"));
        assert_eq!(plan.namespaces.len(), 1);
    }

    #[test]
    fn a_permission_without_rules_only_makes_its_namespace() {
        let plan = plan(json!({"permissions": [{"namespace": "project-a", "rules": []}]}));
        assert_eq!(kinds(&plan), [(Kind::ServiceAccount, TARGET_NAMESPACE)]);
        assert!(plan.namespaces.contains("project-a"));
    }

    #[test]
    fn automatic_namespace_creation_can_be_switched_off() {
        let plan = plan(
            json!({"permissions": [{"namespace": "a", "disableAutomaticNamespaceCreation": true, "rules": []}]}),
        );
        assert!(!plan.namespaces.contains("a"));
    }

    #[test]
    fn a_cluster_role_is_bound_where_its_namespace_says() {
        let plan = plan(json!({"roleRefs": [
            {"kind": "ClusterRole", "name": "admin", "namespace": "project-a"},
            {"kind": "ClusterRole", "name": "view"},
            {"kind": "Role", "name": "r", "namespace": "b"},
        ]}));
        assert_eq!(
            kinds(&plan),
            [
                (Kind::ServiceAccount, TARGET_NAMESPACE),
                (Kind::RoleBinding, "b"),
                (Kind::RoleBinding, "project-a"),
                (Kind::ClusterRoleBinding, "")
            ]
            .map(|it| it)
        );
    }

    #[test]
    fn every_object_is_marked_with_the_uid_of_its_request() {
        let plan = plan(json!({"roleRefs": [{"kind": "ClusterRole", "name": "view"}]}));
        assert!(
            plan.objects
                .values()
                .all(|object| object["metadata"]["labels"][LABEL_ACCESS_REQUEST] == "u-1")
        );
    }

    #[test]
    fn other_content_is_another_object() {
        let rule = |verb: &str| json!({"permissions": [{"namespace": "a", "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]}]});
        let names = |plan: Plan| {
            plan.objects
                .into_keys()
                .filter(|id| id.kind == Kind::Role)
                .collect::<Vec<_>>()
        };
        assert_ne!(names(plan(rule("get"))), names(plan(rule("list"))));
        assert_eq!(names(plan(rule("get"))), names(plan(rule("get"))));
    }
}
