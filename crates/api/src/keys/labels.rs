//! Labels: their keys, and the values that have one meaning.

/// On CRDs: the cluster that the CRD is installed on, [`CLUSTER_PLATFORM`] or [`CLUSTER_ONBOARDING`].
pub const CLUSTER: &str = "openmcp.cloud/cluster";
pub const CLUSTER_PLATFORM: &str = "platform";
pub const CLUSTER_ONBOARDING: &str = "onboarding";

/// Who made the object, in its own spelling.
pub const MANAGED_BY: &str = "openmcp.cloud/managed-by";
pub const MANAGED_BY_OPERATOR: &str = "openmcp-operator";
/// The value on what is made for a ControlPlane.
pub const MANAGED_BY_CONTROL_PLANE: &str = "ManagedControlPlane";

/// What the object was made for: `<ns>.<name>.<id>` on requests of a service object.
pub const MANAGED_PURPOSE: &str = "openmcp.cloud/managed-purpose";
pub const MANAGED_PURPOSE_MCP_PURPOSE_OVERRIDE: &str = "mcp-purpose-override";
pub const MANAGED_PURPOSE_OIDC_PROVIDER_NAME_UNIQUENESS: &str = "oidc-provider-name-uniqueness";

/// The service object that a request was made for; a value over 63 characters is shortened
/// ([`crate::names::label_value`]).
pub const ONBOARDING_NAME: &str = "openmcp.cloud/onboarding-name";
pub const ONBOARDING_NAMESPACE: &str = "openmcp.cloud/onboarding-namespace";

/// The installation that the object belongs to.
pub const ENVIRONMENT: &str = "openmcp.cloud/environment";

/// The ControlPlane that the object was made for.
pub const MCP_NAME: &str = "core.openmcp.cloud/mcp-name";
pub const MCP_NAMESPACE: &str = "core.openmcp.cloud/mcp-namespace";
/// Bare name of the OpenID Connect provider, on AccessRequests and user Secrets.
pub const OIDC_PROVIDER: &str = "core.openmcp.cloud/oidc-provider";
/// Bare name of the token access, on AccessRequests and user Secrets.
pub const TOKEN_PROVIDER: &str = "core.openmcp.cloud/token-provider";
/// On a ControlPlane: the purpose to ask for instead of the configured one. Must contain `mcp`.
pub const PURPOSE: &str = "core.openmcp.cloud/purpose";
/// On onboarding namespaces.
pub const PROJECT: &str = "core.openmcp.cloud/project";
pub const WORKSPACE: &str = "core.openmcp.cloud/workspace";

/// Labels and annotations that begin with it are copied from a ClusterRequest to its exclusive Cluster.
pub const METADATA_PREFIX: &str = "metadata.open-control-plane.io/";
pub const METADATA_CP_NAME: &str = "metadata.open-control-plane.io/cp-name";
pub const METADATA_CP_NAMESPACE: &str = "metadata.open-control-plane.io/cp-namespace";
pub const METADATA_PROJECT: &str = "metadata.open-control-plane.io/project";
pub const METADATA_WORKSPACE: &str = "metadata.open-control-plane.io/workspace";

/// On AccessRequests: the ClusterProvider that is to act. On Clusters: who made it, for display.
pub const PROVIDER: &str = "clusters.openmcp.cloud/provider";
/// On AccessRequests: the Cluster's profile.
pub const PROFILE: &str = "clusters.openmcp.cloud/profile";
/// On Clusters: the version in effect, for display.
pub const K8S_VERSION: &str = "clusters.openmcp.cloud/k8sversion";
/// On Clusters: `"true"` lets the scheduler delete it with its last request.
pub const DELETE_WITHOUT_REQUESTS: &str = "clusters.openmcp.cloud/delete-without-requests";
/// On ClusterRequests: `"true"` gives the Cluster a random name.
pub const RANDOMIZE_CLUSTER_NAME: &str = "clusters.openmcp.cloud/randomize-cluster-name";

/// On a provider's pods, where their spread is constrained: `sp-<name>` and the namespace.
pub const TOPOLOGY: &str = "openmcp.cloud/topology";
pub const TOPOLOGY_NAMESPACE: &str = "openmcp.cloud/topology-ns";

/// On PlatformServices of the operator's own.
pub const PLATFORM_SERVICE_PURPOSE: &str = "platformservice.openmcp.cloud/purpose";

/// On the Jobs, Deployments and their pods of providers.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const APP_NAME: &str = "app.kubernetes.io/name";
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";

/// On what a service provider made with our runtime: whose object it is.
pub const RUNTIME_OWNER: &str = "runtime.openmcp.cloud/owner";
/// On what a service provider made with our runtime: which provider made it.
pub const RUNTIME_PROVIDER: &str = "runtime.openmcp.cloud/provider";
/// On a receipt, a copy of an Inventory: the policy by which its objects were given up.
pub const RUNTIME_RECEIPT: &str = "runtime.openmcp.cloud/receipt";

/// The value that switches a label on.
pub const TRUE: &str = "true";
