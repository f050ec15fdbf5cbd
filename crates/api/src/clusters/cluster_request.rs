//! ClusterRequest: somebody needs a cluster for a purpose; the scheduler finds or makes one.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{ObjectReference, phase},
    keys::finalizers,
    schema,
};

/// What is asked for.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clusters.openmcp.cloud",
    version = "v1alpha1",
    kind = "ClusterRequest",
    namespaced,
    doc = "ClusterRequest asks for a cluster that serves a purpose.",
    status = "ClusterRequestStatus",
    derive = "PartialEq",
    category = "openmcp",
    shortname = "cr",
    shortname = "creq",
    selectable = ".spec.purpose",
    selectable = ".status.phase",
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.cluster.name"),
    printcolumn(
        name = "Cluster-NS",
        type_ = "string",
        json_path = ".status.cluster.namespace"
    ),
    label("openmcp.cloud/cluster", "platform")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "spec is immutable"}]))]
pub struct ClusterRequestSpec {
    /// What the cluster is for.
    #[schemars(length(min = 1))]
    pub purpose: String,
    /// Whether a deleted request stays until the cluster that it releases is gone. Default: true for an exclusive
    /// cluster, false for a shared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_cluster_deletion: Option<bool>,
}

/// What the scheduler decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(oldSelf.cluster) || has(self.cluster)",
    "message": "cluster may not be removed once set",
}]))]
pub struct ClusterRequestStatus {
    /// The generation that was last acted on.
    pub observed_generation: i64,
    /// Pending, Granted or Denied.
    pub phase: String,
    /// Why it is pending or denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The cluster that serves the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "cluster is immutable",
    }]))]
    pub cluster: Option<ObjectReference>,
}

impl ClusterRequest {
    /// The finalizer by which this request holds its Cluster. `None` for an object that was never stored.
    pub fn finalizer_on_cluster(&self) -> Option<String> {
        self.metadata.uid.as_deref().map(finalizers::on_cluster)
    }

    /// Whether a cluster was assigned.
    pub fn is_granted(&self) -> bool {
        self.status.as_ref().is_some_and(|it| it.phase == phase::GRANTED)
    }

    /// Whether no cluster can be assigned.
    pub fn is_denied(&self) -> bool {
        self.status.as_ref().is_some_and(|it| it.phase == phase::DENIED)
    }

    /// The assigned cluster, once granted.
    pub fn granted_cluster(&self) -> Option<&ObjectReference> {
        self.status
            .as_ref()
            .filter(|it| it.phase == phase::GRANTED)?
            .cluster
            .as_ref()
    }
}
