//! How a kind is served: its path and scope. A table for what every API server has, discovery for the rest.
use crate::Fault;
use kube::{
    core::GroupVersionKind,
    discovery::{self, ApiResource, Scope},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// A kind as one API server serves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Its objects are in namespaces.
    pub namespaced: bool,
}

/// (apiVersion, kind, plural, namespaced). Sparing the requests that a warm restart would cost.
const BUILT_IN: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "ResourceQuota", "resourcequotas", true),
    ("v1", "LimitRange", "limitranges", true),
    ("v1", "Pod", "pods", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("batch/v1", "Job", "jobs", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        true,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "clusterroles",
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
];

/// The kinds of one connection, as far as they were asked for. Only what is served is remembered.
#[derive(Default)]
pub(super) struct Kinds {
    seen: Mutex<HashMap<GroupVersionKind, Kind>>,
}

impl Kinds {
    /// How `kind` of `api_version` is served there; `None` when it is not.
    pub(super) async fn resolve(
        &self,
        client: &kube::Client,
        api_version: &str,
        kind: &str,
    ) -> Result<Option<Kind>, Fault> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        if let Some(known) = built_in(&gvk) {
            return Ok(Some(known));
        }
        if let Some(known) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&gvk) {
            return Ok(Some(known.clone()));
        }
        let Some(found) = discover(client, &gvk).await? else {
            return Ok(None);
        };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(gvk, found.clone());
        Ok(Some(found))
    }

    /// How `kind` of `group` is served in any version: what was made in a version that is not served any more is still
    /// there, in all others. Looked up each time.
    pub(super) async fn in_any_version(
        client: &kube::Client,
        group: &str,
        kind: &str,
    ) -> Result<Option<Kind>, Fault> {
        if group.is_empty() {
            return Ok(None);
        }
        match discovery::group(client, group).await {
            Ok(found) => Ok(found.recommended_kind(kind).map(|(resource, it)| Kind {
                resource,
                namespaced: it.scope == Scope::Namespaced,
            })),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(error) => Err(Fault::api(format!("look up kind {kind} of {group}"), &error)),
        }
    }
}

fn built_in(gvk: &GroupVersionKind) -> Option<Kind> {
    let api_version = gvk.api_version();
    let row = BUILT_IN
        .iter()
        .find(|row| row.0 == api_version && row.1 == gvk.kind)?;
    Some(Kind {
        resource: ApiResource::from_gvk_with_plural(gvk, row.2),
        namespaced: row.3,
    })
}

async fn discover(client: &kube::Client, gvk: &GroupVersionKind) -> Result<Option<Kind>, Fault> {
    match discovery::pinned_kind(client, gvk).await {
        Ok((resource, capabilities)) => Ok(Some(Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })),
        Err(kube::Error::Discovery(_)) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Fault::api(
            format!("look up kind {} of {}", gvk.kind, gvk.api_version()),
            &error,
        )),
    }
}
