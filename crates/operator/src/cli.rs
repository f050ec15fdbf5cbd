//! The command line: what the operator's pods are started with (contract §3, §11.7).
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Installs providers, schedules clusters, grants access and runs ControlPlanes.
#[derive(Debug, Parser)]
#[command(name = "openmcp-operator", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install the platform's CRDs on the cluster that runs this pod, and wait until they are served.
    Init(Common),
    /// Run the controllers until the process is told to stop.
    Run(Run),
}

/// Flags that both parts take.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Name of this openMCP environment; handed on to every provider.
    #[arg(long)]
    pub environment: String,
    /// How much is logged.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Verbosity::Info)]
    pub verbosity: Verbosity,
    /// The configuration file (scheduler, access requests, ControlPlanes). `run` needs one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Namespace of this pod: providers are installed beside it, static requests are made in it.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: String,
    /// Name of this pod, for logs and the lease.
    #[arg(long, env = "POD_NAME", default_value = "openmcp-operator", hide = true)]
    pub pod_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub common: Common,
    /// Work only while holding the lease, so that several replicas can run.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Where /livez, /readyz and /metrics are served; `0` serves nothing. An empty host binds $POD_IP.
    #[arg(long, default_value = ":8080", value_name = "HOST:PORT")]
    pub metrics_bind_address: String,
    /// Kept for compatibility: metrics are served in plain text on the pod's own address.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    pub metrics_secure: Option<bool>,
}

/// Log levels, by the names of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verbosity {
    Debug,
    Info,
    Error,
}

impl Verbosity {
    /// The filter directive for our own crates; libraries stay at warnings.
    pub(crate) fn filter(self) -> &'static str {
        match self {
            Self::Debug => "info,openmcp_operator=debug,openmcp_reconcile=debug",
            Self::Info => "warn,openmcp_operator=info,openmcp_reconcile=info",
            Self::Error => "error",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_flags_are_accepted() {
        let cli = Cli::try_parse_from([
            "openmcp-operator",
            "run",
            "--environment=dev",
            "--verbosity=DEBUG",
            "--namespace=openmcp-system",
            "--config=/etc/c.yaml",
            "--leader-elect=true",
            "--metrics-bind-address=:8081",
            "--metrics-secure=false",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else {
            unreachable!()
        };
        assert!(run.leader_elect);
        assert_eq!(run.common.verbosity, Verbosity::Debug);
        assert_eq!(run.metrics_bind_address, ":8081");
    }

    #[test]
    fn a_bare_leader_elect_means_true() {
        let cli = Cli::try_parse_from(["o", "run", "--environment=dev", "--namespace=n", "--leader-elect"])
            .unwrap();
        assert!(matches!(
            cli.command,
            Command::Run(Run {
                leader_elect: true,
                ..
            })
        ));
    }
}
