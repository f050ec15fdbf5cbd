//! `core.open-control-plane.io/v2alpha1`: ControlPlane, the one thing that a tenant orders first (contract §2.3). It lives
//! on the onboarding cluster.
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clusters,
    common::{Endpoint, LocalObjectReference, OidcProviderConfig, RoleBindings},
    schema,
};

/// Name of the platform owner's own OpenID Connect provider on every ControlPlane.
pub const DEFAULT_OIDC_PROVIDER: &str = "openmcp";

/// What a tenant wants of a ControlPlane.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "core.open-control-plane.io",
    version = "v2alpha1",
    kind = "ControlPlane",
    namespaced,
    doc = "ControlPlane is a tenant's own Kubernetes API, on which the services that it orders are used.",
    status = "ControlPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "openmcp",
    shortname = "cp",
    shortname = "ctrlp",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    label("openmcp.cloud/cluster", "onboarding")
)]
pub struct ControlPlaneSpec {
    /// Who gets access.
    pub iam: IamConfig,
}

/// Who gets access to a ControlPlane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IamConfig {
    /// Access by tokens of service accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<NamedTokenConfig>,
    /// Access through OpenID Connect providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<IamOidcConfig>,
}

/// Access by a token, under a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NamedTokenConfig {
    /// Name of this access, unique in the ControlPlane. The Secret with the kubeconfig is named after it.
    pub name: String,
    #[serde(flatten)]
    pub config: clusters::TokenConfig,
}

/// Access through OpenID Connect providers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IamOidcConfig {
    /// The platform owner's provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_provider: Option<DefaultProviderConfig>,
    /// The tenant's own providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_providers: Vec<OidcProviderConfig>,
}

/// How the platform owner's OpenID Connect provider is used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DefaultProviderConfig {
    /// Users and groups of the provider and the roles that they get. Without any, the provider is not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub role_bindings: Vec<RoleBindings>,
}

/// What was observed of a ControlPlane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneStatus {
    /// The generation that was last acted on.
    pub observed_generation: i64,
    /// Progressing, Ready or Terminating.
    pub phase: String,
    /// How far each step is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The Secrets with the kubeconfigs, beside the ControlPlane, by `oidc_<name>` or `token_<name>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub access: BTreeMap<String, LocalObjectReference>,
    /// Where the ControlPlane's API server can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}
