//! Annotations: their keys, and the values that have one meaning.

/// Asks for one reconcile or for none (contract §4, §11.8).
pub const OPERATION: &str = "openmcp.cloud/operation";
/// Leave the object alone.
pub const OPERATION_IGNORE: &str = "ignore";
/// Reconcile once; the annotation is removed first.
pub const OPERATION_RECONCILE: &str = "reconcile";

/// On a provider's init Job: whose Job it is, and for which generation.
pub const PROVIDER_NAME: &str = "openmcp.cloud/provider-name";
pub const PROVIDER_KIND: &str = "openmcp.cloud/provider-kind";
pub const PROVIDER_GENERATION: &str = "openmcp.cloud/provider-generation";

/// On a ControlPlane's platform namespace: the UID of the ControlPlane that it was made for, and that of the onboarding
/// cluster (its namespace kube-system) which the ControlPlane lives on.
pub const CONTROL_PLANE_UID: &str = "core.openmcp.cloud/mcp-uid";
pub const ONBOARDING_UID: &str = "core.openmcp.cloud/onboarding-uid";

/// On Clusters: what the provider wants to show.
pub const PROVIDER_INFO: &str = "clusters.openmcp.cloud/providerinfo";

/// On AccessRequests: the API server's URL as seen from a developer's host.
pub const LOCAL_ACCESS: &str = "clusters.open-control-plane.io/local-access";

/// On the pods of providers with a metrics endpoint.
pub const PROMETHEUS_SCRAPE: &str = "prometheus.io/scrape";
pub const PROMETHEUS_PATH: &str = "prometheus.io/path";
pub const PROMETHEUS_PORT: &str = "prometheus.io/port";

/// On an Inventory, by a platform owner: what becomes of the objects when the service object is deleted. `Delete`
/// (as without it), `Orphan` or `Force`.
pub const DELETION_POLICY: &str = "runtime.openmcp.cloud/deletion-policy";
/// On an Inventory, by the provider: which API servers its objects are on. Removed by a platform owner, those that are
/// there now are taken for the same.
pub const CLUSTERS: &str = "runtime.openmcp.cloud/clusters";
/// On a receipt: the field managers that asked for the policy.
pub const RECEIPT_ASKED_BY: &str = "runtime.openmcp.cloud/asked-by";
/// On a receipt: what was done, a line each.
pub const RECEIPT_NOTES: &str = "runtime.openmcp.cloud/notes";
