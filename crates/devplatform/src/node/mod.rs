//! The process node: a small node agent that runs a pod's containers as sandboxed local processes.
//!
//! It is a process of its own (`openmcp node`), a client of the API server like a kubelet, and knows nothing of how
//! the platform around it is started.
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, path::PathBuf};

/// What a node needs to know: `<state>/node.json`, written by `openmcp dev up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeConfig {
    /// The Node object's name; the client certificate says `system:node:<name>`.
    pub(crate) node_name: String,
    /// The node's own identity.
    pub(crate) kubeconfig: PathBuf,
    /// Loopback addresses that pods get, one each: `127.X.16.0/20`.
    pub(crate) pod_cidr: String,
    /// The Node's InternalIP.
    pub(crate) address: Ipv4Addr,
    /// Where the API server asks for logs.
    pub(crate) kubelet_port: u16,
    pub(crate) serving_cert: PathBuf,
    pub(crate) serving_key: PathBuf,
    /// Issues the API server's kubelet client certificate and nothing else: who bears one may ask the node.
    pub(crate) client_ca: PathBuf,
    /// The node's own records: pods, volumes, logs, `processes.json`.
    pub(crate) state_dir: PathBuf,
    /// The map image → binary, read again for every pod.
    pub(crate) images: PathBuf,
    /// Becomes /etc/hosts in the sandbox; the machine's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hosts_file: Option<PathBuf>,
    /// `https://127.X.0.1:6443`, what pods get as KUBERNETES_SERVICE_HOST and _PORT.
    pub(crate) api_server: String,
}

/// Runs the node until SIGTERM, which ends its pods.
pub(crate) fn run(config: NodeConfig) -> anyhow::Result<()> {
    anyhow::bail!("the process node {} is not built yet", config.node_name)
}
