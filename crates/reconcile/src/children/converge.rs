//! Carrying out a plan: intents first, wave by wave, results in one write, prune last.
use super::{
    cluster::Cluster,
    counters,
    damper::Damper,
    kinds::Kind,
    observe::Child,
    plan::{self, Action, Candidate},
    report::Report,
    step::{Standing, Step, take_in},
    told::Told,
    wanted::{Wanted, Wave},
    watch::{Children, Lease, Scope},
};
use crate::{
    Fault, Key,
    apply::Mark,
    controller::woken,
    digest::{Digest, Digester},
    fault::Class,
    inventory::{Entry, Inventory, Store},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// Applies of one reconcile in flight at once.
pub(super) const CONCURRENCY: usize = 8;

/// Makes objects whose content is not in what is wanted (a token): see [`Wanted::recipe`].
pub trait Maker: Send + Sync {
    /// The whole object, with the time when it must be made anew as [`super::RENEW_ANNOTATION`].
    fn make(&self, wanted: &Wanted) -> impl Future<Output = Result<Value, Fault>> + Send;
}

/// One owner's children, to be brought to what is wanted.
pub struct Convergence<'a> {
    /// The owner, woken when one of them changes.
    pub key: &'a Key,
    /// The clusters that are reachable, by the name that wanted objects and entries use.
    pub clusters: &'a BTreeMap<String, Cluster>,
    /// Borne by all of them.
    pub mark: &'a Mark,
    /// Normalized, with its labels.
    pub wanted: Vec<Wanted>,
    /// More will be wanted later: forbids prune.
    pub waiting: bool,
    /// The wall clock: what is due for renewal, and what the damper holds back.
    pub now: Timestamp,
}

/// The shares of one owner: a few, so they are found by looking at each.
type Leases = Vec<Arc<Lease>>;

/// The engine of one process: shared watches, and who holds which.
pub struct Engine {
    children: Children,
    damper: Arc<Damper>,
    leases: Mutex<HashMap<Key, Leases>>,
    told: Told,
}

/// What the steps of one convergence share.
pub(super) struct Scene<'a, M> {
    pub(super) order: &'a Convergence<'a>,
    pub(super) kinds: BTreeMap<(String, String, String), Kind>,
    pub(super) maker: &'a M,
}

impl<M> Scene<'_, M> {
    pub(super) fn kind(&self, wanted: &Wanted) -> Option<&Kind> {
        self.kinds.get(&(
            wanted.cluster.clone(),
            wanted.api_version().to_owned(),
            wanted.kind().to_owned(),
        ))
    }
}

impl Engine {
    /// An engine over `children`.
    pub fn new(children: Children) -> Self {
        let damper = Arc::<Damper>::default();
        counters::watch_thrash(&damper);
        Self {
            children,
            damper,
            leases: Mutex::default(),
            told: Told::default(),
        }
    }

    /// The watches.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// The label that all children bear, by which watches select them.
    pub(super) fn selected(&self) -> &str {
        self.children.label()
    }
    pub(super) fn manager(&self) -> &str {
        self.digester().manager()
    }

    pub(super) fn digester(&self) -> &Digester {
        self.children.digester()
    }

    pub(super) fn damper(&self) -> &Damper {
        &self.damper
    }

