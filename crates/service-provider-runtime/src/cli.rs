//! The command line of a provider (contract §3): `init`, `run`, and for people `rbac` and `explain`.
use crate::{Process, provider::ServiceProvider, rbac, serving};
use clap::{ArgAction, Parser, Subcommand};
use kube::Resource;
use openmcp_api::keys::env;
use openmcp_reconcile::{
    Environment, Fault, Key,
    admin::{self, Readiness},
    cluster::Connection,
    log::{Format, Log},
};
use std::{io, net::SocketAddr, process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

/// `explain` waits for the platform's answers so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// At the end, code of the provider that does not return is waited for so long: it cannot be ended.
const GRACE: Duration = Duration::from_secs(1);

/// A service provider of an openMCP platform.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Name of the installation, for logs.
    #[arg(long, global = true, default_value = "")]
    environment: String,
    /// How much is logged.
    #[arg(long, global = true, default_value = "INFO", value_parser = ["DEBUG", "INFO", "ERROR"], ignore_case = true)]
    verbosity: String,
    /// Name of the ServiceProvider object.
    #[arg(long, global = true, default_value = "")]
    provider_name: String,
    /// Work only while holding the provider's lease, so that never two processes write: also during a rolling update.
    /// Unset, this is so in a pod (where POD_NAME is set).
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    leader_elect: Option<bool>,
    /// Address of /livez, /readyz and /metrics, such as `:8080`; an empty host is the pod's address. `0` is off.
    #[arg(long, global = true, default_value = "0")]
    metrics_bind_address: String,
    /// Accepted for compatibility; metrics are served in plain text.
    #[arg(long, global = true, num_args = 0..=1, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    metrics_secure: bool,
    /// The provider's namespace.
    #[arg(long, global = true, env = env::POD_NAMESPACE, default_value = "openmcp-system", hide = true)]
    pod_namespace: String,
    /// The pod's name, by which replicas are told apart.
    #[arg(long, global = true, env = env::POD_NAME, hide = true)]
    pod_name: Option<String>,
    /// The pod's address.
    #[arg(long, global = true, env = env::POD_IP, hide = true)]
    pod_ip: Option<String>,
}

