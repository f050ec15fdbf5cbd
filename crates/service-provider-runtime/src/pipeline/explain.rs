//! `explain`: what a pass over one service object would see and do, told and not done. It takes the pipeline's own
//! steps, so that it cannot tell another story than they; the connections that it is given refuse to write.
use super::{apply, compute, mark, operation, read};
use crate::{
    access::{ClusterName, Identities, Owner, Reached, Site},
    children::Recorded,
    deletion,
    desired::{Desired, Role},
    external,
    identity::workload_namespace,
    provider::ServiceProvider,
    stop::Stop,
    world::World,
};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use openmcp_api::{Inventory as Stored, common::ObjectReference, inventory::Owner as OwnerRef, names};
use openmcp_reconcile::{
    Fault, Key,
    children::{Cluster, Convergence, Health, Preview},
    inventory::{Id, Inventory},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// First lists of the children's kinds are waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole text.
pub(crate) async fn explain<P: ServiceProvider>(world: &Arc<World<P>>, key: &Key) -> Result<String, Fault> {
    let mut lines = Vec::new();
    let object = match world.objects.get(&key.namespace, &key.name) {
        Ok(object) => object,
        Err(unreadable) => {
            lines.push(format!("{unreadable}. What it has stays as it is."));
            recorded(world, key, &mut lines).await?;
            return Ok(lines.join("\n"));
        }
    };
    let Some(object) = object else {
        lines.push(format!("{key} does not exist."));
        recorded(world, key, &mut lines).await?;
        return Ok(lines.join("\n"));
    };
    headline(world, key, &object, &mut lines).await?;
    let owner = Owner::new(key);
    let sites = clusters(world, &owner, &mut lines).await?;
    if object.meta().deletion_timestamp.is_some() {
        lines.push("Deletion".to_owned());
        let reached: Vec<Reached> = sites.into_iter().filter_map(|(_, site)| site.ok()).collect();
        match deletion::blockers(world, &owner, &reached).await {
            Ok(()) => lines.push("  nothing of the tenant blocks it".to_owned()),
            Err(stop) => stopped(&stop, &mut lines),
        }
        recorded(world, key, &mut lines).await?;
        return Ok(lines.join("\n"));
    }
    lines.push("Desired".to_owned());
    match desired(world, key, &object, &sites).await {
        Err(stop) => stopped(&stop, &mut lines),
        Ok(desired) => {
            lines.extend(desired.read.iter().map(|read| format!("  read {read}")));
            let waits = desired.waiting.iter();
            lines.extend(waits.map(|wait| format!("  waits for {}: {}", wait.on, wait.why)));
            lines.push(format!(
                "  objects: {}, workload identities: {}",
                desired.objects.len(),
                desired.identities.len()
            ));
            let backends = backends(world, &owner, &object, &desired).await?;
            lines.push("Objects: what they are, and what a pass would do about them".to_owned());
            match previews(world, &owner, &object, desired, sites).await {
                Ok(previews) => lines.extend(previews),
                Err(stop) => stopped(&stop, &mut lines),
            }
            lines.extend(backends);
        }
    }
    Ok(lines.join("\n"))
}

/// What the object says itself, and the inputs.
async fn headline<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
    lines: &mut Vec<String>,
) -> Result<(), Fault> {
    let meta = object.meta();
    let status = object.status().cloned().unwrap_or_default();
    lines.push(format!(
        "{key}, generation {} (acted on: {}), UID {}",
        meta.generation.unwrap_or_default(),
        status.observed_generation,
        object.uid().unwrap_or_default()
    ));
    for condition in &status.conditions {
        let (kind, holds) = (&condition.type_, &condition.status);
        lines.push(format!(
            "  {kind}={holds} {}: {}",
            condition.reason, condition.message
        ));
    }
    lines.push("Inputs".to_owned());
    match read::inputs(world, key) {
        Ok(config) => lines.push(format!(
            "  ProviderConfig {}, generation {}; the ControlPlane exists",
            world.names.provider,
            config.meta().generation.unwrap_or_default()
        )),
        Err(error) => stopped(&error.into(), lines),
    }
    if let Some(by) = operation::paused(world, object, world.inventory_of(key).await?.as_deref()) {
        lines.push(format!(
            "  {by}: passes do nothing; a deletion goes on all the same"
        ));
    }
    Ok(())
}

