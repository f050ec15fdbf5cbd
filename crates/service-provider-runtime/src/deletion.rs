//! The deletion planner (runtime design §5): from the Inventory alone, without ProviderConfig and provider code.
//!
//! Order: block while the tenant still has objects of the kinds that the service installed, and list them; remove
//! custom resources that we made; look again; remove the definitions and confirm them gone while the controller
//! still runs, for it may hold finalizers; then workloads, credentials, configuration, namespaces; then the access;
//! then the Inventory. Each pass goes as far as it can, and starts from what is recorded: a restart loses nothing.
mod domain;
mod externals;
mod policy;
mod reach;

use crate::{
    access::{Owner, Reached},
    pipeline::mark,
    provider::ServiceProvider,
    stop::Stop,
    values,
    world::World,
};
use openmcp_api::{Inventory as Stored, names};
use openmcp_reconcile::{
    Fault, Key,
    apply::Mark,
    children::{Cluster, TearDown, Wave},
    inventory::{Entry, Id, Inventory, Store},
};
use policy::{Policy, Receipt};
pub(crate) use reach::reach_recorded;
use reach::strike_all;
use std::{collections::BTreeMap, sync::Arc};

/// Names in a message.
const LISTED: usize = 10;

/// Removes everything that was made for a service object, its accesses included. `Ok` means gone.
pub(crate) async fn run<P: ServiceProvider>(world: &World<P>, key: &Key) -> Result<(), Stop> {
    let owner = Owner::new(key);
    if let Some(stored) = world.inventory_of(key).await? {
        tear_down(world, &owner, stored).await?;
    }
    world
        .requests
        .release(&owner, |uses| world.inventories.any(uses))
        .await
}

/// Whether objects of the tenant block the deletion, as far as the clusters can be reached.
pub(crate) async fn blockers<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    reached: &[Reached],
) -> Result<(), Stop> {
    let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
    let Some(stored) = world.inventory_of(owner.key).await? else {
        return Ok(());
    };
    let of = stored.spec.owner.clone();
    let mark = mark(&of.uid);
    let record = world
        .inventories
        .record(&owner.namespace, &name, of, Some(stored));
    let reached = reached
        .iter()
        .map(|it| (it.name.to_string(), it.clone()))
        .collect();
    domain::check(world, owner, &reached, &mark, record.entries().iter()).await
}

/// Removes everything that an Inventory lists, then the Inventory.
pub(crate) async fn tear_down<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    stored: Arc<Stored>,
) -> Result<(), Stop> {
    world.inventories.admit_onboarding(&stored)?;
    let policy = Policy::of(&stored)?;
    let mut receipt = match policy {
        Policy::Delete => None,
        _ => Some(Receipt::open(world, owner, &stored, policy).await?),
    };
    let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
    let of = stored.spec.owner.clone();
    let mark = mark(&of.uid);
    let record = world
        .inventories
        .record(&owner.namespace, &name, of, Some(stored));
    let mut inventory = Inventory::new(&record, record.entries());
    let (mut sites, mut reached) = (BTreeMap::new(), BTreeMap::new());
    reach_recorded(world, owner, &record, &mut inventory, &mut sites).await?;
    for (cluster, site) in sites {
        let fault = match site {
            Ok(found) => {
                reached.insert(cluster, found);
                continue;
            }
            Err(fault) => fault,
        };
        let Some(receipt) = receipt.as_mut().filter(|_| policy == Policy::Force) else {
            return Err(fault.into());
        };
        receipt
            .note(&[format!("what is on {cluster} was left: {fault}")])
            .await?;
        strike_all(&mut inventory, &cluster).await?;
    }
    let scene = Scene {
        world,
        owner,
        mark: &mark,
        clusters: reached
            .iter()
            .map(|(name, reached)| (name.clone(), reached.cluster.clone()))
            .collect(),
        reached,
    };
    match policy {
        Policy::Delete => scene.delete(&mut inventory, None).await?,
        Policy::Orphan => scene.orphan(&mut inventory).await?,
        Policy::Force => scene.delete(&mut inventory, receipt.as_mut()).await?,
    }
    drop(inventory);
    if policy != Policy::Orphan {
        // Last: nothing on a cluster uses them any more.
        externals::remove(world, owner, &record, &mark.value, receipt.as_mut()).await?;
        values::remove(world, owner, &record).await?;
    }
    match record.stored() {
        Some(stored) => Ok(world.inventories.remove(&stored).await?),
        None => Ok(()),
    }
}

/// What the removal of one owner's objects works with.
struct Scene<'a, P: ServiceProvider> {
    world: &'a World<P>,
    owner: &'a Owner<'a>,
    mark: &'a Mark,
    clusters: BTreeMap<String, Cluster>,
    reached: BTreeMap<String, Reached>,
}

