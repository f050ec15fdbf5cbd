//! What a ControlPlane needs on the platform and beside itself: pure.
use crate::{
    config::ExposedEndpoint,
    platform::slim::{AccessSecret, NamespaceName},
};
use kube::{Resource, ResourceExt};
use openmcp_api::{
    Cluster, ControlPlane,
    common::{Endpoint, OidcProviderConfig, phase},
    keys::{annotations, labels},
    names::{self, AccessKey, label_value},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a finalizer may have behind its `/`: that of its ClusterRequest holds the name (contract §11.2).
const NAME_MAX: usize = 63;
/// No more than for the name of an OIDC provider, so that it fits into a condition's type.
const TOKEN_NAME_MAX: usize = 253;

/// Whether the name of a token fits into the names of what is made for it (contract §11.4); `_` becomes `-` there.
fn is_usable(token: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    token.len() <= TOKEN_NAME_MAX
        && token.split('.').all(|part| {
            part.starts_with(legal)
                && part.ends_with(legal)
                && part.chars().all(|c| legal(c) || matches!(c, '-' | '_'))
        })
}

/// A ControlPlane, and where it lives on the platform.
pub(super) struct Plan<'a> {
    pub object: &'a ControlPlane,
    pub namespace: String,
    pub name: String,
    /// Its namespace on the platform cluster.
    pub platform_namespace: String,
}

/// One way to access a ControlPlane.
pub(super) struct Wanted {
    /// `oidc_<name>` or `token_<name>`.
    pub key: String,
    pub access_request: String,
    pub user_secret: String,
    pub body: Value,
    label: (&'static str, String),
}

impl<'a> Plan<'a> {
    pub(super) fn new(object: &'a ControlPlane) -> Self {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let platform_namespace = names::control_plane_namespace(&namespace, &name);
        Self {
            object,
            namespace,
            name,
            platform_namespace,
        }
    }

