//! `clusters.openmcp.cloud/v1alpha1`: clusters, the requests for them and for access to them, and the profiles that
//! cluster providers offer (contract §2.2). All live on the platform cluster.
mod access_request;
mod cluster;
mod cluster_profile;
mod cluster_request;

pub use access_request::{AccessRequest, AccessRequestSpec, AccessRequestStatus, OidcConfig, TokenConfig};
pub use cluster::{
    Cluster, ClusterSpec, ClusterStatus, ENDPOINT_EXTERNAL, ENDPOINT_INTERNAL, KubernetesConfiguration,
    Tenancy,
};
pub use cluster_profile::{ClusterProfile, ClusterProfileSpec, SupportedVersion};
pub use cluster_request::{ClusterRequest, ClusterRequestSpec, ClusterRequestStatus};

/// What clusters are for.
pub mod purpose {
    /// Platform controllers run here.
    pub const PLATFORM: &str = "platform";
    /// Service controllers run here.
    pub const WORKLOAD: &str = "workload";
    /// Tenants order here.
    pub const ONBOARDING: &str = "onboarding";
    /// A tenant's ControlPlane.
    pub const MCP: &str = "mcp";
}