    /// The share of `key` in a watch, kept until [`Engine::forget`] or until a convergence does not need it.
    pub fn lease(&self, key: &Key, cluster: &Cluster, kind: &Kind, scope: Scope) -> Arc<Lease> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        // One key for all that is held.
        let key = leases.get_key_value(key).map_or(key, |(key, _)| key).clone();
        let held = leases.entry(key.clone()).or_default();
        match held.iter().find(|lease| lease.is_of(cluster, kind, scope)) {
            Some(lease) => lease.clone(),
            None => {
                let lease = Arc::new(self.children.lease(cluster, kind, scope, &key));
                held.reserve_exact(1);
                held.push(lease.clone());
                lease
            }
        }
    }

    /// Gives back everything that is held for `key`.
    pub fn forget(&self, key: &Key) {
        let held = self
            .leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        drop(held);
        self.told.forget(key);
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// Brings the children of one owner to what is wanted, as far as it goes now. An error concerns all of them;
    /// what went wrong with one is in the report.
    pub async fn converge<S: Store, M: Maker>(
        &self,
        order: Convergence<'_>,
        inventory: &mut Inventory<'_, S>,
        maker: &M,
    ) -> Result<Report, Fault> {
        let (mut report, start) = (Report::default(), woken().unwrap_or_else(Instant::now));
        let scene = Scene {
            order: &order,
            kinds: self.resolve(&order).await?,
            maker,
        };
        if !self.watches_ready(&scene, inventory, &mut report)? {
            return Ok(report);
        }
        let candidates = self.candidates(&scene)?;
        inventory
            .intend(plan::intents(&candidates, inventory.entries()))
            .await?;
        report.complete = self.run_waves(&scene, &candidates, inventory, &mut report).await;
        inventory.flush().await?;
        let prunes = plan::prunes(&candidates, inventory.entries());
        if report.complete && !order.waiting && !prunes.is_empty() {
            self.prune(&order, prunes, inventory, &mut report).await?;
            // Nobody may come by again to do it. What has to stay is watched.
            if report.kept.is_empty() {
                self.shares(&scene, inventory);
            }
        }
        counters::pass(&report, start.elapsed());
        Ok(report)
    }

    /// How each wanted kind is served where it is wanted.
    pub(super) async fn resolve(
        &self,
        order: &Convergence<'_>,
    ) -> Result<BTreeMap<(String, String, String), Kind>, Fault> {
        let mut kinds = BTreeMap::new();
        for wanted in &order.wanted {
            let slot = (
                wanted.cluster.clone(),
                wanted.api_version().to_owned(),
                wanted.kind().to_owned(),
            );
            if kinds.contains_key(&slot) {
                continue;
            }
            let cluster = order.clusters.get(&wanted.cluster).ok_or_else(|| {
                let message = format!(
                    "an object is wanted on cluster {}, which is not connected",
                    wanted.cluster
                );
                Fault::new(Class::Bug, "UnknownCluster", message)
            })?;
            if let Some(kind) = cluster.kind(&slot.1, &slot.2).await? {
                kinds.insert(slot, kind);
            }
        }
        Ok(kinds)
    }

    /// Takes the watches that are needed, gives back the others, and tells whether all have listed.
    pub(super) fn watches_ready<S: Store, M>(
        &self,
        scene: &Scene<'_, M>,
        inventory: &Inventory<'_, S>,
        report: &mut Report,
    ) -> Result<bool, Fault> {
        let needed = self.shares(scene, inventory);
        for (kind, lease) in &needed {
            match lease.synced() {
                Ok(true) => {}
                // What never made anything has nothing to compare: it does not wait for the lists of others.
                Ok(false) if inventory.entries().is_empty() => {}
                Ok(false) => report.reading.push(kind.resource.plural.clone()),
                Err(failure) => return Err(Fault::new(Class::Unreachable, "WatchFailed", failure)),
            }
        }
        Ok(report.reading.is_empty())
    }

    /// The shares in watches that are needed; all others are given back, unless something is left to prune.
    fn shares<'s, S: Store, M>(
        &self,
        scene: &'s Scene<'_, M>,
        inventory: &Inventory<'_, S>,
    ) -> Vec<(&'s Kind, Arc<Lease>)> {
        let order = scene.order;
        let mut needed = Vec::new();
        for ((cluster, ..), kind) in &scene.kinds {
            let Some(cluster) = order.clusters.get(cluster) else {
                continue;
            };
            let lease = self.lease(order.key, cluster, kind, Scope::Marked);
            needed.push((kind, lease));
        }
        let prunable = inventory
            .entries()
            .keys()
            .any(|id| !order.wanted.iter().any(|wanted| wanted.is_beside(id)));
        if !prunable {
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            let needed = needed.iter().map(|(_, lease)| lease.clone()).collect();
            let held = leases.get_mut(order.key);
            let surplus = held.map(|held| std::mem::replace(held, needed));
            drop(leases);
            drop(surplus);
        }
        needed
    }

    pub(super) fn candidates<'a, M>(&self, scene: &Scene<'a, M>) -> Result<Vec<Candidate<'a>>, Fault> {
        let mut seen = BTreeMap::new();
        let mut candidates = Vec::with_capacity(scene.order.wanted.len());
        for wanted in &scene.order.wanted {
            let kind = scene.kind(wanted);
            let id = wanted.id(kind);
            if seen.insert(id.clone(), ()).is_some() {
                return Err(Fault::new(
                    Class::Bug,
                    "DuplicateObject",
                    format!("{id} is wanted twice on {}", id.cluster),
                ));
            }
            let lease = kind.zip(scene.order.clusters.get(&id.cluster));
            let lease =
                lease.map(|(kind, cluster)| self.lease(scene.order.key, cluster, kind, Scope::Marked));
            let live = lease.and_then(|lease| lease.follow(&id.namespace, &id.name));
            candidates.push(Candidate { wanted, live, id });
        }
        Ok(candidates)
    }

    /// The hash of what is wanted: the object, and what a maker completes it from.
    pub(super) fn hash<S: Store>(&self, wanted: &Wanted, inventory: &Inventory<'_, S>) -> Digest {
        let digester = self.children.digester();
        let Some(recipe) = &wanted.recipe else {
            return digester.of_value(&wanted.object);
        };
        let of = inventory
            .entries()
            .get(&recipe.of)
            .and_then(|entry| entry.uid.as_deref());
        digester.of_value(&json!([wanted.object, recipe.text, of]))
    }

    /// Decides and acts, wave by wave. `true` when every object is where it should be, ready or not.
    async fn run_waves<S: Store, M: Maker>(
        &self,
        scene: &Scene<'_, M>,
        candidates: &[Candidate<'_>],
        inventory: &mut Inventory<'_, S>,
        report: &mut Report,
    ) -> bool {
        let mut complete = true;
        // Whether all earlier waves are ready: only then are the objects of the next one made.
        let mut open = true;
        let ending = ending_namespaces(candidates);
        for wave in Wave::ALL {
            let mut running = Vec::new();
            let mut later = 0;
            for candidate in candidates
                .iter()
                .filter(|candidate| candidate.wanted.wave == wave)
            {
                let hash = self.hash(candidate.wanted, inventory);
                let Some(entry) = inventory.entries().get(&candidate.id).cloned() else {
                    continue;
                };
                // How it is to be removed one day may change while the object itself does not.
                let entry = Entry {
                    wave,
                    orphan: candidate.wanted.retain,
                    ..entry
                };
                inventory.record(entry.clone());
                let action = plan::decide(candidate, hash, Some(&entry), scene.order.now);
                let nowhere = ending.contains(&(&*candidate.id.cluster, &*candidate.id.namespace));
                let writes = !matches!(action, Action::Nothing | Action::Await | Action::Report);
                if (nowhere && writes) || (!open && action == Action::Create) {
                    later += 1;
                } else {
                    running.push(self.run_step(
                        scene,
                        Step {
                            candidate,
                            entry,
                            hash,
                            action,
                        },
                    ));
                }
            }
            // A list of futures rather than a closure that makes them: that one could not be proved `Send`.
            let done: Vec<_> = stream::iter(running)
                .buffer_unordered(CONCURRENCY)
                .collect()
                .await;
            for (candidate, outcome) in done {
                let standing = take_in(candidate, outcome, inventory, report);
                complete &= standing != Standing::Missing;
                open &= standing == Standing::Ready;
            }
            if later > 0 {
                report
                    .missing
                    .push(format!("{later} more objects are made when these are ready"));
                complete = false;
            }
        }
        report.wake_for_renewals(scene.order.now);
        complete
    }
}

/// Our namespaces that are being deleted, with their clusters: nothing can be made in them.
fn ending_namespaces<'a>(candidates: &'a [Candidate<'_>]) -> Vec<(&'a str, &'a str)> {
    let ending = candidates.iter().filter(|candidate| {
        let id = &candidate.id;
        id.kind == "Namespace"
            && id.group.is_empty()
            && candidate.live.as_ref().is_some_and(Child::is_deleting)
    });
    ending.map(|it| (&*it.id.cluster, &*it.id.name)).collect()
}