    /// The labels by which everything that was made for it is known.
    pub(super) fn labels(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (labels::MANAGED_BY, labels::MANAGED_BY_CONTROL_PLANE.to_owned()),
            (labels::MCP_NAME, label_value(&self.name)),
            (labels::MCP_NAMESPACE, label_value(&self.namespace)),
        ])
    }

    /// Whether something was made for this ControlPlane.
    pub(super) fn owns(&self, on: &BTreeMap<String, String>) -> bool {
        self.labels()
            .iter()
            .all(|(key, value)| on.get(*key) == Some(value))
    }

    /// Its namespace on the platform, with the record of whose it is.
    pub(super) fn namespace_object(&self, onboarding: &str) -> Value {
        let record = json!({
            annotations::CONTROL_PLANE_UID: self.object.metadata.uid,
            annotations::ONBOARDING_UID: onboarding,
        });
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.platform_namespace, "labels": self.labels(), "annotations": record},
        })
    }

    /// The purpose that it asks for, where it overrides the configured one.
    pub(super) fn purpose_override(&self) -> Option<&String> {
        self.object.labels().get(labels::PURPOSE)
    }

    pub(super) fn cluster_request(
        &self,
        purpose: &str,
        onboarding_namespace: Option<&NamespaceName>,
    ) -> Value {
        let mut with = self.labels();
        with.insert(labels::METADATA_CP_NAME, label_value(&self.name));
        with.insert(labels::METADATA_CP_NAMESPACE, label_value(&self.namespace));
        let on_namespace = onboarding_namespace
            .map(|n| n.labels().clone())
            .unwrap_or_default();
        for (from, to) in [
            (labels::PROJECT, labels::METADATA_PROJECT),
            (labels::WORKSPACE, labels::METADATA_WORKSPACE),
        ] {
            with.extend(on_namespace.get(from).map(|value| (to, value.clone())));
        }
        json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest",
            "metadata": {"name": self.name, "namespace": self.platform_namespace, "labels": with},
            "spec": {"purpose": purpose, "waitForClusterDeletion": true},
        })
    }

    /// Every access that the ControlPlane's spec asks for. The default OIDC provider is used only where roles are bound
    /// for it.
    pub(super) fn accesses(&self, default_oidc: Option<&OidcProviderConfig>) -> Vec<Wanted> {
        let iam = &self.object.spec.iam;
        let usable = iam.tokens.iter().filter(|token| is_usable(&token.name));
        let tokens = usable.map(|token| {
            let body = json!({"token": token.config});
            self.wanted(
                AccessKey::Token(&token.name),
                (labels::TOKEN_PROVIDER, &token.name),
                body,
            )
        });
        let oidc = iam.oidc.as_ref();
        let bindings = oidc
            .and_then(|o| o.default_provider.as_ref())
            .map(|d| d.role_bindings.clone())
            .unwrap_or_default();
        let default = default_oidc
            .filter(|_| !bindings.is_empty())
            .map(|provider| OidcProviderConfig {
                role_bindings: bindings,
                ..provider.clone()
            });
        let extra = oidc.map(|o| o.extra_providers.clone()).unwrap_or_default();
        let providers = default.into_iter().chain(extra).map(|provider| {
            self.wanted(
                AccessKey::Oidc(&provider.name),
                (labels::OIDC_PROVIDER, &provider.name),
                json!({"oidc": provider}),
            )
        });
        tokens.chain(providers).collect()
    }

    /// Names of tokens of which no Secret, label and condition can be made: nothing is made for them.
    pub(super) fn unusable_tokens(&self) -> Vec<&str> {
        let names = self
            .object
            .spec
            .iam
            .tokens
            .iter()
            .map(|token| token.name.as_str());
        names.filter(|name| !is_usable(name)).collect()
    }

    /// What is wrong with its own name, if something is.
    pub(super) fn unusable_name(&self) -> Option<String> {
        let length = self.name.len();
        (length > NAME_MAX).then(|| {
            format!("the name of a ControlPlane may have {NAME_MAX} characters at most, this one has {length}: nothing is made. Order it under a shorter name")
        })
    }

    fn wanted(&self, key: AccessKey<'_>, (label, name): (&'static str, &str), body: Value) -> Wanted {
        Wanted {
            key: key.to_string(),
            access_request: names::control_plane_access_request(&self.name, key),
            user_secret: names::user_secret(key, &self.name),
            body,
            label: (label, label_value(name)),
        }
    }

    fn access_labels(&self, wanted: &Wanted) -> BTreeMap<&'static str, String> {
        let mut with = self.labels();
        with.insert(wanted.label.0, wanted.label.1.clone());
        with
    }

    pub(super) fn access_request(&self, wanted: &Wanted) -> Value {
        let mut spec = wanted.body.clone();
        spec["requestRef"] = json!({"name": self.name, "namespace": self.platform_namespace});
        json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": wanted.access_request, "namespace": self.platform_namespace, "labels": self.access_labels(wanted)},
            "spec": spec,
        })
    }

    /// The user's copy of a kubeconfig Secret, beside the ControlPlane.
    pub(super) fn user_secret(&self, wanted: &Wanted, source: &AccessSecret) -> Value {
        let owner = self.object.owner_ref(&());
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {
                "name": wanted.user_secret, "namespace": self.namespace, "labels": self.access_labels(wanted),
                "ownerReferences": [owner],
            },
            "data": source.data,
        })
    }
}

/// Why a Cluster is not there to be used, where only its phase can tell: a ClusterProvider that reports conditions says
/// it by them, and a phase is a free text (contract §2.2).
pub(super) fn not_up(cluster: &Cluster) -> Option<String> {
    let status = cluster.status.clone().unwrap_or_default();
    match status.phase.as_str() {
        _ if !status.conditions.is_empty() => None,
        phase::READY => None,
        "" => Some(format!(
            "has not been reported on yet by the ClusterProvider of the profile {:?}",
            cluster.spec.profile
        )),
        other => Some(format!("is {other}")),
    }
}

/// The endpoints that are shown, under the names that the configuration gives them.
pub(super) fn exposed(endpoints: &[Endpoint], which: &[ExposedEndpoint]) -> Vec<Endpoint> {
    which
        .iter()
        .filter_map(|expose| {
            let endpoint = endpoints.iter().find(|e| e.name == expose.name)?;
            let name = expose.rename_to.clone().unwrap_or_else(|| expose.name.clone());
            Some(Endpoint {
                name,
                url: endpoint.url.clone(),
            })
        })
        .collect()
}
