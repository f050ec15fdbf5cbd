//! Kubernetes as processes: which there are, how each is started, when it is ready.
//!
//! Knows the flags of Kubernetes and etcd; knows nothing of openMCP.
mod command;
mod ready;

pub(crate) use ready::{Died, answers, node_is_ready};

use crate::{
    assets::{Assets, Tool},
    kubeconfig,
    node::NodeConfig,
    pki::{Keys, Pki},
    process::{Ledger, reap},
    state::{
        Platform,
        block::{
            API_SERVER_PORT, CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, KUBELET_PORT,
            SCHEDULER_PORT, is_free,
        },
        private_folder, write_private,
    },
};
use anyhow::{Context, bail};
use std::{fs, net::SocketAddrV4, time::Duration};
use time::OffsetDateTime;

/// The Node object's name.
pub(crate) const NODE_NAME: &str = "local";

/// How long a process may take to end by itself. The node ends its pods meanwhile.
const NODE_GRACE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(2);

/// One process of the control plane, in the order in which they depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Etcd,
    HostedEtcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Node,
}

impl Component {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Etcd,
        Self::HostedEtcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Node,
    ];

    /// The name in the ledger and of the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::HostedEtcd => "hosted-etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Node => "node",
        }
    }

    /// Where it listens; the first address is the one that clients use.
    pub(crate) fn addresses(self, platform: &Platform) -> Vec<SocketAddrV4> {
        let host = platform.block.host();
        let at = |port| SocketAddrV4::new(host, port);
        match self {
            Self::Etcd => vec![at(ETCD_PORT), at(ETCD_PEER_PORT)],
            Self::HostedEtcd => [ETCD_PORT, ETCD_PEER_PORT]
                .map(|port| SocketAddrV4::new(platform.block.hosted_etcd(), port))
                .to_vec(),
            Self::ApiServer => vec![at(API_SERVER_PORT)],
            Self::ControllerManager => vec![at(CONTROLLER_MANAGER_PORT)],
            Self::Scheduler => vec![at(SCHEDULER_PORT)],
            Self::Node => vec![at(KUBELET_PORT)],
        }
    }
}

/// A platform's control plane: what is recorded of it, and what it takes to start what is missing.
pub(crate) struct ControlPlane<'a> {
    platform: &'a Platform,
    assets: &'a Assets,
    pki: Pki,
    ledger: Ledger,
    further: Vec<(Component, String)>,
}

impl<'a> ControlPlane<'a> {
    /// Reads what is recorded. The caller holds the platform's lock.
    pub(crate) fn open(platform: &'a Platform, assets: &'a Assets) -> anyhow::Result<Self> {
        let pki = Pki::new(platform.path("pki"));
        Ok(Self {
            platform,
            assets,
            pki,
            ledger: Ledger::open(platform.ledger_path())?,
            further: Vec::new(),
        })
    }

    /// Starts a component with further flags.
    pub(crate) fn with_flags(
        mut self,
        component: Component,
        flags: impl IntoIterator<Item = String>,
    ) -> Self {
        self.further
            .extend(flags.into_iter().map(|flag| (component, flag)));
        self
    }

    /// The platform's keys and certificates.
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Folders, keys, kubeconfigs and the node's configuration, and whether what must be started can listen.
    pub(crate) fn prepare(&mut self) -> anyhow::Result<()> {
        for folder in ["logs", "kubeconfigs", "node"] {
            private_folder(&self.platform.path(folder))?;
        }
        let keys = self
            .pki
            .ensure(self.platform.block, NODE_NAME, OffsetDateTime::now_utc())?;
        if keys == Keys::Renewed {
            // What runs was started with keys that are gone.
            end_all(self.platform, &mut self.ledger)?;
        }
        for component in Component::ALL {
            if self.ledger.running(component.name()).is_none() {
                self.ledger.settle(component.name())?;
                self.check_ports(component)?;
            }
        }
        self.write_kubeconfigs()?;
        self.write_node_config()
    }