impl Cli {
    /// A Deployment of one replica has two pods while it is rolled: in a pod the lease is asked for unless it is
    /// forbidden. Outside of one nobody else is expected.
    fn elects(&self) -> bool {
        self.leader_elect.unwrap_or(self.pod_name.is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Command {
    /// Install definitions and register kinds, then end.
    Init,
    /// Serve.
    Run,
    /// Print the ClusterRoles that the provider needs on the platform, and end.
    Rbac,
    /// Tell what a pass over a service object would see and do: its inputs, clusters and objects, pending drift, who
    /// blocks, and the next attempt. Reads with your KUBECONFIG for the platform; writes nothing.
    Explain {
        /// The service object, as `namespace/name` on the onboarding cluster.
        object: String,
    },
}

/// The whole `main` of a provider.
///
/// Takes its arguments from the command line, ends with 0 on SIGTERM and when there is nothing more to do, and with
/// 1 and a message on standard error when something failed.
pub fn main<P: ServiceProvider>(provider: P) -> ExitCode {
    let cli = Cli::parse();
    match execute(provider, &cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error("--provider-name is needed: the name of the ServiceProvider object")]
    NoName,
    #[error("{0:?} is no service object: it must be `namespace/name`")]
    Object(String),
    #[error("print the ClusterRoles")]
    Rbac(#[from] serde_yaml::Error),
    #[error("start the process")]
    Start(#[from] io::Error),
    #[error("--metrics-bind-address: {0}")]
    Address(String),
    #[error("--metrics-bind-address: {0}")]
    Admin(#[source] io::Error),
    #[error("{0}")]
    Fault(#[from] Fault),
}

fn execute<P: ServiceProvider>(provider: P, cli: &Cli) -> Result<(), MainError> {
    if cli.provider_name.is_empty() {
        return Err(MainError::NoName);
    }
    if cli.command == Command::Rbac {
        print!("{}", rbac::manifest::<P>(&cli.provider_name, &provider.access())?);
        return Ok(());
    }
    let verbosity = match cli.command {
        Command::Explain { .. } => "ERROR",
        _ => &cli.verbosity,
    };
    let directives = format!("{},kube_runtime=error", verbosity.to_lowercase());
    let log = Log::start(&directives, Format::Json, &cli.provider_name)?;
    let result = block_on(async {
        let shutdown = CancellationToken::new();
        let ended = on_signal(shutdown.clone())?;
        let result = match &cli.command {
            Command::Explain { object } => tokio::select! {
                result = explain(provider, cli, object) => result,
                () = shutdown.cancelled() => Ok(()),
            },
            Command::Init => tokio::select! {
                result = init::<P>(cli) => result,
                () = shutdown.cancelled() => Err(Fault::retry("Interrupted", "init was interrupted").into()),
            },
            _ => serve(provider, cli, shutdown).await,
        };
        ended.abort();
        result
    });
    log.end();
    result
}

fn block_on<T>(work: impl Future<Output = Result<T, MainError>>) -> Result<T, MainError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(GRACE);
    result
}

async fn explain<P: ServiceProvider>(provider: P, cli: &Cli, object: &str) -> Result<(), MainError> {
    let (namespace, name) = object
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| MainError::Object(object.to_owned()))?;
    let process = Process {
        platform: Connection::infer_within(
            &Environment::default().read_only(),
            &Process::user_agent("explain"),
        )
        .await?,
        ..process(cli, Readiness::default()).await?
    };
    let (platform, home) = (process.platform.client(), process.namespace.clone());
    let told = tokio::time::timeout(PATIENCE, process.explain(provider, namespace, name)).await;
    let told = told.map_err(|_elapsed| {
        Fault::retry(
            "Unreachable",
            format!("the platform and the onboarding cluster did not answer within {PATIENCE:?}"),
        )
    })??;
    println!("{told}");
    let key = Key::new(P::Api::kind(&()).into_owned().leak(), namespace, name);
    println!(
        "{}",
        serving::next_attempt(platform, &home, &cli.provider_name, &key).await?
    );
    Ok(())
}

async fn init<P: ServiceProvider>(cli: &Cli) -> Result<(), MainError> {
    process(cli, Readiness::default()).await?.init::<P>().await?;
    tracing::info!(provider = cli.provider_name, "init is done");
    Ok(())
}

async fn process(cli: &Cli, readiness: Readiness) -> Result<Process, Fault> {
    Ok(Process {
        provider: cli.provider_name.clone(),
        namespace: cli.pod_namespace.clone(),
        pod: cli.pod_name.clone().unwrap_or_else(|| "local".to_owned()),
        leader_elect: cli.elects(),
        platform: Connection::infer(&Process::user_agent(&cli.provider_name)).await?,
        readiness,
    })
}

async fn serve<P: ServiceProvider>(
    provider: P,
    cli: &Cli,
    shutdown: CancellationToken,
) -> Result<(), MainError> {
    let readiness = Readiness::default();
    let process = process(cli, readiness.clone()).await?;
    let broken = match cli.metrics_bind_address.as_str() {
        "0" => None,
        address => {
            let bind = admin::parse_bind(address, cli.pod_ip.as_deref()).map_err(MainError::Address)?;
            Some(serve_admin(bind, readiness, shutdown.clone()))
        }
    };
    let ran = process.run(provider, shutdown).await;
    match broken.and_then(|mut broken| broken.try_recv().ok()) {
        Some(error) => Err(MainError::Admin(error)),
        None => Ok(ran?),
    }
}

/// Serves health and metrics. A port that is taken is worth the end: nobody could see this process otherwise. Returns where
/// that error comes, before the shutdown that follows from it.
fn serve_admin(
    bind: SocketAddr,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> oneshot::Receiver<io::Error> {
    let (tell, broken) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = admin::serve(bind, readiness, shutdown.clone()).await {
            tracing::error!("{error}");
            // Who does not listen any more is at its end already.
            let _ = tell.send(error);
            shutdown.cancel();
        }
    });
    broken
}

/// Cancels on SIGTERM and SIGINT.
fn on_signal(shutdown: CancellationToken) -> io::Result<tokio::task::JoinHandle<()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        shutdown.cancel();
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(flags: &[&str]) -> Cli {
        Cli::try_parse_from([&["x", "run", "--provider-name=greeter"], flags].concat()).unwrap()
    }

    #[test]
    fn in_a_pod_a_provider_works_under_its_lease_unless_it_is_told_not_to() {
        let pod = "--pod-name=sp-greeter-1";
        assert!(parse(&[pod]).elects(), "one replica: no flag");
        assert!(!parse(&[pod, "--leader-elect=false"]).elects());
        assert!(parse(&[pod, "--leader-elect=true"]).elects());
    }

    #[test]
    fn code_that_never_returns_holds_up_no_end() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let began = std::time::Instant::now();
        let done = block_on(async move {
            tokio::task::spawn_blocking(move || held.recv());
            Ok(7)
        });
        assert_eq!(done.unwrap(), 7);
        assert!(began.elapsed() < 10 * GRACE, "{:?}", began.elapsed());
        drop(release);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_ends_the_process_with_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, shutdown) = (taken.local_addr().unwrap(), CancellationToken::new());
        let mut broken = serve_admin(at, Readiness::default(), shutdown.clone());
        shutdown.cancelled().await;
        let error = MainError::Admin(broken.try_recv().unwrap()).to_string();
        assert!(
            error.contains(&at.to_string()) && error.contains("--metrics-bind-address"),
            "{error}"
        );
    }

    #[test]
    fn outside_of_a_pod_a_lease_is_asked_for_only_when_it_is_wanted() {
        assert!(!parse(&[]).elects());
        assert!(parse(&["--leader-elect"]).elects());
        assert!(parse(&["--leader-elect=true"]).elects());
    }
}
