//! Step 3: compare with the Inventory and with what is live, apply, observe.
use crate::{
    access::{Owner, Reached, Site},
    children, deletion,
    dependents::Source,
    desired::{Desired, Role, Wait},
    external::{self, Ensured},
    identity::{Tokens, workload_namespace},
    inventories::Record,
    provider::{LiveView, ServiceProvider},
    stop::Stop,
    values,
    world::World,
};
use kube::ResourceExt;
use openmcp_api::{inventory::Owner as OwnerRef, keys::labels, names};
use openmcp_reconcile::{
    Fault, Key,
    apply::Mark,
    children::{Cluster, Convergence, Health, Report, Wanted},
    fault::Class,
    inventory::Inventory,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// When the provider is asked again about what the pass itself has changed.
const AGAIN: Duration = Duration::from_millis(200);

/// What the objects came to.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) health: Health,
    /// What is not there yet, or not gone yet, in words.
    pub(crate) missing: Vec<String>,
    /// Every object is as it is wanted.
    pub(crate) complete: bool,
    /// What is not wanted any more and has to stay for the time being, in words.
    pub(crate) kept: Vec<String>,
    pub(crate) waiting: Vec<Wait>,
    pub(crate) failures: Vec<Fault>,
    /// When time itself makes work.
    pub(crate) wake: Option<Duration>,
}

/// Why the objects could not be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("the provider wants objects on a workload cluster, but its access() does not ask for one")]
    NoWorkload,
}

impl From<ApplyError> for Stop {
    fn from(error: ApplyError) -> Self {
        Self::Fault(Fault::new(Class::Bug, "NoWorkloadAccess", error.to_string()))
    }
}

/// The mark that everything made for a service object bears.
pub(crate) fn mark(owner_uid: &str) -> Mark {
    Mark {
        label: labels::RUNTIME_OWNER,
        value: owner_uid.to_owned(),
    }
}

/// Brings the objects of one service object to what is desired. While one of its clusters does not answer, what was made
/// on the others is repaired; nothing is made anew, for what it builds on may be missing, and nothing is removed. `None`: what
/// is live is still being listed, so that nothing was compared; the object is woken when it can be.
pub(super) async fn apply<P: ServiceProvider>(
    world: &Arc<World<P>>,
    owner: &Owner<'_>,
    object: &P::Api,
    mut desired: Desired,
    sites: Vec<Site>,
    stored: Option<Arc<openmcp_api::Inventory>>,
) -> Result<Option<Applied>, Stop> {
    let unanswered = unanswered(&sites)?;
    let uid = object.uid().unwrap_or_default();
    let mark = mark(&uid);
    let home = workload_namespace(world.names.provider, &owner.key.namespace, &owner.key.name);
    let mut wanted = wanted(
        world,
        &home,
        std::mem::take(&mut desired.objects)
            .into_iter()
            .map(|it| (it.role, it.wanted)),
        &desired.identities,
        &sites,
        &mark,
    )?;
    let mut sites: BTreeMap<String, _> = sites
        .into_iter()
        .map(|(name, site)| (name.to_string(), site))
        .collect();
    let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
    let owner_ref = OwnerRef {
        group: world.names.group.clone(),
        kind: world.names.kind.to_owned(),
        namespace: owner.key.namespace.to_string(),
        name: owner.key.name.to_string(),
        uid,
    };
    let record = world
        .inventories
        .record(&owner.namespace, &name, owner_ref, stored);
    sites.values().flatten().for_each(|reached| record.note(reached));
    let mut inventory = Inventory::new(&record, record.entries());
    if !unanswered.is_empty() {
        let made = |it: &Wanted| {
            it.entry(inventory.entries())
                .is_some_and(|entry| entry.uid.is_some())
        };
        wanted.retain(made);
        desired.waiting.extend(unanswered);
    }
    let current: BTreeSet<String> = sites.keys().cloned().collect();
    // What is left on a cluster that is not used any more is removed there, as far as it can be reached.
    let elsewhere = deletion::reach_recorded(world, owner, &record, &mut inventory, &mut sites).await;
    let (reached, unreached) = part(sites);
    let now = world.environment.now();
    let clusters: BTreeMap<String, Cluster> = reached
        .iter()
        .map(|(name, reached)| (name.clone(), reached.cluster.clone()))
        .collect();
    let order = Convergence {
        key: owner.key,
        clusters: &clusters,
        mark: &mark,
        wanted,
        waiting: !desired.waiting.is_empty(),
        now,
    };
    let tokens = Tokens {
        reached: &reached,
        now,
    };
    let report = world.engine.converge(order, &mut inventory, &tokens).await?;
    if !report.reading.is_empty() {
        tracing::debug!(key = %owner.key, "listing {}", report.reading.join(", "));
        return Ok(None);
    }
    tell(world, owner.key, object, &report);
    let outdated = children::are_outdated(&desired.answers, &report, inventory.entries());
    let outdated = outdated.then_some(AGAIN);
    let health = health(world, owner.key, &report).await;
    if unreached.is_empty() && elsewhere.is_ok() {
        let used = |name: &String| {
            current.contains(name) || inventory.entries().keys().any(|id| id.cluster == *name)
        };
        leave_others(world, owner.key, reached.iter().filter(|(name, _)| used(name)));
    }
    drop(inventory);
    let (made, unmade) = match values::ensure(world, owner, &record, &desired.asks).await {
        Ok(again) => (again, None),
        Err(fault) => (None, Some(fault)),
    };
    // Nothing of them can be in the way of what is repaired on clusters.
    let externals = externals(world, owner.key, object, &record, &desired, &report).await;
    Ok(Some(Applied {
        kept: report.kept,
        complete: report.complete && externals.missing.is_empty() && externals.failures.is_empty(),
        missing: [report.missing, externals.missing].concat(),
        health,
        waiting: desired.waiting,
        failures: unreached
            .into_iter()
            .chain(report.failures.into_iter().map(|failure| failure.fault))
            .chain(elsewhere.err().map(Stop::into_fault))
            .chain(externals.failures)
            .chain(unmade)
            .chain(desired.lost.into_iter().map(values::lost))
            .collect(),
        wake: [report.wake, externals.wake, made, outdated]
            .into_iter()
            .flatten()
            .min(),
    }))
}

