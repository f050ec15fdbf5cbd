//! The kinds that the suites use, by group, version and plural.
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};

/// A kind by its wire names.
pub fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $group:literal, $version:literal, $kind:literal, $plural:literal;)*) => {
        $($(#[$doc])* pub fn $name() -> ApiResource { resource($group, $version, $kind, $plural) })*
    };
}

kinds! {
    /// ServiceProvider (platform).
    service_provider = "openmcp.cloud", "v1alpha1", "ServiceProvider", "serviceproviders";
    /// ClusterProvider (platform).
    cluster_provider = "openmcp.cloud", "v1alpha1", "ClusterProvider", "clusterproviders";
    /// PlatformService (platform).
    platform_service = "openmcp.cloud", "v1alpha1", "PlatformService", "platformservices";
    /// Cluster (platform).
    cluster = "clusters.openmcp.cloud", "v1alpha1", "Cluster", "clusters";
    /// ClusterRequest (platform).
    cluster_request = "clusters.openmcp.cloud", "v1alpha1", "ClusterRequest", "clusterrequests";
    /// AccessRequest (platform).
    access_request = "clusters.openmcp.cloud", "v1alpha1", "AccessRequest", "accessrequests";
    /// Inventory (platform).
    inventory = "runtime.openmcp.cloud", "v1alpha1", "Inventory", "inventories";
    /// ControlPlane (onboarding).
    control_plane = "core.open-control-plane.io", "v2alpha1", "ControlPlane", "controlplanes";
    /// Kro (onboarding), the ServiceAPI of examples/kro.
    kro = "kro.services.open-control-plane.io", "v1alpha1", "Kro", "kros";
    /// ProviderConfig of examples/kro (platform).
    kro_config = "kro.services.open-control-plane.io", "v1alpha1", "ProviderConfig", "providerconfigs";
    /// ResourceGraphDefinition (MCP), kro's own.
    resource_graph_definition = "kro.run", "v1alpha1", "ResourceGraphDefinition", "resourcegraphdefinitions";
    /// ResourceQuota.
    resource_quota = "", "v1", "ResourceQuota", "resourcequotas";
    /// ValidatingAdmissionPolicy.
    admission_policy = "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies";
    /// ValidatingAdmissionPolicyBinding.
    admission_binding = "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings";
    /// Namespace.
    namespace = "", "v1", "Namespace", "namespaces";
    /// Secret.
    secret = "", "v1", "Secret", "secrets";
    /// ConfigMap.
    config_map = "", "v1", "ConfigMap", "configmaps";
    /// ServiceAccount.
    service_account = "", "v1", "ServiceAccount", "serviceaccounts";
    /// Pod.
    pod = "", "v1", "Pod", "pods";
    /// Event, as kubectl shows it.
    event = "", "v1", "Event", "events";
    /// Deployment.
    deployment = "apps", "v1", "Deployment", "deployments";
    /// Job.
    job = "batch", "v1", "Job", "jobs";
    /// Lease.
    lease = "coordination.k8s.io", "v1", "Lease", "leases";
    /// ClusterRole.
    cluster_role = "rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles";
    /// CustomResourceDefinition.
    crd = "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions";
}

/// The objects of a kind: in one namespace, or cluster-wide when `namespace` is empty.
pub fn api(client: &Client, kind: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), kind)
    } else {
        Api::namespaced_with(client.clone(), namespace, kind)
    }
}
