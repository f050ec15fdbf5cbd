//! Finalizers (contract §11.2).

/// On providers, by the operator.
pub const PROVIDER: &str = "openmcp.cloud/finalizer";

/// On ClusterRequests, by the scheduler.
pub const CLUSTER_REQUEST: &str = "clusters.openmcp.cloud/request";

/// What the finalizers on a Cluster (followed by a ClusterRequest's UID) and on a ControlPlane (followed by a
/// ClusterRequest's name) begin with.
pub const CLUSTER_REQUEST_PREFIX: &str = "request.clusters.openmcp.cloud/";

/// On ClusterRequests and AccessRequests that a service provider made for a service object.
pub const CLUSTER_ACCESS: &str = "clusters.openmcp.cloud/clusteraccess";

/// On Clusters and AccessRequests, by a cluster provider.
pub const CLUSTER_PROVIDER: &str = "clusters.openmcp.cloud/finalizer";

/// On ControlPlanes, by their controller.
pub const CONTROL_PLANE: &str = "core.openmcp.cloud/mcp";

/// On Inventories: what they list may still exist.
pub const INVENTORY: &str = "runtime.openmcp.cloud/inventory";

/// The finalizer on a Cluster by which the ClusterRequest with that UID holds it.
pub fn on_cluster(cluster_request_uid: &str) -> String {
    format!("{CLUSTER_REQUEST_PREFIX}{cluster_request_uid}")
}

/// The finalizer on a ControlPlane that names one of its ClusterRequests.
pub fn on_control_plane(cluster_request_name: &str) -> String {
    format!("{CLUSTER_REQUEST_PREFIX}{cluster_request_name}")
}

/// The finalizer on service objects of an API group.
pub fn service_object(group: &str) -> String {
    format!("{group}/finalizer")
}
