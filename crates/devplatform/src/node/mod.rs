//! The process node: a small node agent that runs a pod's containers as sandboxed local processes.
//!
//! It is a process of its own (`openmcp node`), a client of the API server like a kubelet, and knows nothing of how
//! the platform around it is started. Its rooms, in the order in which a pod walks through them:
//!
//! - [`pod`]: watches the pods of this node; one worker a pod, from binding to the final DELETE, and its status;
//! - [`content`]: what a pod gets to see – environment and volumes, from Secrets, ConfigMaps, tokens and itself;
//! - [`container`]: one container's life – start, probes, logs, exit, back-off, restart;
//! - [`sandbox`]: one process – the bubblewrap command line and the thread that spawns it.
//!
//! Beside them: [`registration`] (the Node and its lease), [`objects`] (shared watches by name), [`images`],
//! [`addresses`], [`folders`], [`events`] and [`server`] (`kubectl logs`).
mod addresses;
mod container;
mod content;
mod events;
mod folders;
mod images;
mod objects;
mod pod;
mod registration;
mod sandbox;
mod server;

pub(crate) use folders::forget_memory;

use crate::process::Ledger;
use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

/// Everything the node writes carries this field manager.
const MANAGER: &str = "process-node";

/// Every single call to the API server ends after this time; watches have their own limits.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

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
    /// The map image → binary, read again for every start of a container.
    pub(crate) images: PathBuf,
    /// Becomes /etc/hosts in the sandbox; the machine's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hosts_file: Option<PathBuf>,
    /// `https://127.X.0.1:6443`, what pods get as KUBERNETES_SERVICE_HOST and _PORT.
    pub(crate) api_server: String,
    /// The longest wait between two starts of a crashing container, in seconds; the kubelet's 300 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_restart_backoff_seconds: Option<u32>,
}

/// What every part of the node shares.
struct Node {
    config: NodeConfig,
    client: Client,
    folders: folders::Folders,
    images: images::Images,
    objects: objects::Objects,
    addresses: addresses::Addresses,
    launcher: sandbox::Launcher,
    host: sandbox::HostLayout,
    events: events::Events,
    registry: pod::Registry,
    processes: Processes,
}

/// The record of every process the node has started: `<stateDir>/processes.json`.
struct Processes(Mutex<Ledger>);

impl Processes {
    fn record(&self, name: &str, process: crate::process::Process) {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = ledger.record(name, process) {
            tracing::error!(%error, name, "cannot record a process");
        }
    }

    fn forget(&self, name: &str) {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = ledger.forget(name) {
            tracing::error!(%error, name, "cannot strike out a process");
        }
    }
}

/// Runs the node until SIGTERM, which ends its pods.
pub(crate) fn run(config: NodeConfig) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_runtime::watcher=error")),
        )
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    // Another library may have installed the same provider before: either is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the node's runtime")?
        .block_on(serve(config))
}

async fn serve(config: NodeConfig) -> anyhow::Result<()> {
    let node = Arc::new(Node::open(config).await?);
    let listener = server::bind(&node).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut pods = tokio::spawn(pod::run(node.clone(), stopped));
    tokio::spawn(server::run(node.clone(), listener));
    tokio::spawn(registration::run(node.clone()));
    tracing::info!(node = node.config.node_name, "the process node runs");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut pods => return ended.context("the pod watch ended"),
    }
    tracing::info!("ending all pods");
    stop.send_replace(true);
    pods.await.context("the pods did not end")?;
    forget_memory(&node.config.state_dir);
    Ok(())
}

impl Node {
    async fn open(config: NodeConfig) -> anyhow::Result<Self> {
        let folders = folders::Folders::open(&config.state_dir)
            .with_context(|| format!("cannot use the node's folder {}", config.state_dir.display()))?;
        let processes = end_leftovers(&config.state_dir.join("processes.json"))?;
        let client = client(&config).await?;
        Ok(Self {
            folders,
            images: images::Images::new(config.images.clone()),
            objects: objects::Objects::new(client.clone()),
            addresses: addresses::Addresses::parse(&config.pod_cidr)?,
            launcher: sandbox::Launcher::start()?,
            host: sandbox::HostLayout::of_this_machine(),
            events: events::Events::new(client.clone(), &config.node_name),
            registry: pod::Registry::default(),
            processes,
            client,
            config,
        })
    }
}

/// Ends what an earlier node left behind. Its containers die with it, so this normally finds nothing.
fn end_leftovers(path: &std::path::Path) -> anyhow::Result<Processes> {
    let mut ledger = Ledger::open(path)?;
    let names = ledger.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ledger.end(&names, Duration::from_secs(1))?;
    Ok(Processes(Mutex::new(ledger)))
}

async fn client(config: &NodeConfig) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&config.kubeconfig)
        .with_context(|| format!("cannot read {}", config.kubeconfig.display()))?;
    let client_config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("{} is not usable", config.kubeconfig.display()))?;
    Client::try_from(client_config).context("cannot make a client of the node's kubeconfig")
}

/// A call to the API server that did not succeed.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Refused(#[from] kube::Error),
    #[error("the API server did not answer within {} s", CALL_DEADLINE.as_secs())]
    Silent,
}

impl CallError {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if status.is_not_found())
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if status.is_conflict())
    }
}

/// Gives one call its deadline.
async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Silent),
    }
}
