//! Owners of children in this process: the real queue, workers and engine, over connections with troubles, in a
//! namespace of their own on the platform.
use super::wire::{Plan, Troubled};
use anyhow::{Result, anyhow, ensure};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{Api, Client};
use openmcp_e2e::{
    Platform, namespace,
    record::{Record, Verbatim},
    wait::PATIENCE,
};
use openmcp_reconcile::{
    Controller, Environment, Fault, Key, Lane, Limits, Outcome, Reconciler,
    apply::Mark,
    children::{Children, Cluster, Convergence, Engine, Wanted},
    cluster::Connection,
    digest::Digester,
    fault::Class,
    inventory::{Id, Inventory},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const PROVIDER: &str = "adversity.test/provider";
const OWNER: &str = "adversity.test/owner";

/// How an owner's last pass ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) passes: usize,
    /// Everything is as it is wanted; at the end: gone.
    pub(crate) settled: bool,
    said: String,
}

struct Owner {
    key: Key,
    clusters: BTreeMap<String, Cluster>,
    wanted: Vec<Wanted>,
    record: Record,
    ends: AtomicBool,
    standing: watch::Sender<Standing>,
}

struct Subject {
    engine: Engine,
    owners: Mutex<BTreeMap<String, Arc<Owner>>>,
}

/// One process with its owners.
pub(crate) struct Owners {
    pub(crate) namespace: String,
    /// Without troubles.
    pub(crate) client: Client,
    subject: Arc<Subject>,
    handle: openmcp_reconcile::Handle,
    connections: AtomicU64,
    _running: DropGuard,
}

impl Owners {
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let client = Platform::from_env().await?.client;
        let namespace = namespace::make(&client, &format!("adversity-{name}")).await?;
        let controller = Controller::new("adversity", Limits::default());
        let (handle, waker) = (controller.handle(), controller.handle());
        let digester = Digester::new(&*namespace, "a test");
        let selector = format!("{PROVIDER}={namespace}");
        let children = Children::new(
            digester,
            selector,
            Duration::from_secs(1),
            move |key: &Key, _lane| {
                waker.wake(key.clone(), Lane::Urgent);
            },
        );
        let subject = Arc::new(Subject {
            engine: Engine::new(children),
            owners: Mutex::default(),
        });
        let shutdown = CancellationToken::new();
        let (reconciler, end) = (subject.clone(), shutdown.clone());
        tokio::spawn(async move { controller.run(reconciler, end).await });
        Ok(Self {
            namespace,
            client,
            subject,
            handle,
            connections: AtomicU64::new(1),
            _running: shutdown.drop_guard(),
        })
    }

    /// Another connection to the platform's API server, with these troubles.
    pub(crate) async fn connect(&self, plan: Plan) -> Result<Cluster> {
        let kubeconfig = std::fs::read(std::env::var("OPENMCP_PLATFORM_KUBECONFIG")?)?;
        let environment = Environment::new(Troubled(plan), Timestamp::now);
        let connection = Connection::within(&environment, &kubeconfig, "adversity").await?;
        let nth = self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Cluster::new(
            connection.client(),
            "test/platform",
            format!("platform by way {nth}"),
            nth,
        ))
    }

    /// An owner that wants so many ConfigMaps. What precedes a dash is its tenant.
    pub(crate) fn add(&self, name: &str, cluster: Cluster, count: usize) -> Result<()> {
        let mut wanted = Vec::new();
        for nth in 0..count {
            let metadata = json!({"name": format!("{name}-{nth}"), "namespace": self.namespace});
            let object =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}});
            let mut object = Wanted::new("here", object);
            object.normalize()?;
            object.label(PROVIDER, &self.namespace);
            object.label(OWNER, name);
            wanted.push(object);
        }
        let owner = Arc::new(Owner {
            key: Key::new("Owner", name.split('-').next().unwrap_or(name), name),
            clusters: BTreeMap::from([("here".to_owned(), cluster)]),
            wanted,
            record: Record::default(),
            ends: AtomicBool::new(false),
            standing: watch::Sender::default(),
        });
        self.subject.owners.lock().unwrap().insert(name.to_owned(), owner);
        self.wake(name);
        Ok(())
    }

    pub(crate) fn wake(&self, name: &str) {
        self.handle.wake(self.owner(name).key.clone(), Lane::Urgent);
    }

    fn owner(&self, name: &str) -> Arc<Owner> {
        self.subject.owners.lock().unwrap()[name].clone()
    }

    pub(crate) fn standing(&self, name: &str) -> Standing {
        self.owner(name).standing.borrow().clone()
    }

    /// Waits until a pass ends so.
    pub(crate) async fn until(&self, name: &str, holds: impl FnMut(&Standing) -> bool) -> Result<()> {
        let mut standing = self.owner(name).standing.subscribe();
        match tokio::time::timeout(PATIENCE, standing.wait_for(holds)).await {
            Ok(held) => held.map(drop).map_err(Into::into),
            Err(_elapsed) => Err(anyhow!("{name}: {:?}", self.standing(name))),
        }
    }

    pub(crate) async fn settled(&self, name: &str) -> Result<()> {
        self.until(name, |standing| standing.settled).await
    }

    /// Lets an owner remove what it has made.
    pub(crate) async fn end(&self, name: &str) -> Result<()> {
        let owner = self.owner(name);
        owner.standing.send_modify(|standing| standing.settled = false);
        owner.ends.store(true, Ordering::Relaxed);
        self.wake(name);
        self.settled(name).await?;
        ensure!(
            owner.record.entries().is_empty(),
            "still recorded: {:?}",
            owner.record.entries()
        );
        Ok(())
    }

    /// What an owner has recorded, by name.
    pub(crate) fn recorded(&self, name: &str) -> BTreeMap<String, Option<String>> {
        let entries = self.owner(name).record.entries();
        entries.into_iter().map(|it| (it.id.name, it.uid)).collect()
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn leave(self) -> Result<()> {
        namespace::leave(&self.client, &self.namespace).await
    }
}

