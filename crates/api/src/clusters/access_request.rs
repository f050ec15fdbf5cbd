//! AccessRequest: somebody needs credentials for a cluster; its cluster provider issues them as a Secret.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{LocalObjectReference, ObjectReference, OidcProviderConfig, PermissionsRequest, RoleRef, phase},
    duration::{self, InvalidDuration},
    keys::labels,
    schema,
};

/// What is asked for: access to one cluster, either by a token or through an OpenID Connect provider.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clusters.openmcp.cloud",
    version = "v1alpha1",
    kind = "AccessRequest",
    namespaced,
    doc = "AccessRequest asks for a kubeconfig for a cluster.",
    status = "AccessRequestStatus",
    derive = "PartialEq",
    category = "openmcp",
    shortname = "ar",
    shortname = "areq",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    label("openmcp.cloud/cluster", "platform")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(oldSelf.clusterRef) || has(self.clusterRef)",
        "message": "clusterRef may not be removed once set",
    },
    {
        "rule": "!has(oldSelf.requestRef) || has(self.requestRef)",
        "message": "requestRef may not be removed once set",
    },
    {
        "rule": "(has(self.token) && !has(self.oidc)) || (!has(self.token) && has(self.oidc))",
        "message": "exactly one of spec.token or spec.oidc must be set",
    },
]))]
pub struct AccessRequestSpec {
    /// The Cluster to access. Wins over `requestRef`. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "clusterRef is immutable",
    }]))]
    pub cluster_ref: Option<ObjectReference>,
    /// The ClusterRequest whose Cluster to access, once it is granted. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "requestRef is immutable",
    }]))]
    pub request_ref: Option<ObjectReference>,
    /// Access by the token of a service account. Exactly one of `token` and `oidc` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenConfig>,
    /// Access through an OpenID Connect provider. Exactly one of `token` and `oidc` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcConfig>,
    /// How long after its creation the AccessRequest is deleted, e.g. `24h`. Never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Access by a service account's token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenConfig {
    /// Roles to create and bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<PermissionsRequest>,
    /// Existing roles to bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_refs: Vec<RoleRef>,
}

/// Access through an OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcConfig {
    #[serde(flatten)]
    pub provider: OidcProviderConfig,
    /// Roles to create. They are bound to nobody by themselves: name them, so that `roleBindings` can refer to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<PermissionsRequest>,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRequestStatus {
    /// The generation that was last acted on.
    pub observed_generation: i64,
    /// Pending, Granted or Denied.
    pub phase: String,
    /// Why it is pending or denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The Secret with the credentials, beside the AccessRequest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
}

impl AccessRequest {
    /// Whether credentials were issued.
    pub fn is_granted(&self) -> bool {
        self.status.as_ref().is_some_and(|it| it.phase == phase::GRANTED)
    }

    /// Whether no credentials can be issued.
    pub fn is_denied(&self) -> bool {
        self.status.as_ref().is_some_and(|it| it.phase == phase::DENIED)
    }

    /// The name of the Secret with the credentials, once granted.
    pub fn granted_secret(&self) -> Option<&str> {
        let secret = self
            .status
            .as_ref()
            .filter(|it| it.phase == phase::GRANTED)?
            .secret_ref
            .as_ref()?;
        Some(secret.name.as_str()).filter(|it| !it.is_empty())
    }

    /// When the object is to be deleted: its ttl, counted from its creation. `None` if it never is, or was never stored.
    ///
    /// # Errors
    /// [`InvalidDuration`] if the ttl is no duration.
    pub fn expires_at(&self) -> Result<Option<jiff::Timestamp>, InvalidDuration> {
        let (Some(ttl), Some(Time(created))) = (&self.spec.ttl, &self.metadata.creation_timestamp) else {
            return Ok(None);
        };
        let expires_at = created.checked_add(duration::parse(ttl)?);
        expires_at
            .map(Some)
            .map_err(|_| InvalidDuration { text: ttl.clone() })
    }

    /// Whether the cluster provider named `provider` is to act on this object (contract §7): both labels are set, the
    /// provider label is its name, and the phase is Pending, or Granted for the current generation. Any other state is
    /// the generic controller's.
    pub fn is_for_cluster_provider(&self, provider: &str) -> bool {
        let labels = self.labels();
        let Some(status) = &self.status else { return false };
        labels.get(labels::PROVIDER).is_some_and(|it| it == provider)
            && labels.contains_key(labels::PROFILE)
            && match status.phase.as_str() {
                phase::PENDING => true,
                phase::GRANTED => Some(status.observed_generation) == self.metadata.generation,
                _ => false,
            }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CREATED: &str = "2026-01-02T03:04:05Z";

    fn request(ttl: Option<&str>) -> AccessRequest {
        let mut it = AccessRequest::new(
            "demo",
            AccessRequestSpec {
                ttl: ttl.map(Into::into),
                ..Default::default()
            },
        );
        it.metadata.creation_timestamp = Some(Time(CREATED.parse().unwrap()));
        it.metadata.generation = Some(2);
        it
    }

    #[test]
    fn the_ttl_counts_from_the_creation() {
        assert_eq!(request(None).expires_at(), Ok(None));
        assert_eq!(
            request(Some("24h")).expires_at(),
            Ok(Some("2026-01-03T03:04:05Z".parse().unwrap()))
        );
        assert!(request(Some("soon")).expires_at().is_err());
    }

    #[test]
    fn a_cluster_provider_acts_only_when_it_is_its_turn() {
        let request = |provider: &str, phase: &str, observed_generation| {
            let mut it = request(None);
            let labels = [(labels::PROVIDER, provider), (labels::PROFILE, "hosted")];
            it.metadata.labels = Some(labels.map(|(key, value)| (key.into(), value.into())).into());
            let phase = phase.into();
            it.status = Some(AccessRequestStatus {
                phase,
                observed_generation,
                ..Default::default()
            });
            it
        };
        assert!(request("hosted", "Pending", 1).is_for_cluster_provider("hosted"));
        assert!(request("hosted", "Granted", 2).is_for_cluster_provider("hosted"));
        assert!(
            !request("hosted", "Granted", 1).is_for_cluster_provider("hosted"),
            "the spec changed"
        );
        assert!(!request("hosted", "Denied", 2).is_for_cluster_provider("hosted"));
        assert!(!request("hosted", "", 2).is_for_cluster_provider("hosted"));
        assert!(!request("other", "Pending", 2).is_for_cluster_provider("hosted"));

        let mut without_profile = request("hosted", "Pending", 2);
        without_profile
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .remove(labels::PROFILE);
        assert!(!without_profile.is_for_cluster_provider("hosted"));
        assert!(
            !self::request(None).is_for_cluster_provider("hosted"),
            "nobody resolved it yet"
        );
    }
}
