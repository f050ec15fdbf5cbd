//! ClusterProfile: a sort of cluster that a cluster provider offers. Written by the provider.
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::LocalObjectReference;

/// What a cluster provider offers.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clusters.openmcp.cloud",
    version = "v1alpha1",
    kind = "ClusterProfile",
    doc = "ClusterProfile is a sort of cluster that a cluster provider offers.",
    derive = "PartialEq",
    category = "openmcp",
    shortname = "cprof",
    shortname = "profile",
    selectable = ".spec.providerRef.name",
    selectable = ".spec.providerConfigRef.name",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef.name"),
    printcolumn(name = "Config", type_ = "string", json_path = ".spec.providerConfigRef.name"),
    label("openmcp.cloud/cluster", "platform")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterProfileSpec {
    /// The ClusterProvider.
    pub provider_ref: LocalObjectReference,
    /// The provider's configuration for clusters of this profile.
    pub provider_config_ref: LocalObjectReference,
    /// The Kubernetes versions that are offered.
    pub supported_versions: Vec<SupportedVersion>,
}

/// A Kubernetes version that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SupportedVersion {
    /// The version.
    #[schemars(length(min = 5))]
    pub version: String,
    /// Whether new clusters should not use it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<bool>,
}
