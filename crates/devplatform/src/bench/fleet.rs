//! Tenants, their ControlPlanes and their service objects: as many as an experiment needs, made as fast as the API
//! server allows.
use super::{
    granter::CLUSTERS,
    progress::Progress,
    site::{merge, post},
    subject::{ALL_SETS, sets},
    witness::Witness,
};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use openmcp_api::{clusters::purpose, names};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

/// Tenants that share all service objects.
pub(super) const TENANTS: usize = 100;
/// Requests in flight while objects are prepared.
const IN_FLIGHT: usize = 64;
/// A provider that makes no object Ready in this time does not go on.
const PATIENCE: Duration = Duration::from_secs(120);
const CONTROL_PLANES: &str = "/apis/core.open-control-plane.io/v2alpha1";

/// A service object, and the ControlPlane of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Order {
    pub(super) tenant: String,
    pub(super) name: String,
}

impl Order {
    /// The n-th.
    pub(super) fn number(number: usize) -> Self {
        Self {
            tenant: format!("tenant-{:02}", number % TENANTS),
            name: format!("set-{number}"),
        }
    }

    /// The ControlPlane's namespace on the platform.
    pub(super) fn platform_namespace(&self) -> String {
        names::control_plane_namespace(&self.tenant, &self.name)
    }

    /// The path of the service object.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", sets(&self.tenant), self.name)
    }

    /// The name of one of its ConfigMaps.
    pub(super) fn child(&self, index: usize) -> String {
        format!("{}.{}.{index}", self.tenant, self.name)
    }

    /// Grants the ControlPlane: what the operator would have made of it. `cluster` is the Cluster that it gets.
    pub(super) async fn grant(&self, client: &Client, cluster: &str) -> Result<()> {
        let namespace = self.platform_namespace();
        let own = json!({"metadata": {"name": namespace}});
        let plane = json!({
            "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
            "metadata": {"name": self.name}, "spec": {"iam": {}},
        });
        let request = json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest",
            "metadata": {"name": self.name}, "spec": {"purpose": cluster},
        });
        post(client, "/api/v1/namespaces", &own).await?;
        let planes = format!("{CONTROL_PLANES}/namespaces/{}/controlplanes", self.tenant);
        let requests = format!("{CLUSTERS}/{namespace}/clusterrequests");
        tokio::try_join!(post(client, &planes, &plane), post(client, &requests, &request))?;
        Ok(())
    }

    /// Orders the service.
    pub(super) async fn place(&self, client: &Client) -> Result<()> {
        post(client, &sets(&self.tenant), &self.object("ConfigSet", ""))
            .await
            .map(drop)
    }

    /// The service object; `prefix` stands before its API group.
    pub(super) fn object(&self, kind: &str, prefix: &str) -> Value {
        json!({
            "apiVersion": format!("{prefix}configset.services.open-control-plane.io/v1alpha1"), "kind": kind,
            "metadata": {"name": self.name, "namespace": self.tenant},
            "spec": {"text": "ordered"},
        })
    }

    /// Changes it.
    pub(super) async fn change(&self, client: &Client, patch: &Value) -> Result<()> {
        merge(client, &self.path(), patch).await.map(drop)
    }

    pub(super) async fn delete(&self, client: &Client) -> Result<()> {
        let request = http::Request::delete(self.path()).body(Vec::new())?;
        client
            .request::<Value>(request)
            .await
            .map(drop)
            .context("cannot delete a service object")
    }
}

/// All service objects.
pub(super) struct Fleet {
    client: Client,
    granted: usize,
    placed: usize,
}

/// How a batch of orders went.
#[derive(Debug)]
pub(super) struct Placed {
    /// From the first order to the last Ready.
    pub(super) took: Duration,
    /// Of each object, from its order to its Ready.
    pub(super) latencies: Vec<Duration>,
}

