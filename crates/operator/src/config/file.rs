//! The configuration file as it is written (contract §6): the Go stack's format, unknown keys refused.
use k8s_openapi::{
    api::core::v1::TopologySpreadConstraint, apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use openmcp_api::clusters::ClusterSpec;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub scheduler: Scheduler,
    #[serde(default)]
    pub access_request: AccessRequest,
    #[serde(default)]
    pub managed_control_plane: ManagedControlPlane,
    /// Read by the Helm deployer, not by this operator.
    #[serde(default, rename = "helmDeployer")]
    pub _helm_deployer: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scheduler {
    #[serde(default)]
    pub scope: Scope,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default)]
    pub selectors: Selectors,
    #[serde(default)]
    pub purpose_mappings: BTreeMap<String, Mapping>,
}

/// Which clusters are looked at for a shared one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Scope {
    /// All.
    #[default]
    Cluster,
    /// Those in the template's namespace, else in the request's.
    Namespaced,
}

/// Which of several fitting shared clusters is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Strategy {
    /// The one with the fewest requests.
    #[default]
    Balanced,
    Random,
    /// The first by name.
    Simple,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selectors {
    pub clusters: Option<LabelSelector>,
    pub requests: Option<LabelSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mapping {
    #[serde(default)]
    pub tenancy_count: i64,
    pub selector: Option<LabelSelector>,
    pub template: Template,
}

/// What a cluster made for a purpose looks like.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Template {
    #[serde(default)]
    pub metadata: TemplateMetadata,
    pub spec: ClusterSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TemplateMetadata {
    pub name: Option<String>,
    pub generate_name: Option<String>,
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AccessRequest {
    pub selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ManagedControlPlane {
    pub mcp_cluster_purpose: Option<String>,
    #[serde(rename = "defaultOIDCProvider")]
    pub default_oidc_provider: Option<DefaultOidcProvider>,
    #[serde(default, rename = "reconcileMCPEveryXDays")]
    pub reconcile_every_days: i64,
    #[serde(default)]
    pub exposed_endpoints: Vec<ExposedEndpoint>,
    /// In the Go stack ControlPlanes are served by a PlatformService of its own; here by this operator.
    #[serde(default, rename = "platformService")]
    pub _platform_service: PlatformService,
}

/// The provider named `openmcp`, used where a ControlPlane binds roles for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DefaultOidcProvider {
    /// Ignored: the default provider is always named `openmcp`.
    #[serde(rename = "name")]
    pub _name: Option<String>,
    pub issuer: String,
    #[serde(rename = "clientID")]
    pub client_id: String,
    pub groups_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub username_prefix: Option<String>,
    pub username_claim: Option<String>,
    #[serde(default)]
    pub extra_scopes: Vec<String>,
    /// Refused: roles are bound by each ControlPlane.
    #[serde(default)]
    pub role_bindings: Vec<serde_json::Value>,
}

/// An endpoint of the Cluster that is shown in a ControlPlane's status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExposedEndpoint {
    pub name: String,
    pub rename_to: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlatformService {
    #[serde(rename = "replicas")]
    pub _replicas: Option<i32>,
    #[serde(default, rename = "topologySpreadConstraints")]
    pub _topology_spread_constraints: Vec<TopologySpreadConstraint>,
}
