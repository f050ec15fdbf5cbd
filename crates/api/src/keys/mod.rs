//! Every string that implementations agree on: labels, annotations, finalizers, keys of credential Secrets, environment
//! variables (contract §11.1–11.2, §2.2, §3). Nothing else in the workspace may spell one out.
pub mod annotations;
pub mod finalizers;
pub mod labels;

/// The API groups.
pub mod groups {
    pub const OPENMCP: &str = "openmcp.cloud";
    pub const CLUSTERS: &str = "clusters.openmcp.cloud";
    pub const CORE: &str = "core.open-control-plane.io";
    pub const RUNTIME: &str = "runtime.openmcp.cloud";
    /// What the group of a provider-owned API ends in: `<kind>.services.open-control-plane.io`.
    pub const SERVICES_SUFFIX: &str = "services.open-control-plane.io";
}

/// Keys of the Secret that a granted AccessRequest refers to. A reader may rely on [`KUBECONFIG`](secrets::KUBECONFIG) only.
pub mod secrets {
    pub const KUBECONFIG: &str = "kubeconfig";
    /// When the credentials expire, in unix seconds.
    pub const EXPIRATION_TIMESTAMP: &str = "expirationTimestamp";
    /// When the credentials were issued, in unix seconds.
    pub const CREATION_TIMESTAMP: &str = "creationTimestamp";
    pub const CLIENT_ID: &str = "clientID";
    pub const HOST: &str = "host";
    pub const CA: &str = "ca.crt";
    pub const TOKEN: &str = "token";
}

/// The Secret of a generated value, beside an Inventory.
pub mod generated {
    /// Its type.
    pub const TYPE: &str = "runtime.openmcp.cloud/generated";
    /// Its key.
    pub const VALUE: &str = "value";
}

/// Environment variables that the operator sets in a provider's containers. `spec.env` may not name one of them.
pub mod env {
    pub const POD_NAME: &str = "POD_NAME";
    pub const POD_NAMESPACE: &str = "POD_NAMESPACE";
    pub const POD_IP: &str = "POD_IP";
    pub const POD_SERVICE_ACCOUNT_NAME: &str = "POD_SERVICE_ACCOUNT_NAME";
    /// All of them.
    pub const RESERVED: [&str; 4] = [POD_NAME, POD_NAMESPACE, POD_IP, POD_SERVICE_ACCOUNT_NAME];
}
