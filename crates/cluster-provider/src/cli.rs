//! The command line and the environment (contract §3). Knows nothing of what is done with them.
use crate::cluster::address::Range;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// A ClusterProvider whose Clusters are hosted control planes.
#[derive(Debug, Parser)]
#[command(name = "cluster-provider-hosted", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    pub(crate) fn common(&self) -> &Common {
        match &self.command {
            Command::Init(common) => common,
            Command::Run(run) => &run.common,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish the ClusterProfiles `hosted` and `host`.
    Init(Common),
    /// Serve the Clusters and AccessRequests of these profiles.
    Run(Run),
}

/// What every provider is told.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The installation that this provider belongs to.
    #[arg(long)]
    pub(crate) environment: String,
    /// How much is logged.
    #[arg(long, value_enum, ignore_case = true, default_value = "info")]
    pub(crate) verbosity: Verbosity,
    /// Name of the ClusterProvider object.
    #[arg(long)]
    pub(crate) provider_name: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Verbosity {
    Debug,
    Info,
    Error,
}

impl Verbosity {
    /// The level of everything.
    pub(crate) fn level(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Work only while holding the provider's lease, so that never two processes write: also during a rolling update.
    /// Unset, this is so in a pod (where POD_NAME is set).
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leader_elect: Option<bool>,
    /// Where /metrics, /livez and /readyz are served, such as `:8080`. Not served without it.
    #[arg(long)]
    pub(crate) metrics_bind_address: Option<String>,
    /// Only `false` is served: metrics are plain HTTP.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) metrics_secure: bool,
    /// Namespace of this provider; the Secret with the etcd access is looked up here.
    #[arg(long, env = "POD_NAMESPACE", hide = true)]
    pub(crate) pod_namespace: String,
    /// Who this replica is among several.
    #[arg(long, env = "POD_NAME", hide = true, required_if_eq("leader_elect", "true"))]
    pub(crate) pod_name: Option<String>,
    #[arg(long, env = "POD_IP", hide = true)]
    pub(crate) pod_ip: Option<String>,
    #[command(flatten)]
    pub(crate) hosting: Hosting,
}

impl Run {
    /// As whom the lease is asked for, if it is: a Deployment of one replica, too, has two pods while it is rolled.
    pub(crate) fn identity(&self) -> Option<&str> {
        match self.leader_elect {
            Some(false) => None,
            _ => self.pod_name.as_deref(),
        }
    }
}

/// How hosted control planes are run: `spec.env` of the ClusterProvider.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hosting {
    /// Secret with `endpoints`, `ca.crt`, `tls.crt` and `tls.key` of the etcd for hosted control planes.
    #[arg(long, env = "HOSTED_ETCD_SECRET", default_value = "hosted-etcd")]
    pub(crate) etcd_secret: String,
    /// Loopback addresses that hosted API servers may use, such as 127.100.128.0/17.
    #[arg(long, env = "HOSTED_ADDRESS_RANGE")]
    pub(crate) address_range: Range,
    /// Image whose entrypoint is kube-apiserver.
    #[arg(
        long,
        env = "HOSTED_APISERVER_IMAGE",
        default_value = "openmcp/kube-apiserver:v1.36.3"
    )]
    pub(crate) apiserver_image: String,
    /// Image whose entrypoint is kube-controller-manager.
    #[arg(
        long,
        env = "HOSTED_CONTROLLER_MANAGER_IMAGE",
        default_value = "openmcp/kube-controller-manager:v1.36.3"
    )]
    pub(crate) controller_manager_image: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_operators_arguments_are_understood() {
        let cli = Cli::try_parse_from([
            "x",
            "run",
            "--environment=dev",
            "--verbosity=INFO",
            "--provider-name=hosted",
            "--leader-elect=true",
            "--metrics-bind-address=:8080",
            "--metrics-secure=false",
            "--pod-namespace=openmcp-system",
            "--pod-name=cp-hosted-1",
            "--address-range=127.100.128.0/17",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else {
            unreachable!()
        };
        assert!(run.identity() == Some("cp-hosted-1") && !run.metrics_secure);
    }

    #[test]
    fn in_a_pod_it_works_under_its_lease_unless_it_is_told_not_to() {
        let run = |flags: &[&str]| {
            let all = [
                "x",
                "run",
                "--environment=d",
                "--provider-name=h",
                "--pod-namespace=n",
            ];
            let all = [&all, ["--address-range=127.100.128.0/17"].as_slice(), flags].concat();
            match Cli::try_parse_from(all).unwrap().command {
                Command::Run(run) => run,
                Command::Init(_) => unreachable!(),
            }
        };
        let pod = "--pod-name=cp-hosted-1";
        assert_eq!(
            run(&[pod]).identity(),
            Some("cp-hosted-1"),
            "one replica: no flag"
        );
        assert_eq!(run(&[pod, "--leader-elect=false"]).identity(), None);
        assert_eq!(run(&[]).identity(), None, "outside of a pod");
    }

    #[test]
    fn a_bad_range_is_named() {
        let error = Cli::try_parse_from([
            "x",
            "run",
            "--environment=d",
            "--provider-name=h",
            "--pod-namespace=n",
            "--address-range=10.0.0.0/8",
        ]);
        assert!(error.unwrap_err().to_string().contains("10.0.0.0/8"));
    }
}