async fn desired<P: ServiceProvider>(
    world: &Arc<World<P>>,
    key: &Key,
    object: &Arc<P::Api>,
    sites: &[Site],
) -> Result<Desired, Stop> {
    let config = read::inputs(world, key)?;
    let stored = world.inventory_of(key).await?;
    let children = Recorded::new(&world.engine, key, sites, stored.as_deref());
    let patience = Patience(Instant::now());
    loop {
        let desired = compute::desired(world, key, object, &config, stored.as_ref(), Some(&children));
        let desired = desired.await?;
        if desired.reading.is_empty() {
            return Ok(desired);
        }
        patience.pause().await?;
    }
}

/// With the first lists of the object's children, since then.
struct Patience(Instant);

impl Patience {
    async fn pause(&self) -> Result<(), Stop> {
        if self.0.elapsed() > PATIENCE {
            let message = format!("the first lists of its objects took longer than {PATIENCE:?}");
            return Err(Stop::wait("Reading", message));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}

/// The clusters, and why some cannot be reached. One that is not known yet stands for those where something was made
/// before: how that is, is not known either.
async fn clusters<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    lines: &mut Vec<String>,
) -> Result<Vec<Site>, Fault> {
    lines.push("Clusters".to_owned());
    let stored = world.inventory_of(owner.key).await?;
    let recorded = stored.as_deref().map(Identities::of).unwrap_or_default();
    let access = world.provider.access();
    let mut sites = Vec::new();
    let mut names = vec![(Role::Mcp, world.requests.mcp_cluster(owner), access.mcp)];
    if let Some(rights) = access.workload {
        let name = world.requests.workload_cluster(owner).await;
        names.push((Role::Workload, name, rights));
    }
    for (role, name, rights) in names {
        let (name, found) = match name {
            Ok(name) => {
                let found = world
                    .requests
                    .reach(owner, name.clone(), &rights, &recorded)
                    .await;
                (Some(name), found)
            }
            Err(stop) => (None, Err(stop)),
        };
        match found {
            Ok(found) => {
                lines.push(format!(
                    "  {}: reached at {}",
                    found.name.title(),
                    found.endpoint.server
                ));
                sites.push((found.name.clone(), Ok(found)));
            }
            Err(stop) => {
                stopped(&stop, lines);
                let fault = stop.into_fault();
                let names = name.map_or_else(|| of_role(role, stored.as_deref()), |name| vec![name]);
                sites.extend(names.into_iter().map(|name| (name, Err(fault.clone()))));
            }
        }
    }
    Ok(sites)
}

/// The clusters in a role where something is recorded; one without a name where nothing is.
fn of_role(role: Role, stored: Option<&Stored>) -> Vec<ClusterName> {
    let recorded = stored.into_iter().flat_map(|stored| &stored.spec.entries);
    let names = recorded.filter_map(|entry| entry.cluster.parse().ok());
    let names: BTreeSet<ClusterName> = names.filter(|name: &ClusterName| name.role == role).collect();
    if names.is_empty() {
        return vec![ClusterName::new(role, &ObjectReference::default())];
    }
    names.into_iter().collect()
}

/// What the Inventory holds, for objects that are on their way out or gone.
async fn recorded<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    lines: &mut Vec<String>,
) -> Result<(), Fault> {
    let owner = Owner::new(key);
    let name = names::inventory(world.names.provider, world.names.kind, &key.name);
    let Some(stored) = world.inventory_of(key).await? else {
        lines.push(format!(
            "There is no Inventory {}/{name}: nothing is left of it.",
            owner.namespace
        ));
        return Ok(());
    };
    lines.push(format!("Still in Inventory {}/{name}", owner.namespace));
    for entry in &stored.spec.entries {
        let place = entry
            .namespace
            .as_deref()
            .map(|it| format!("{it}/"))
            .unwrap_or_default();
        let uid = entry.uid.as_deref().unwrap_or("not seen yet");
        lines.push(format!(
            "  {} {place}{} on {}, UID {uid}",
            entry.kind, entry.name, entry.cluster
        ));
    }
    for row in &stored.spec.values {
        lines.push(format!("  generated value {} in Secret {}", row.name, row.secret));
    }
    for row in &stored.spec.externals {
        let name = row.name.as_deref().unwrap_or("no name known yet");
        lines.push(format!(
            "  {} {}, {name}, nonce {}",
            row.backend, row.key, row.nonce
        ));
    }
    Ok(())
}

