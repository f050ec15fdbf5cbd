//! When a component is ready. Starting servers is the one place where the platform asks again and again: before a
//! server listens there is nothing to watch.
use super::{Component, ControlPlane, NODE_NAME};
use crate::{kubeconfig, state::Platform};
use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::{Api, Client, runtime::wait::await_condition};
use std::{fs, net::TcpStream, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// A component that is not ready after this will not be.
const PATIENCE: Duration = Duration::from_secs(90);

/// A component ended although it should have become, or stayed, ready.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended while it was starting{last_words}")]
pub(crate) struct Died {
    name: &'static str,
    /// It was not started now, but found.
    pub(crate) found_running: bool,
    last_words: String,
}

impl ControlPlane<'_> {
    /// Waits until the component does its work; its early end or its silence is an error that shows its last words.
    pub(crate) async fn wait_ready(&self, component: Component, found_running: bool) -> anyhow::Result<()> {
        match component {
            // Nothing asks etcd but the API server, whose readiness includes it; it must listen before that starts,
            // which otherwise tries again only after a second.
            Component::Etcd | Component::HostedEtcd => {
                let address = component.addresses(self.platform)[0];
                self.until(component, found_running, async || {
                    TcpStream::connect(address).is_ok()
                })
                .await
            }
            Component::ApiServer => {
                let client = self.admin().await?;
                self.until(component, found_running, async || {
                    answers(&client, "/readyz").await
                })
                .await
            }
            Component::ControllerManager | Component::Scheduler => {
                let url = format!("https://{}", component.addresses(self.platform)[0]);
                let client = kubeconfig::build("probe", &url, &self.pki.ca(), &self.pki, "admin")?;
                let client = kubeconfig::client(client).await?;
                self.until(component, found_running, async || {
                    answers(&client, "/healthz").await
                })
                .await
            }
            Component::Node => self.wait_node(found_running).await,
        }
    }

    /// A client with the tool's own identity.
    pub(crate) async fn admin(&self) -> anyhow::Result<Client> {
        kubeconfig::client_from(&self.platform.kubeconfig_path("admin")).await
    }

    async fn until(
        &self,
        component: Component,
        found_running: bool,
        ready: impl AsyncFn() -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if timeout(PATIENCE, ready()).await.unwrap_or(false) {
                return Ok(());
            }
            self.check_alive(component, found_running)?;
            if Instant::now() >= end {
                bail!("{}", silent(self.platform, component));
            }
            sleep(LOOK).await;
        }
    }

    fn check_alive(&self, component: Component, found_running: bool) -> Result<(), Died> {
        if self.ledger.running(component.name()).is_some() {
            return Ok(());
        }
        Err(Died {
            name: component.name(),
            found_running,
            last_words: last_words(self.platform, component),
        })
    }

    async fn wait_node(&self, found_running: bool) -> anyhow::Result<()> {
        // The Node object may say Ready of the node's last life: this one must listen first.
        let address = Component::Node.addresses(self.platform)[0];
        self.until(Component::Node, found_running, async || {
            TcpStream::connect(address).is_ok()
        })
        .await?;
        let nodes: Api<Node> = Api::all(self.admin().await?);
        let ready = await_condition(nodes, NODE_NAME, |node: Option<&Node>| {
            node.is_some_and(node_is_ready)
        });
        let death = async {
            loop {
                if let Err(died) = self.check_alive(Component::Node, found_running) {
                    return died;
                }
                sleep(LOOK * 10).await;
            }
        };
        tokio::select! {
            ready = timeout(PATIENCE, ready) => {
                ready.map_err(|_| anyhow::anyhow!(silent(self.platform, Component::Node)))?.context("cannot watch the node")?;
                Ok(())
            }
            died = death => Err(died.into()),
        }
    }
}

/// True when the node takes pods: it says Ready, and the mark that a new node bears until then has been removed. A
/// pod that is tried before that waits for a second.
pub(crate) fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = |condition: &NodeCondition| condition.type_ == "Ready" && condition.status == "True";
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    conditions.is_some_and(|all| all.iter().any(ready)) && taints.is_none_or(Vec::is_empty)
}

/// True when a GET of `path` succeeds now.
pub(crate) async fn answers(client: &Client, path: &str) -> bool {
    let Ok(request) = http::Request::get(path).body(Vec::new()) else {
        return false;
    };
    client.request_text(request).await.is_ok()
}

fn silent(platform: &Platform, component: Component) -> String {
    format!(
        "{} is not ready after {} s{}",
        component.name(),
        PATIENCE.as_secs(),
        last_words(platform, component)
    )
}

fn last_words(platform: &Platform, component: Component) -> String {
    let path = platform.log_path(component.name());
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n");
    format!("; its last words:\n{last}\nthe whole log is {}", path.display())
}
