//! The names, labels and annotations that only this provider uses, in one place.

/// Field manager, Event reporter and user agent.
pub(crate) const MANAGER: &str = "cluster-provider-hosted";
/// Metric label of the controller of Clusters.
pub(crate) const CLUSTER_CONTROLLER: &str = "hosted-cluster";
/// Metric label of the controller of AccessRequests.
pub(crate) const ACCESS_CONTROLLER: &str = "hosted-access";

/// The profile whose Clusters are hosted control planes.
pub(crate) const PROFILE_HOSTED: &str = "hosted";
/// The profile whose Clusters are the platform cluster itself.
pub(crate) const PROFILE_HOST: &str = "host";
/// The Kubernetes version of hosted control planes.
pub(crate) const KUBERNETES_VERSION: &str = "1.36.3";

/// Who manages an object (contract §11.1).
pub(crate) const LABEL_MANAGED_BY: &str = "openmcp.cloud/managed-by";
/// On what is made on the platform for a Cluster: the Cluster's UID. It is the owner mark.
pub(crate) const LABEL_CLUSTER: &str = "hosted.clusters.openmcp.cloud/cluster-uid";
/// On the same objects: the Cluster's name, which may be too long for a label.
pub(crate) const ANNOTATION_CLUSTER: &str = "hosted.clusters.openmcp.cloud/cluster";
/// On the pod template: changes when the pods must be started anew to see other certificates.
pub(crate) const ANNOTATION_CREDENTIALS: &str = "hosted.clusters.openmcp.cloud/credentials";
/// On what is made for an AccessRequest, on the target and on the platform: its UID. It is the owner mark.
pub(crate) const LABEL_ACCESS_REQUEST: &str = "hosted.clusters.openmcp.cloud/access-request-uid";
/// On the same objects: namespace and name of the AccessRequest.
pub(crate) const ANNOTATION_ACCESS_REQUEST: &str = "hosted.clusters.openmcp.cloud/access-request";
/// On a kubeconfig Secret: the UID of the ServiceAccount that its token belongs to.
pub(crate) const ANNOTATION_ACCOUNT: &str = "hosted.clusters.openmcp.cloud/service-account-uid";

/// Written by the engine beside the marks above: the hash of what was applied last.
pub(crate) const ANNOTATION_APPLIED: &str = "hosted.clusters.openmcp.cloud/applied";

/// Where ServiceAccounts are made on target clusters.
pub(crate) const TARGET_NAMESPACE: &str = "openmcp-system";
/// Port of a hosted API server.
pub(crate) const API_SERVER_PORT: u16 = 6443;
/// Port of a hosted controller-manager.
pub(crate) const CONTROLLER_MANAGER_PORT: u16 = 10257;
