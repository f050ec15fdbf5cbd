//! What both controllers share: the platform's client, its watches' stores, the configuration and the Events.
use crate::{cli::Hosting, etcd::Access};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Secret},
    },
};
use kube::Client;
use openmcp_api::{AccessRequest, Cluster};
use openmcp_reconcile::{events::Recorder, watch::Store};
use std::collections::BTreeMap;

/// Shared by both controllers.
pub(crate) struct Context {
    pub(crate) client: Client,
    /// Name of the ClusterProvider object.
    pub(crate) provider: String,
    /// This provider's own namespace.
    pub(crate) namespace: String,
    pub(crate) hosting: Hosting,
    /// How the platform's own API server is reached: the endpoint of profile `host`.
    pub(crate) host: HostEndpoint,
    pub(crate) recorder: Recorder,
    pub(crate) stores: Stores,
}

/// What the platform's watches have seen last. A store may only tell that nothing is to be done; before anything that
/// must not happen twice is made, the API server is asked.
pub(crate) struct Stores {
    pub(crate) clusters: Store<Cluster>,
    pub(crate) access_requests: Store<AccessRequest>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) pods: Store<Pod>,
    pub(crate) control_plane_secrets: Store<Secret>,
    pub(crate) access_secrets: Store<Secret>,
    pub(crate) etcd_secret: Store<Secret>,
}

impl Stores {
    /// Waits until every store has its first complete list.
    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.clusters.synced(),
            self.access_requests.synced(),
            self.deployments.synced(),
            self.pods.synced(),
            self.control_plane_secrets.synced(),
            self.access_secrets.synced(),
            self.etcd_secret.synced(),
        );
    }
}

/// URL and CA (PEM) of an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostEndpoint {
    pub(crate) server: String,
    pub(crate) ca: String,
}

impl Context {
    /// The access to the etcd of hosted control planes, or what is missing.
    pub(crate) fn etcd_access(&self) -> Result<Access, String> {
        let name = &self.hosting.etcd_secret;
        let missing = |what: &str| format!("Secret {}/{name} with the etcd access {what}", self.namespace);
        let secret = self
            .stores
            .etcd_secret
            .get(&self.namespace, name)
            .ok_or_else(|| missing("does not exist"))?;
        let files = texts(&secret);
        let file = |key: &str| {
            files
                .get(key)
                .cloned()
                .ok_or_else(|| missing(&format!("has no key `{key}`")))
        };
        Ok(Access {
            endpoints: file("endpoints")?,
            ca: file("ca.crt")?,
            certificate: file("tls.crt")?,
            key: file("tls.key")?,
        })
    }
}

/// The Secret's values that are text.
pub(crate) fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let text = |(key, ByteString(bytes)): (&String, &ByteString)| {
        String::from_utf8(bytes.clone())
            .ok()
            .map(|text| (key.clone(), text))
    };
    secret.data.iter().flatten().filter_map(text).collect()
}
