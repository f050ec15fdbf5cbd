//! Cluster: an API server that exists or is to be made.
use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{Endpoint, LocalObjectReference},
    keys::finalizers,
    schema,
};

/// Name of the endpoint that is reachable from outside of the platform.
pub const ENDPOINT_EXTERNAL: &str = "apiserver-external";
/// Name of the endpoint that is reachable from inside of the platform.
pub const ENDPOINT_INTERNAL: &str = "apiserver-internal";

/// Whether a cluster serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Tenancy {
    Exclusive,
    Shared,
}

/// What is wanted of a Cluster.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clusters.openmcp.cloud",
    version = "v1alpha1",
    kind = "Cluster",
    namespaced,
    doc = "Cluster is an API server that a cluster provider makes and runs.",
    status = "ClusterStatus",
    derive = "PartialEq",
    category = "openmcp",
    selectable = ".spec.profile",
    printcolumn(name = "Purposes", type_ = "string", json_path = ".spec.purposes"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = r".metadata.labels.clusters\.openmcp\.cloud/k8sversion"
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = r".metadata.labels.clusters\.openmcp\.cloud/provider"
    ),
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".spec.profile",
        priority = 10
    ),
    printcolumn(
        name = "Info",
        type_ = "string",
        json_path = r".metadata.annotations.clusters\.openmcp\.cloud/providerinfo",
        priority = 10
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    label("openmcp.cloud/cluster", "platform")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The ClusterProfile that says which provider makes the cluster, and how.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "profile is immutable",
    }]))]
    pub profile: String,
    /// Objects of the provider's own configuration kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_configs: Vec<LocalObjectReference>,
    /// The cluster's Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesConfiguration>,
    /// What the cluster is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub purposes: Vec<String>,
    /// Whether the cluster serves one request or many.
    pub tenancy: Tenancy,
}

/// The Kubernetes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesConfiguration {
    /// The Kubernetes version; the profile's own choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What the cluster provider observed of a Cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation that was last acted on.
    pub observed_generation: i64,
    /// How far the cluster is. Providers differ in what they write; only Ready has one meaning.
    pub phase: String,
    /// The provider's conditions. One that is not True keeps a ControlPlane on the cluster from being Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// URL of the API server. Superseded by `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
    /// Where the API server can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// What only the provider understands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::raw_object")]
    pub provider_status: Option<serde_json::Value>,
}

impl ClusterStatus {
    /// The URL of the endpoint of that name.
    pub fn endpoint(&self, name: &str) -> Option<&str> {
        self.endpoints
            .iter()
            .find(|it| it.name == name)
            .map(|it| it.url.as_str())
    }
}

impl Cluster {
    /// UIDs of the ClusterRequests that hold this cluster, read from its finalizers.
    pub fn request_uids(&self) -> BTreeSet<&str> {
        self.finalizers()
            .iter()
            .filter_map(|it| it.strip_prefix(finalizers::CLUSTER_REQUEST_PREFIX))
            .collect()
    }

    /// How many ClusterRequests hold this cluster.
    pub fn tenancy_count(&self) -> usize {
        self.request_uids().len()
    }
}
