//! `openmcp dev`: a local platform of real processes on loopback. One file a subcommand.
mod down;
mod logs;
mod status;
mod up;

pub(crate) use down::down;
pub(crate) use up::{Options, abandon, say_where_kubectl_is, up};

use crate::{
    images::parse_image,
    node::NodeConfig,
    openmcp,
    state::{Home, Platform, parse_name},
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// What `openmcp dev --help` ends with.
const ENVIRONMENT: &str = "\
A day with it:
  openmcp dev up                                    start; the first time it builds Kubernetes
  export KUBECONFIG=$(openmcp dev kubeconfig)       be the platform owner
  kubectl get pods -A                               each pod is a process: openmcp dev status
  openmcp dev logs -f openmcp-operator              what a pod says
  openmcp dev up                                    after a rebuild, or after something was killed
  openmcp dev down                                  nothing is left but the built programs

Environment:
  OPENMCP_HOME        platforms, one folder each     [~/.local/state/openmcp]
  OPENMCP_CACHE       built programs                 [~/.cache/openmcp]
  OPENMCP_ASSETS      a folder with etcd, kube-apiserver, … to use instead of building them
  KUBEBUILDER_ASSETS  the same, used where its Kubernetes is of the same minor version
  OPENMCP_ASSETS_URL  a web folder with release archives and SHA256SUMS";

/// Start, look at and stop a local platform: etcd, Kubernetes and openMCP as real processes on loopback.
///
/// No container engine and no root: pods run as sandboxed processes (bubblewrap). It is for development: there are
/// no ClusterIPs, no DNS and no `kubectl exec`, and it survives the death of its processes, not of the machine.
#[derive(Subcommand)]
#[command(after_help = ENVIRONMENT)]
pub(crate) enum Dev {
    /// Start the platform, or what is missing of it.
    ///
    /// The first start builds Kubernetes and etcd from their Go modules (about 10 minutes on two cores; set
    /// OPENMCP_ASSETS to a folder with the programs to skip it). A later start takes seconds. What runs already is
    /// kept; what was killed is started again with its data.
    Up(Up),
    /// Show the platform's processes, its node, its pods and openMCP. Fails when something is missing.
    Status(Named),
    /// End the platform's processes and pods, and remove its state: nothing is left but built programs.
    Down(Named),
    /// Show what a process or a pod has written; without a name, what there is.
    Logs(Logs),
    /// Print the path of a kubeconfig: `export KUBECONFIG=$(openmcp dev kubeconfig)`.
    Kubeconfig(Kubeconfig),
}

/// Which platform.
#[derive(Args)]
pub(crate) struct Named {
    /// The platform's name; platforms of different names run side by side.
    #[arg(long, default_value = "dev", value_parser = parse_name)]
    name: String,
}

#[derive(Args)]
pub(crate) struct Up {
    #[command(flatten)]
    named: Named,
    /// Stop at a Kubernetes with a node: do not install openMCP.
    #[arg(long)]
    kubernetes_only: bool,
    /// Let pods with this image run this binary. May be repeated.
    #[arg(long = "image", value_name = "NAME=PATH", value_parser = parse_image)]
    images: Vec<(String, PathBuf)>,
    /// Also make sure of kro, the operator that the example provider offers (about 5 minutes more, once).
    #[arg(long)]
    with_kro: bool,
}

#[derive(Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    named: Named,
    /// A process (`kube-apiserver`), or a pod (`NAMESPACE/NAME`, or the beginning of a name).
    target: Option<String>,
    /// Go on showing what is written.
    #[arg(short, long)]
    follow: bool,
}

#[derive(Args)]
pub(crate) struct Kubeconfig {
    #[command(flatten)]
    named: Named,
    /// Of which cluster, as its platform owner.
    #[arg(value_enum, default_value_t = Cluster::Platform)]
    cluster: Cluster,
    /// Print the content instead of the path.
    #[arg(long)]
    raw: bool,
}

/// The clusters that a platform owner works with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cluster {
    /// Where the operator and the providers run.
    Platform,
    /// Where tenants order.
    Onboarding,
}

/// Runs one `dev` subcommand.
pub(crate) fn run(command: Dev) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        match command {
            Dev::Up(arguments) => interruptible(&home, arguments).await,
            Dev::Status(named) => status::status(&Platform::require(&home, &named.name)?).await,
            Dev::Down(named) => down::down(&home, &named.name).await,
            Dev::Logs(logs) => {
                let platform = Platform::require(&home, &logs.named.name)?;
                logs::logs(&platform, logs.target.as_deref(), logs.follow).await
            }
            Dev::Kubeconfig(wanted) => kubeconfig(&home, &wanted).await,
        }
    });
    // After an interruption a thread may still wait for a lock or a build.
    runtime.shutdown_background();
    result
}

/// `up`, until it is done or told to stop. Everything that it starts is recorded, so nothing needs to be undone.
async fn interruptible(home: &Home, arguments: Up) -> anyhow::Result<()> {
    let options = Options {
        name: arguments.named.name,
        kubernetes_only: arguments.kubernetes_only,
        images: arguments.images,
        with_kro: arguments.with_kro,
    };
    tokio::select! {
        result = up(home, &options) => {
            let platform = result?;
            up::say_how_to_go_on(home, &platform, &options);
            Ok(())
        }
        signal = interruption() => {
            signal?;
            up::abandon(home);
            bail!("interrupted: `openmcp dev up` goes on from here, `openmcp dev down` ends what has been started")
        }
    }
}

/// Ctrl-C, a closed terminal, or a supervisor's SIGTERM.
pub(crate) async fn interruption() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

async fn kubeconfig(home: &Home, wanted: &Kubeconfig) -> anyhow::Result<()> {
    let platform = Platform::require(home, &wanted.named.name)?;
    let path = match wanted.cluster {
        Cluster::Platform => platform.kubeconfig_path("platform-owner"),
        Cluster::Onboarding => openmcp::onboarding_kubeconfig(&platform).await?,
    };
    if wanted.raw {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        write!(io::stdout(), "{text}")?;
    } else {
        writeln!(io::stdout(), "{}", path.display())?;
    }
    Ok(())
}

/// Reads `<state>/node.json`.
pub(crate) fn node_config(state: &Path) -> anyhow::Result<NodeConfig> {
    let path = state.join("node.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a node configuration", path.display()))
}
