//! An owner of children, and what is done to them.
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use openmcp_e2e::{
    Platform, namespace,
    record::{Record, Verbatim},
};
use openmcp_reconcile::{
    Fault, Key,
    apply::Mark,
    children::{Children, Cluster, Convergence, Engine, Report, TearDown, Unfollowed, Wanted},
    digest::Digester,
    inventory::{Entry, Id, Inventory},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PROVIDER: &str = "children.test/provider";
pub(crate) const OWNER: &str = "children.test/owner";

/// An owner of children in a namespace of its own.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    engine: Engine,
    woken: tokio::sync::Mutex<mpsc::UnboundedReceiver<Key>>,
    pub(crate) record: Record,
    clusters: BTreeMap<String, Cluster>,
}

impl Rig {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let client = Platform::from_env().await?.client;
        let namespace = namespace::make(&client, &format!("children-{name}")).await?;
        Ok(Self::over(client, namespace, Record::default()))
    }

    /// As another process that knows nothing but the record.
    pub(crate) fn restarted(self) -> Self {
        Self::over(self.client, self.namespace, self.record)
    }

    fn over(client: Client, namespace: String, record: Record) -> Self {
        let (wake, woken) = mpsc::unbounded_channel();
        let digester = Digester::new(&*namespace, "a test");
        let selector = format!("{PROVIDER}={namespace}");
        let children = Children::new(
            digester,
            selector,
            Duration::from_secs(1),
            move |key: &Key, _lane| {
                let _ = wake.send(key.clone());
            },
        );
        let cluster = |connection| Cluster::new(client.clone(), "test/platform", "platform", connection);
        let clusters = BTreeMap::from([("here".to_owned(), cluster(1)), ("there".to_owned(), cluster(2))]);
        Self {
            client,
            clusters,
            namespace,
            engine: Engine::new(children),
            woken: tokio::sync::Mutex::new(woken),
            record,
        }
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn config_map(&self, name: &str, data: Value) -> Value {
        let metadata = json!({"name": name, "namespace": self.namespace});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    }

    fn key(&self) -> Key {
        Key::new("Test", &*self.namespace, "owner")
    }

    fn mark(&self) -> Mark {
        Mark {
            label: OWNER,
            value: "me".to_owned(),
        }
    }

    pub(crate) fn wanted(&self, object: Value) -> Wanted {
        self.wanted_on("here", object)
    }

    /// `here` or `there`, which is the same API server over another connection.
    pub(crate) fn wanted_on(&self, cluster: &str, object: Value) -> Wanted {
        let mut wanted = Wanted::new(cluster, object);
        wanted.normalize().unwrap();
        wanted.label(PROVIDER, &self.namespace);
        wanted.label(OWNER, "me");
        wanted
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.record.entries()
    }

    pub(crate) fn saves(&self) -> usize {
        self.record.saves()
    }

    /// One pass.
    pub(crate) async fn pass(&self, wanted: &[Wanted], waiting: bool) -> Result<Report, Fault> {
        let (key, mark) = (self.key(), self.mark());
        let store = &self.record;
        let mut inventory = Inventory::new(&store, self.entries());
        let order = Convergence {
            key: &key,
            clusters: &self.clusters,
            mark: &mark,
            wanted: wanted.to_vec(),
            waiting,
            now: Timestamp::now(),
        };
        self.engine.converge(order, &mut inventory, &Verbatim).await
    }

    /// Passes until a pass ends with nothing on its way; each further pass waits to be woken. The report is that of the
    /// last one, with what all of them have repaired.
    pub(crate) async fn settle(&self, wanted: &[Wanted]) -> Result<Report> {
        let (deadline, mut repaired) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let mut report = self.pass(wanted, false).await?;
            repaired.append(&mut report.repaired);
            if report.is_settled() {
                report.repaired = repaired;
                return Ok(report);
            }
            self.woken_by(deadline)
                .await
                .with_context(|| format!("{:?} {:?}", report.missing, report.failures))?;
        }
    }

    /// Passes until one has repaired something: a wake-up may be older than what somebody did.
    pub(crate) async fn repaired(&self, wanted: &[Wanted]) -> Result<Report> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.settle(wanted).await?;
            if !report.repaired.is_empty() {
                return Ok(report);
            }
            let mut failed = report.failures.iter();
            // A controller wrote its status meanwhile: that is tried again, as the queue does.
            if failed.any(|it| it.fault.reason == "Conflict") && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            self.woken_by(deadline)
                .await
                .with_context(|| format!("{:?} {:?}", report.missing, report.failures))?;
        }
    }

    pub(crate) async fn unfollowed(&self) -> Vec<Unfollowed> {
        self.engine.children().unfollowed().await
    }

    /// Looks until something is found that nobody follows, as the runtime does now and then. What is recorded is in order.
    /// Returns what is not.
    pub(crate) async fn unrecorded(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.unfollowed().await;
            if found.is_empty() {
                ensure!(Instant::now() < deadline, "all is followed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let uids: Vec<_> = self.entries().into_iter().filter_map(|entry| entry.uid).collect();
            let judged: Vec<_> = found
                .into_iter()
                .map(|it| {
                    let recorded = uids.iter().any(|uid| uid == it.uid());
                    (it, recorded)
                })
                .collect();
            let unrecorded = judged.iter().filter(|(_, recorded)| !recorded);
            let names = unrecorded.map(|(it, _)| it.to_string()).collect();
            self.engine.children().looked_up(judged);
            return Ok(names);
        }
    }

    pub(crate) async fn woken(&self, within: Duration) -> Result<()> {
        let mut woken = self.woken.lock().await;
        tokio::time::timeout(within, woken.recv())
            .await
            .context("nobody woke the owner")?;
        while woken.try_recv().is_ok() {}
        Ok(())
    }

    /// Also when passes wake themselves, nobody makes more of them after `end`.
    pub(crate) async fn woken_by(&self, end: Instant) -> Result<()> {
        let left = end.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "it does not come to rest");
        self.woken(left).await
    }

    /// Passes until nothing has woken the owner for a moment: neither what was done before, nor its own doing.
    pub(crate) async fn rested(&self, wanted: &[Wanted]) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.woken(Duration::from_millis(500)).await.is_ok() {
            ensure!(Instant::now() < end, "it does not come to rest");
            self.pass(wanted, false).await?;
        }
        Ok(())
    }

    pub(crate) async fn uid(&self, name: &str) -> Result<String> {
        Ok(self.config_maps().get(name).await?.uid().unwrap())
    }

    pub(crate) async fn edit(&self, name: &str, manager: &str, patch: Value) -> Result<()> {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        self.config_maps()
            .patch(name, &params, &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    pub(crate) async fn data(&self, name: &str) -> Result<Value> {
        Ok(json!(self.config_maps().get(name).await?.data))
    }

    /// Passes of the end until nothing is waited for.
    pub(crate) async fn torn_down(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let torn = self.tear_down().await?;
            if torn.waiting.is_empty() {
                return Ok(());
            }
            self.woken_by(end)
                .await
                .with_context(|| format!("{:?}", torn.waiting))?;
        }
    }

    pub(crate) async fn tear_down(&self) -> Result<TearDown, Fault> {
        let ids: Vec<Id> = self.entries().into_iter().map(|entry| entry.id).collect();
        let store = &self.record;
        let mut inventory = Inventory::new(&store, self.entries());
        let (key, mark) = (self.key(), self.mark());
        let torn = self
            .engine
            .tear_down(&key, &self.clusters, &mark, vec![ids], &mut inventory)
            .await?;
        inventory.flush().await?;
        Ok(torn)
    }
}

pub(crate) fn told(report: &Report) -> Vec<String> {
    report.repaired.iter().map(ToString::to_string).collect()
}