impl Reconciler for Subject {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let owner = self.owners.lock().unwrap().get(&*key.name).cloned();
        let Some(owner) = owner else {
            return Ok(Outcome::Settled);
        };
        let ended = owner.pass(&self.engine).await;
        owner.standing.send_modify(|standing| {
            standing.passes += 1;
            standing.settled = matches!(&ended, Ok((true, _)));
            standing.said = format!("{ended:?}");
        });
        ended.map(|(_, outcome)| outcome)
    }
}

impl Owner {
    /// Whether it is settled, and what is next.
    async fn pass(&self, engine: &Engine) -> Result<(bool, Outcome), Fault> {
        let store = &self.record;
        let mut inventory = Inventory::new(&store, self.record.entries());
        let mark = Mark {
            label: OWNER,
            value: self.key.name.to_string(),
        };
        if self.ends.load(Ordering::Relaxed) {
            let ids: Vec<Id> = inventory.entries().keys().cloned().collect();
            let torn = engine
                .tear_down(&self.key, &self.clusters, &mark, vec![ids], &mut inventory)
                .await?;
            inventory.flush().await?;
            return match torn.unwatched {
                true => Err(Fault::retry("DeletingObjects", "something left the watch")),
                false => Ok((torn.waiting.is_empty(), Outcome::Settled)),
            };
        }
        let order = Convergence {
            key: &self.key,
            clusters: &self.clusters,
            mark: &mark,
            wanted: self.wanted.clone(),
            waiting: false,
            now: Timestamp::now(),
        };
        let report = engine.converge(order, &mut inventory, &Verbatim).await?;
        let settled = report.is_settled() && report.complete;
        let failures = report.failures.into_iter().map(|failure| failure.fault);
        if let Some(fault) = failures.min_by_key(|fault| fault.class == Class::Invalid) {
            return Err(fault);
        }
        Ok((settled, report.wake.map_or(Outcome::Settled, Outcome::Wake)))
    }
}