impl Fleet {
    /// Makes the tenants' namespaces.
    pub(super) async fn found(client: &Client) -> Result<Self> {
        let tenants = (0..TENANTS).map(|tenant| {
            let namespace = json!({"metadata": {"name": format!("tenant-{tenant:02}")}});
            async move { post(client, "/api/v1/namespaces", &namespace).await }
        });
        let tenants: Vec<_> = tenants.collect();
        stream::iter(tenants)
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(Self {
            client: client.clone(),
            granted: 0,
            placed: 0,
        })
    }

    /// Service objects so far.
    pub(super) fn len(&self) -> usize {
        self.placed
    }

    /// Takes `count` new ControlPlanes that are granted and have no service object yet.
    pub(super) async fn prepare(&mut self, count: usize, progress: &Progress) -> Result<Range<usize>> {
        let new = self.placed..self.placed + count;
        let missing = self.granted.max(new.start)..new.end;
        if !missing.is_empty() {
            progress.begin("granting ControlPlanes", missing.len());
            let grants: Vec<_> = missing
                .clone()
                .map(|number| {
                    let client = &self.client;
                    async move { Order::number(number).grant(client, purpose::MCP).await }
                })
                .collect();
            let mut grants = stream::iter(grants).buffer_unordered(IN_FLIGHT);
            while grants.next().await.transpose()?.is_some() {
                progress.step();
            }
            drop(grants);
            self.granted = missing.end;
            self.granted_all(missing).await?;
        }
        self.placed = new.end;
        Ok(new)
    }

    /// Waits for the granter: the last requests of a batch may not be answered yet.
    async fn granted_all(&self, batch: Range<usize>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        // Answered in the order of creation, 32 at once: the last ones tell.
        for number in batch.rev().take(2 * IN_FLIGHT) {
            let order = Order::number(number);
            let path = format!(
                "{CLUSTERS}/{}/clusterrequests/{}",
                order.platform_namespace(),
                order.name
            );
            loop {
                let request: Value = self.client.request(super::witness::get(path.clone())?).await?;
                if request["status"]["phase"] == "Granted" {
                    break;
                }
                if Instant::now() > end {
                    bail!("ClusterRequest {} is not granted", order.name);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Orders a service on each of the new ControlPlanes at once, and waits until all are Ready.
    pub(super) async fn place(&self, orders: Range<usize>, progress: &Progress) -> Result<Placed> {
        progress.begin("orders until Ready", orders.len());
        let mut witness = Witness::of(&self.client, ALL_SETS).await?;
        let began = Instant::now();
        let placing = async {
            let placed: Vec<_> = orders
                .clone()
                .map(|number| {
                    let client = &self.client;
                    async move {
                        let order = Order::number(number);
                        let at = Instant::now();
                        order.place(client).await?;
                        anyhow::Ok((order.name, at))
                    }
                })
                .collect();
            stream::iter(placed)
                .buffer_unordered(IN_FLIGHT)
                .try_collect::<HashMap<_, _>>()
                .await
        };
        let waiting = async {
            let mut ready = HashMap::new();
            while ready.len() < orders.len() {
                let sight = witness
                    .next(PATIENCE)
                    .await
                    .with_context(|| format!("{} of {} orders became Ready", ready.len(), orders.len()))?;
                let ours = || number_of(&sight.object.metadata.name).is_some_and(|it| orders.contains(&it));
                if !sight.deleted && sight.object.is_ready() && ours() {
                    ready.entry(sight.object.metadata.name).or_insert(sight.at);
                    progress.step();
                }
            }
            anyhow::Ok(ready)
        };
        let (placed, ready) = tokio::try_join!(placing, waiting)?;
        let latencies = ready
            .iter()
            .filter_map(|(name, at)| Some(at.duration_since(*placed.get(name)?)))
            .collect();
        let last = ready.values().max().copied().unwrap_or(began);
        Ok(Placed {
            took: last.duration_since(began),
            latencies,
        })
    }

    /// As many service objects at rest as asked for, or more.
    pub(super) async fn grow_to(&mut self, count: usize, progress: &Progress) -> Result<Option<Placed>> {
        if self.placed >= count {
            return Ok(None);
        }
        let new = self.prepare(count - self.placed, progress).await?;
        self.place(new, progress).await.map(Some)
    }
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix("set-")?.parse().ok()
}
