//! What is measured: the provider, a process of its own against the API server.
use super::{
    site::{PROVIDER, Site, merge},
    usage::{self, Memory},
};
use crate::{openmcp::SYSTEM_NAMESPACE, process::Process, state::write_private};
use anyhow::{Context, Result, bail};
use kube::Client;
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// The provider's name: of its ServiceProvider, of its ProviderConfig, of its processes.
pub(super) const NAME: &str = "configmaps";
/// The collection of the service objects of a namespace.
pub(super) fn sets(namespace: &str) -> String {
    format!("/apis/configset.services.open-control-plane.io/v1alpha1/namespaces/{namespace}/configsets")
}
/// The collection of all service objects.
pub(super) const ALL_SETS: &str = "/apis/configset.services.open-control-plane.io/v1alpha1/configsets";
const CONFIGS: &str = "/apis/configset.services.open-control-plane.io/v1alpha1/providerconfigs";
/// Between two looks at a process that says nothing by itself.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);
/// Where its metrics are. Connections go out from 127.0.0.1, and one of them could take the port while it is down.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// One process of the provider, running or not.
pub(super) struct Subject {
    /// Of the process, and of its pod.
    name: String,
    /// One of several replicas: it works while it holds the lease.
    elected: bool,
    program: PathBuf,
    kubeconfig: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

/// What the provider says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Passes {
    /// Reconciles that have ended.
    pub(super) ended: u64,
    /// Service objects that wait for one.
    pub(super) queued: u64,
    pub(super) running: u64,
}

impl Subject {
    /// Registers and initializes the provider as the operator would.
    pub(super) async fn install(site: &mut Site<'_>, program: &Path, children: usize) -> Result<Self> {
        let kubeconfig = site.path("provider.yaml");
        let content = serde_yaml::to_string(&site.kubeconfig(PROVIDER).await?)?;
        write_private(&kubeconfig, content.as_bytes())?;
        let provider = json!({
            "apiVersion": "openmcp.cloud/v1alpha1", "kind": "ServiceProvider",
            "metadata": {"name": NAME}, "spec": {"image": "bench"},
        });
        const PROVIDERS: &str = "/apis/openmcp.cloud/v1alpha1/serviceproviders";
        site.post(PROVIDERS, &provider).await?;
        let seen = json!({"status": {"observedGeneration": 1}});
        merge(&site.client, &format!("{PROVIDERS}/{NAME}/status"), &seen).await?;
        let subject = Self {
            name: NAME.to_owned(),
            elected: false,
            program: program.to_owned(),
            kubeconfig,
            address: free_address().await?,
            process: None,
        };
        subject.init(site).await?;
        let config = json!({
            "apiVersion": "configset.services.open-control-plane.io/v1alpha1", "kind": "ProviderConfig",
            "metadata": {"name": NAME},
            "spec": {"children": children, "namespace": super::site::CHILDREN, "text": "v0"},
        });
        site.post(CONFIGS, &config).await?;
        Ok(subject)
    }