/// Gives back the connections to clusters where nothing is wanted or left. By the pass that empties them: nobody may come
/// by again to do it.
fn leave_others<'a, P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    used: impl Iterator<Item = (&'a String, &'a Reached)>,
) {
    let secrets: Vec<Source> = used.map(|(_, reached)| reached.secret).collect();
    world.requests.connections.keep_only(key, &secrets);
}

/// The clusters that do not answer, as what is waited for. Where none does, there is nothing to do.
fn unanswered(sites: &[Site]) -> Result<Vec<Wait>, Fault> {
    let mut waits = Vec::new();
    for (name, site) in sites {
        if let Err(fault) = site {
            if sites.iter().all(|(_, site)| site.is_err()) {
                return Err(fault.clone());
            }
            waits.push(Wait {
                on: name.title(),
                why: fault.message.clone(),
            });
        }
    }
    Ok(waits)
}

/// The clusters that are reached, and why the others are not. When one that does not answer is to be asked again keeps
/// nobody from repairing the others meanwhile.
fn part(sites: BTreeMap<String, Result<Reached, Fault>>) -> (BTreeMap<String, Reached>, Vec<Fault>) {
    let (mut reached, mut unreached) = (BTreeMap::new(), Vec::new());
    for (name, site) in sites {
        match site {
            Ok(found) => drop(reached.insert(name, found)),
            Err(mut fault) => {
                fault.retry_after = None;
                unreached.push(fault);
            }
        }
    }
    (reached, unreached)
}

/// The resources in back ends. What is not wanted any more goes when nothing on the clusters can use it any more.
async fn externals<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
    record: &Record<'_>,
    desired: &Desired,
    report: &Report,
) -> Ensured {
    let recorded = record
        .stored()
        .is_some_and(|stored| !stored.spec.externals.is_empty());
    if desired.externals.is_empty() && !recorded {
        return Ensured::default();
    }
    let uid = object.uid().unwrap_or_default();
    let scene = world.externals(key, &uid, record);
    let mut out = external::ensure(&scene, &desired.externals).await;
    let removed = report.complete && report.kept.is_empty();
    if out.failures.is_empty() && removed && desired.waiting.is_empty() {
        external::prune(&scene, &desired.externals, &mut out).await;
    }
    for (reason, note) in &out.told {
        tracing::info!(%key, "{note}");
        world.note(
            object,
            *reason == "DriftRepaired",
            reason,
            "Reconcile",
            note.clone(),
        );
    }
    out
}

/// What is desired on the clusters that are reached, in the form of the engine: on which Cluster, with our labels.
pub(super) fn wanted<P: ServiceProvider>(
    world: &World<P>,
    workload_namespace: &str,
    objects: impl Iterator<Item = (Role, Wanted)>,
    identities: &[crate::identity::WorkloadIdentity],
    sites: &[Site],
    mark: &Mark,
) -> Result<Vec<Wanted>, Stop> {
    let on = |role: Role| {
        let site = sites.iter().find(|(name, _)| name.role == role);
        site.ok_or(ApplyError::NoWorkload)
    };
    let provider = names::label_value(world.names.provider);
    let mut all: Vec<(Role, Wanted)> = objects.collect();
    if let (_, Ok(mcp)) = on(Role::Mcp)? {
        all.extend(identities.iter().flat_map(|identity| identity.wanted(mcp)));
    }
    if all.iter().any(|(role, _)| *role == Role::Workload) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": workload_namespace}});
        all.push((Role::Workload, Wanted::new(Role::Workload.as_str(), namespace)));
    }
    let finish = |(role, mut wanted): (Role, Wanted)| {
        let (name, site) = on(role)?;
        wanted.cluster = name.to_string();
        wanted.normalize()?;
        wanted.label(labels::RUNTIME_PROVIDER, &provider);
        wanted.label(mark.label, &mark.value);
        Ok(site.is_ok().then_some(wanted))
    };
    all.into_iter().filter_map(|it| finish(it).transpose()).collect()
}

/// Repairs and oddities, as Events on the service object.
fn tell<P: ServiceProvider>(world: &World<P>, key: &Key, object: &P::Api, report: &Report) {
    for drift in &report.repaired {
        tracing::info!(object = object.name_any(), "drift repaired: {drift}");
        world.note(
            object,
            true,
            "DriftRepaired",
            "Repair",
            format!("drift repaired: {drift}"),
        );
    }
    for drift in &report.detected {
        world.note(
            object,
            true,
            "DriftDetected",
            "Observe",
            format!("drift left alone: {drift}"),
        );
    }
    deletion::tell_foreign(world, key, &report.foreign);
}

/// The provider's judgement, contained.
async fn health<P: ServiceProvider>(world: &Arc<World<P>>, key: &Key, report: &Report) -> Health {
    let children: Vec<_> = report
        .live
        .iter()
        .map(|(id, child)| (id.to_string(), child.clone()))
        .collect();
    let (missing, of) = (report.missing.clone(), world.clone());
    let judge = move || {
        let view = LiveView {
            children,
            missing: &missing,
        };
        of.provider.health(&view)
    };
    let judged = world.contained.call(key, "health", judge).await;
    judged.unwrap_or_else(|broken| Health::Failed(broken.to_string().into()))
}