async fn previews<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    object: &P::Api,
    desired: Desired,
    sites: Vec<Site>,
) -> Result<Vec<String>, Stop> {
    let uid = object.uid().unwrap_or_default();
    let mark = mark(&uid);
    let home = workload_namespace(world.names.provider, &owner.key.namespace, &owner.key.name);
    let objects = desired.objects.into_iter().map(|it| (it.role, it.wanted));
    let reached = sites.iter().filter_map(|(_, site)| site.as_ref().ok());
    let clusters: BTreeMap<String, Cluster> = reached
        .map(|it| (it.name.to_string(), it.cluster.clone()))
        .collect();
    let unreached = sites.iter().filter(|(_, site)| site.is_err());
    let unreached: BTreeSet<String> = unreached.map(|(name, _)| name.to_string()).collect();
    let wanted = apply::wanted(world, &home, objects, &desired.identities, &sites, &mark)?;
    let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
    let stored = world.inventory_of(owner.key).await?;
    let nobody = OwnerRef::default();
    let record = world.inventories.record(&owner.namespace, &name, nobody, stored);
    let inventory = Inventory::new(&record, record.entries());
    let order = Convergence {
        key: owner.key,
        clusters: &clusters,
        mark: &mark,
        wanted,
        waiting: !desired.waiting.is_empty() || !unreached.is_empty(),
        now: world.environment.now(),
    };
    let patience = Patience(Instant::now());
    loop {
        if let Some(previews) = world.engine.preview(&order, &inventory).await? {
            let told = |it: &Preview| match unreached.contains(&it.id.cluster) {
                true => format!("  {} on {}: not known, it is not reached", it.id, it.id.cluster),
                false => preview(it),
            };
            return Ok(previews.iter().map(told).collect());
        }
        patience.pause().await?;
    }
}

/// The resources in back ends, which are asked for them.
async fn backends<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    object: &P::Api,
    desired: &Desired,
) -> Result<Vec<String>, Fault> {
    if world.backends.is_empty() {
        return Ok(Vec::new());
    }
    let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
    let stored = world.inventory_of(owner.key).await?;
    let nobody = OwnerRef::default();
    let record = world.inventories.record(&owner.namespace, &name, nobody, stored);
    let uid = object.uid().unwrap_or_default();
    let scene = world.externals(owner.key, &uid, &record);
    let mut lines = vec!["External resources: what they are".to_owned()];
    lines.extend(external::preview(&scene, &desired.externals).await);
    Ok(lines)
}

fn preview(it: &Preview) -> String {
    let Id { cluster, .. } = &it.id;
    let state = match (&it.recorded, &it.live) {
        (_, Some(live)) => match live.health() {
            Health::Ready => format!("ready, digest {}", live.digest()),
            Health::Progressing(why) => format!("not ready: {why}"),
            Health::Failed(why) => format!("failed: {why}"),
            Health::Terminating => "being deleted".to_owned(),
        },
        (Some(uid), None) => format!("absent; recorded with UID {uid}"),
        (None, None) => "absent".to_owned(),
    };
    format!(
        "  {} on {cluster}\n    is    {state}\n    next  {}",
        it.id, it.action
    )
}

fn stopped(stop: &Stop, lines: &mut Vec<String>) {
    lines.push(format!("  {}: {}", stop.reason(), stop.message()));
}