impl<P: ServiceProvider> Scene<'_, P> {
    /// In the usual order. By force, with a receipt, nothing blocks it and no finalizer holds it.
    async fn delete<S: Store>(
        &self,
        inventory: &mut Inventory<'_, S>,
        mut force: Option<&mut Receipt>,
    ) -> Result<(), Stop> {
        if force.is_none() {
            self.check(inventory).await?;
        }
        let (custom, rest) = phases(inventory.entries().values());
        for groups in [vec![custom], rest] {
            if groups.iter().all(Vec::is_empty) {
                continue;
            }
            if force.is_none() {
                // Somebody may have made one meanwhile: the definitions take all their objects with them.
                self.check(inventory).await?;
            }
            let torn = self.tear(groups, inventory).await?;
            if torn.waiting.is_empty() {
                continue;
            }
            if let Some(receipt) = &mut force {
                let stripped = self.strip(inventory).await?;
                receipt.note(&stripped).await?;
                // Somebody may put a finalizer back, and no event would tell.
                return Err(Fault::retry("DeletingObjects", waiting(&torn).message()).into());
            }
            return Err(waiting(&torn));
        }
        Ok(())
    }

    async fn check<S: Store>(&self, inventory: &Inventory<'_, S>) -> Result<(), Stop> {
        let entries = inventory.entries().values();
        domain::check(self.world, self.owner, &self.reached, self.mark, entries).await
    }

    /// Everything stays, without our marks.
    async fn orphan<S: Store>(&self, inventory: &mut Inventory<'_, S>) -> Result<(), Stop> {
        let entries: Vec<Entry> = inventory.entries().values().cloned().collect();
        for entry in &entries {
            inventory.record(Entry {
                orphan: true,
                ..entry.clone()
            });
        }
        let all = entries.into_iter().map(|entry| entry.id).collect();
        let torn = self.tear(vec![all], inventory).await?;
        match torn.waiting.is_empty() {
            true => Ok(()),
            false => Err(waiting(&torn)),
        }
    }

    async fn tear<S: Store>(
        &self,
        groups: Vec<Vec<Id>>,
        inventory: &mut Inventory<'_, S>,
    ) -> Result<TearDown, Fault> {
        let torn = self
            .world
            .engine
            .tear_down(self.owner.key, &self.clusters, self.mark, groups, inventory)
            .await?;
        tell_foreign(self.world, self.owner.key, &torn.foreign);
        Ok(torn)
    }

    /// Takes the finalizers off what is being deleted, and off the objects of definitions that are. Returns what was
    /// done, for the receipt.
    async fn strip<S: Store>(&self, inventory: &Inventory<'_, S>) -> Result<Vec<String>, Fault> {
        let (mut done, now) = (Vec::new(), self.world.environment.now());
        for entry in inventory.entries().values() {
            let Some(cluster) = self.clusters.get(&entry.id.cluster) else {
                continue;
            };
            if domain::is_definition(entry) {
                let others = self.world.engine.strip_others_of(cluster, self.mark, entry, now);
                done.extend(others.await?);
            }
            done.extend(
                self.world
                    .engine
                    .strip_finalizers(cluster, self.mark, entry, now)
                    .await?,
            );
        }
        done.iter()
            .for_each(|line| tracing::warn!(key = %self.owner.key, "by force: {line}"));
        Ok(done)
    }
}

/// What stays because it is not ours any more is said where the service object's owner looks.
pub(crate) fn tell_foreign<P: ServiceProvider>(world: &World<P>, key: &Key, foreign: &[Id]) {
    if foreign.is_empty() {
        return;
    }
    let object = world.objects.get(&key.namespace, &key.name).ok().flatten();
    for id in foreign {
        let note = format!("{id} is not ours any more, or is somebody's copy: it was left alone");
        tracing::warn!(%key, "{note}");
        if let Some(object) = &object {
            world.note(&**object, true, "ForeignObject", "Remove", note);
        }
    }
}

fn waiting(torn: &TearDown) -> Stop {
    let message = format!("waiting until these are gone: {}", listed(&torn.waiting));
    match torn.unwatched {
        true => Stop::Fault(Fault::retry("DeletingObjects", message)),
        false => Stop::wait("DeletingObjects", message),
    }
}

/// Custom resources first; then definitions, and then wave by wave what is left.
fn phases<'a>(entries: impl Iterator<Item = &'a Entry>) -> (Vec<Id>, Vec<Vec<Id>>) {
    let mut custom = Vec::new();
    let mut definitions = Vec::new();
    let mut waves: BTreeMap<std::cmp::Reverse<Wave>, Vec<Id>> = BTreeMap::new();
    for entry in entries {
        if entry.wave == Wave::Custom {
            custom.push(entry.id.clone());
        } else if domain::is_definition(entry) {
            definitions.push(entry.id.clone());
        } else {
            waves
                .entry(std::cmp::Reverse(entry.wave))
                .or_default()
                .push(entry.id.clone());
        }
    }
    let rest = [definitions]
        .into_iter()
        .chain(waves.into_values())
        .filter(|group| !group.is_empty());
    (custom, rest.collect())
}

/// The first few, and how many more.
fn listed(items: &[String]) -> String {
    let shown = items.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cluster: &str, group: &str, kind: &str, name: &str) -> Entry {
        let id = Id {
            cluster: cluster.into(),
            group: group.into(),
            kind: kind.into(),
            namespace: String::new(),
            name: name.into(),
        };
        let wave = Wave::of(group, kind);
        Entry {
            id,
            version: "v1".into(),
            uid: Some("1".into()),
            wave,
            desired: None,
            live: None,
            orphan: false,
        }
    }

    #[test]
    fn definitions_go_before_the_controller_and_namespaces_last() {
        let entries = [
            entry("workload/a/b", "", "Namespace", "ns"),
            entry("workload/a/b", "apps", "Deployment", "kro"),
            entry(
                "mcp/a/b",
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "rgds.kro.run",
            ),
            entry("mcp/a/b", "rbac.authorization.k8s.io", "ClusterRole", "kro"),
            entry("mcp/a/b", "kro.run", "ResourceGraphDefinition", "ours"),
        ];
        let (custom, rest) = phases(entries.iter());
        let names = |group: &Vec<Id>| group.iter().map(|id| id.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&custom), ["ours"]);
        assert_eq!(
            rest.iter().map(names).collect::<Vec<_>>(),
            [["rgds.kro.run"], ["kro"], ["kro"], ["ns"]]
        );
        assert_eq!(rest[1][0].kind, "Deployment");
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(listed(&items), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}
