//! The measure of all orders: a client that does the same writes as the provider, as concurrently, and nothing else. It
//! watches nothing, compares nothing and remembers nothing.
use super::{
    fleet::Order,
    site::{BARE, CHILDREN, Site, merge, post},
    subject::NAME,
};
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// As many service objects at once as the runtime's workers, and as many of each one's children.
const WORKERS: usize = 16;
const APPLIES: usize = 8;
/// As many orders at once as in [`super::fleet`].
const ORDERS: usize = 64;
const PREFIX: &str = "bare";
/// Where its Inventories lie, so that they can be removed at once.
const NAMESPACE: &str = "bare";
const LABEL: &str = "bench=bare";

/// See the module.
pub(super) struct Bare {
    client: Client,
    admin: Client,
    children: usize,
}

impl Bare {
    /// Installs a twin of the service kind, which no provider looks at.
    pub(super) async fn install(site: &Site<'_>, children: usize) -> Result<Self> {
        const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let path = format!("{DEFINITIONS}/configsets.configset.services.open-control-plane.io");
        let ours: Value = site.client.request(super::witness::get(path)?).await?;
        let mut spec = ours["spec"].clone();
        let group = format!("{PREFIX}configset.services.open-control-plane.io");
        spec["group"] = json!(group);
        spec["names"] = json!({
            "kind": "BareConfigSet", "listKind": "BareConfigSetList", "plural": "bareconfigsets", "singular": "bareconfigset",
        });
        let twin = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("bareconfigsets.{group}")}, "spec": spec,
        });
        site.define(twin).await?;
        site.post("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}))
            .await?;
        Ok(Self {
            client: site.client_of(BARE).await?,
            admin: site.client.clone(),
            children,
        })
    }

    /// Orders and fulfils. Returns the time from the first order to the last status.
    pub(super) async fn fulfil(&self, orders: Vec<Order>) -> Result<Duration> {
        let (placed, mut waiting) = mpsc::unbounded_channel();
        let began = Instant::now();
        let placing = async {
            let places: Vec<_> = orders
                .into_iter()
                .map(|order| {
                    let placed = placed.clone();
                    async move {
                        let object = self.place(&order).await?;
                        placed.send((order, object)).context("nobody fulfils")
                    }
                })
                .collect();
            stream::iter(places)
                .buffer_unordered(ORDERS)
                .try_collect::<Vec<_>>()
                .await?;
            drop(placed);
            anyhow::Ok(())
        };
        let fulfilling = async {
            let received = stream::poll_fn(|cx| waiting.poll_recv(cx));
            received
                .map(anyhow::Ok)
                .try_for_each_concurrent(WORKERS, |(order, object)| async move {
                    self.bring_up(&order, &object).await
                })
                .await
        };
        tokio::try_join!(placing, fulfilling)?;
        Ok(began.elapsed())
    }

    async fn place(&self, order: &Order) -> Result<Value> {
        let object = order.object("BareConfigSet", PREFIX);
        post(&self.admin, &sets(&order.tenant), &object).await
    }

    /// The writes of one service object, one after the other as the runtime does them.
    async fn bring_up(&self, order: &Order, object: &Value) -> Result<()> {
        let path = format!("{}/{}", sets(&order.tenant), order.name);
        let uid = object["metadata"]["uid"].clone();
        let finalizer = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/metadata/finalizers", "value": ["bare.services.open-control-plane.io/finalizer"]},
        ]);
        self.patch(&path, "application/json-patch+json", &finalizer)
            .await?;
        const INVENTORIES: &str = "/apis/runtime.openmcp.cloud/v1alpha1/namespaces/bare/inventories";
        let intents: Vec<Value> = (0..self.children)
            .map(|index| entry(order, index, None))
            .collect();
        let inventory = post(&self.client, INVENTORIES, &inventory(order, &uid, intents)).await?;
        let applies: Vec<_> = (0..self.children)
            .map(|index| self.apply(order, &uid, index))
            .collect();
        let entries: Vec<Value> = stream::iter(applies)
            .buffer_unordered(APPLIES)
            .try_collect()
            .await?;
        let mut inventory = inventory;
        inventory["spec"]["entries"] = json!(entries);
        inventory["metadata"]["managedFields"] = Value::Null;
        let name = inventory["metadata"]["name"].as_str().unwrap_or_default();
        let request = http::Request::put(format!("{INVENTORIES}/{name}"));
        let request = request.header("content-type", "application/json");
        self.client
            .request::<Value>(request.body(serde_json::to_vec(&inventory)?)?)
            .await?;
        self.status(order, &path).await?;
        self.event(order, object).await
    }

    async fn apply(&self, order: &Order, uid: &Value, index: usize) -> Result<Value> {
        let name = format!("{PREFIX}.{}", order.child(index));
        let child = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": CHILDREN, "labels": {
                "bench": "bare", "runtime.openmcp.cloud/owner": uid,
            }},
            "data": {"config": "v0", "text": "ordered"},
        });
        let path =
            format!("/api/v1/namespaces/{CHILDREN}/configmaps/{name}?fieldManager={PREFIX}&force=false");
        let made = self.patch(&path, "application/apply-patch+yaml", &child).await?;
        Ok(entry(order, index, Some(&made["metadata"]["uid"])))
    }

    async fn status(&self, order: &Order, path: &str) -> Result<()> {
        let now = "2026-01-01T00:00:00Z";
        let condition = |type_: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            let message = "everything that is wanted is applied";
            json!({
                "type": type_, "status": status, "reason": format!("{type_}_{status}"), "message": message,
                "lastTransitionTime": now, "observedGeneration": 1,
            })
        };
        let conditions = [
            ("Ready", true),
            ("Synced", true),
            ("Healthy", true),
            ("Progressing", false),
            ("Stalled", false),
        ];
        let object = order.object("BareConfigSet", PREFIX);
        let status = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": order.name, "namespace": order.tenant},
            "status": {"observedGeneration": 1, "phase": "Ready",
                "conditions": conditions.map(|(type_, holds)| condition(type_, holds))},
        });
        let path = format!("{path}/status?fieldManager={PREFIX}&force=true");
        self.patch(&path, "application/apply-patch+yaml", &status)
            .await
            .map(drop)
    }

    async fn event(&self, order: &Order, object: &Value) -> Result<()> {
        let collection = format!("/apis/events.k8s.io/v1/namespaces/{}/events", order.tenant);
        let event = json!({
            "metadata": {"generateName": format!("{}-", order.name)}, "action": "Reconcile", "reason": "Reconciled",
            "note": "ReconcileSuccess: all objects are ready", "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": PREFIX, "reportingInstance": NAME, "type": "Normal",
            "regarding": {"apiVersion": object["apiVersion"], "kind": object["kind"], "name": order.name,
                "namespace": order.tenant, "uid": object["metadata"]["uid"]},
        });
        post(&self.client, &collection, &event).await.map(drop)
    }

    async fn patch(&self, path: &str, how: &str, patch: &Value) -> Result<Value> {
        let request = http::Request::patch(path).header("content-type", how);
        let patched = self
            .client
            .request(request.body(serde_json::to_vec(patch)?)?)
            .await;
        patched.with_context(|| format!("cannot patch {path}"))
    }

    /// Removes what it made, so that later experiments find the API server as if it had not been.
    pub(super) async fn clean_up(&self) -> Result<()> {
        for collection in [
            format!("/api/v1/namespaces/{CHILDREN}/configmaps?labelSelector={LABEL}"),
            format!("/apis/runtime.openmcp.cloud/v1alpha1/namespaces/{NAMESPACE}/inventories"),
        ] {
            let request = http::Request::delete(collection).body(Vec::new())?;
            self.admin.request::<Value>(request).await?;
        }
        Ok(())
    }

    /// Removes the twins of service objects, whose names are needed again.
    pub(super) async fn forget(&self, orders: &[Order]) -> Result<()> {
        let forgets: Vec<_> = orders
            .iter()
            .map(|order| async move {
                let path = format!("{}/{}", sets(&order.tenant), order.name);
                merge(&self.admin, &path, &json!({"metadata": {"finalizers": null}})).await?;
                let request = http::Request::delete(path).body(Vec::new())?;
                self.admin.request::<Value>(request).await?;
                anyhow::Ok(())
            })
            .collect();
        stream::iter(forgets)
            .buffer_unordered(ORDERS)
            .try_collect::<Vec<_>>()
            .await
            .map(drop)
    }
}