    /// Another process of the same provider, which is one of several. It does not run yet.
    pub(super) async fn replica(&self, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            elected: true,
            program: self.program.clone(),
            kubeconfig: self.kubeconfig.clone(),
            address: free_address().await?,
            process: None,
        })
    }

    async fn init(&self, site: &mut Site<'_>) -> Result<()> {
        let process = site.spawn(
            "provider-init",
            &self.program,
            &arguments("init"),
            // It says at the end that it is done.
            &self.environment("info"),
        )?;
        let end = Instant::now() + PATIENCE;
        while process.is_running() {
            if Instant::now() > end {
                bail!(
                    "the provider's init does not end:\n{}",
                    site.last_words("provider-init")
                );
            }
            sleep(LOOK).await;
        }
        let said = site.last_words("provider-init");
        if !said.contains("init is done") {
            bail!("the provider's init failed:\n{said}");
        }
        Ok(())
    }

    fn environment(&self, log: &str) -> [(&'static str, String); 4] {
        [
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            ("POD_NAMESPACE", SYSTEM_NAMESPACE.to_owned()),
            ("POD_NAME", self.name.clone()),
            ("RUST_LOG", log.to_owned()),
        ]
    }

    /// Starts it. Returns before it is ready.
    pub(super) fn start(&mut self, site: &mut Site<'_>) -> Result<()> {
        let mut run = arguments("run");
        run.push(format!("--metrics-bind-address={}", self.address));
        run.push(format!("--leader-elect={}", self.elected));
        let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
        self.process = Some(site.spawn(&self.name, &self.program, &run, &self.environment(&log))?);
        Ok(())
    }

    /// SIGKILL: no warning, no last words.
    pub(super) fn kill(&mut self, site: &mut Site<'_>) -> Result<()> {
        self.process = None;
        site.kill(&self.name)
    }

    /// The name of its process, which is its identity among replicas.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the provider does not run")?;
        process
            .signal(signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits until the process has ended by itself.
    pub(super) async fn ended(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        while self.process.as_ref().is_some_and(|process| !process.has_ended()) {
            if Instant::now() > end {
                bail!("{} still runs after {patience:?}", self.name);
            }
            sleep(LOOK).await;
        }
        self.process = None;
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_running)
    }

    /// Waits until /readyz says so.
    pub(super) async fn ready(&self, site: &Site<'_>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.ask("/readyz").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") => {
                    return Ok(());
                }
                _ if !self.is_running() => {
                    bail!("the provider ended:\n{}", site.last_words(&self.name))
                }
                answer if Instant::now() > end => bail!(
                    "the provider is not ready: {answer:?}\n{:?}\n{}",
                    self.ask("/debug/state").await,
                    site.last_words(&self.name)
                ),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Waits until nothing has been queued or running for `quiet`, and `at_least` so many passes have ended. Returns
    /// when the last of them had ended.
    pub(super) async fn settled(
        &self,
        at_least: u64,
        quiet: Duration,
        patience: Duration,
    ) -> Result<Instant> {
        let end = Instant::now() + patience;
        let (mut last, mut since) = (Passes::default(), Instant::now());
        loop {
            let now = self.passes().await.unwrap_or_default();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            let idle = now.queued == 0 && now.running == 0 && now.ended >= at_least;
            if idle && since.elapsed() >= quiet {
                return Ok(since);
            }
            if Instant::now() > end {
                bail!(
                    "the provider did not come to rest within {patience:?}: {now:?}, at least {at_least} expected"
                );
            }
            sleep(LOOK).await;
        }
    }

    /// What it says of its passes.
    pub(super) async fn passes(&self) -> Result<Passes> {
        let text = self.ask("/metrics").await?;
        let total = |name| total(&text, name).unwrap_or_default();
        Ok(Passes {
            ended: total("controller_runtime_reconcile_total"),
            queued: total("workqueue_depth"),
            running: total("controller_runtime_active_workers"),
        })
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: provider\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.process.as_ref().context("the provider does not run")?.pid)
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        usage::memory(self.pid()?)
    }

    pub(super) fn descriptors(&self) -> Result<usize> {
        usage::descriptors(self.pid()?)
    }

    /// How many tasks it says that it has.
    pub(super) async fn tasks(&self) -> Result<u64> {
        let text = self.ask("/metrics").await?;
        total(&text, "tokio_alive_tasks").context("the provider does not say how many tasks it has")
    }

    pub(super) fn forget_peak(&self) -> Result<()> {
        usage::forget_peak(self.pid()?)
    }

    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.pid()?)
    }
}

/// Changes the ProviderConfig.
pub(super) async fn configure(client: &Client, patch: &serde_json::Value) -> Result<()> {
    merge(client, &format!("{CONFIGS}/{NAME}"), patch).await.map(drop)
}

/// The sum of a metric over its labels, if it is there.
fn total(metrics: &str, name: &str) -> Option<u64> {
    let of = metrics.lines().filter(|line| line.starts_with(name));
    let numbers = of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    numbers.reduce(|a, b| a + b).map(|sum| sum as u64)
}

async fn free_address() -> Result<SocketAddr> {
    let port = TcpListener::bind((HOME, 0)).await?;
    Ok(port.local_addr()?)
}

fn arguments(command: &str) -> Vec<String> {
    vec![
        command.to_owned(),
        format!("--provider-name={NAME}"),
        "--environment=bench".to_owned(),
    ]
}