    fn check_ports(&self, component: Component) -> anyhow::Result<()> {
        match component
            .addresses(self.platform)
            .into_iter()
            .find(|address| !is_free(*address))
        {
            None => Ok(()),
            Some(address) => bail!(
                "{address} is in use by another program, so {} of the platform {:?} cannot listen there: \
                 `ss -ltnp 'sport = :{}'` shows which; end it, or start a platform of another --name",
                component.name(),
                self.platform.name,
                address.port()
            ),
        }
    }

    fn write_kubeconfigs(&self) -> anyhow::Result<()> {
        let server = self.platform.block.api_server_url();
        let cluster = format!("openmcp-{}", self.platform.name);
        for identity in [
            "admin",
            "platform-owner",
            "kube-controller-manager",
            "kube-scheduler",
            "node",
        ] {
            let kubeconfig = kubeconfig::build(&cluster, &server, &self.pki.ca(), &self.pki, identity)?;
            kubeconfig::write(&self.platform.kubeconfig_path(identity), &kubeconfig)?;
        }
        Ok(())
    }

    fn write_node_config(&self) -> anyhow::Result<()> {
        let config = NodeConfig {
            node_name: NODE_NAME.to_owned(),
            kubeconfig: self.platform.kubeconfig_path("node"),
            pod_cidr: self.platform.block.pods(),
            address: self.platform.block.host(),
            kubelet_port: KUBELET_PORT,
            serving_cert: self.pki.cert("node-serving"),
            serving_key: self.pki.key("node-serving"),
            client_ca: self.pki.kubelet_client_ca(),
            state_dir: self.platform.path("node"),
            images: self.platform.path("images.json"),
            hosts_file: None,
            // A program under development crashes often; five minutes are for data centres.
            max_restart_backoff_seconds: Some(5),
            api_server: self.platform.block.api_server_url(),
        };
        write_private(
            &self.platform.path("node.json"),
            &serde_json::to_vec_pretty(&config)?,
        )
    }

    /// Starts a component if it does not run. True when it was started now.
    pub(crate) fn start(&mut self, component: Component) -> anyhow::Result<bool> {
        if self.ledger.running(component.name()).is_some() {
            return Ok(false);
        }
        self.ledger.settle(component.name())?;
        if component == Component::Node {
            end_pods(self.platform)?;
        }
        let log = self.platform.log_path(component.name());
        let output = fs::File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command(component)?;
        command
            .current_dir(&self.platform.folder)
            .stdout(output.try_clone()?)
            .stderr(output);
        reap(self.ledger.start(component.name(), command)?);
        Ok(true)
    }

    /// Ends a component that runs.
    pub(crate) fn stop(&mut self, component: Component) -> anyhow::Result<()> {
        Ok(self.ledger.end(&[component.name()], GRACE)?)
    }

    /// The processes that were started.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The program of a tool that [`Assets::ensure`] has made sure of.
    fn program(&self, tool: Tool) -> anyhow::Result<std::path::PathBuf> {
        self.assets
            .find(tool)
            .with_context(|| format!("the program {} is gone", tool.binary()))
    }
}

/// Ends what is recorded of a platform: the node first, which ends its pods, then everything else at once.
pub(crate) fn end_all(platform: &Platform, ledger: &mut Ledger) -> anyhow::Result<()> {
    ledger.end(&[Component::Node.name()], NODE_GRACE)?;
    end_pods(platform)?;
    let names = ledger.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ledger.end(&names, GRACE)?;
    Ok(())
}

/// Ends the processes of pods that a killed node left.
fn end_pods(platform: &Platform) -> anyhow::Result<()> {
    let mut pods = Ledger::open(platform.path("node/processes.json"))?;
    let names = pods.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pods.end(&names, GRACE)?;
    Ok(())
}