fn sets(tenant: &str) -> String {
    format!(
        "/apis/{PREFIX}configset.services.open-control-plane.io/v1alpha1/namespaces/{tenant}/bareconfigsets"
    )
}

fn inventory(order: &Order, uid: &Value, entries: Vec<Value>) -> Value {
    json!({
        "apiVersion": "runtime.openmcp.cloud/v1alpha1", "kind": "Inventory",
        "metadata": {"name": format!("{PREFIX}.{}.{}", order.tenant, order.name), "labels": {"bench": "bare"}},
        "spec": {"provider": PREFIX, "entries": entries, "owner": {
            "group": "bareconfigset.services.open-control-plane.io", "kind": "BareConfigSet",
            "namespace": order.tenant, "name": order.name, "uid": uid,
        }},
    })
}

fn entry(order: &Order, index: usize, uid: Option<&Value>) -> Value {
    let mut entry = json!({
        "cluster": "mcp/openmcp-system/mcp", "group": "", "version": "v1", "kind": "ConfigMap", "namespace": CHILDREN,
        "name": format!("{PREFIX}.{}", order.child(index)), "wave": 2, "policy": "Delete",
    });
    if let Some(uid) = uid {
        entry["uid"] = uid.clone();
        entry["desiredHash"] = json!("x1:00112233445566778899aabbccddeeff");
        entry["liveDigest"] = json!("x1:00112233445566778899aabbccddeeff");
    }
    entry
}
