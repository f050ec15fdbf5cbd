//! The clusters that the entries of an Inventory are on.
use crate::{
    access::{ClusterName, Owner, Reached},
    inventories::Record,
    provider::ServiceProvider,
    stop::Stop,
    world::World,
};
use openmcp_reconcile::{
    Fault,
    fault::Class,
    inventory::{Id, Inventory, Store},
};
use std::collections::{BTreeMap, BTreeSet};

/// Connects the clusters that entries are on. Entries on a cluster of which the platform says that it is gone are
/// struck off: they went with it. Why others cannot be reached is told in `sites`; one that is slow can be, in its turn.
pub(crate) async fn reach_recorded<P: ServiceProvider, S: Store>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
    inventory: &mut Inventory<'_, S>,
    sites: &mut BTreeMap<String, Result<Reached, Fault>>,
) -> Result<(), Stop> {
    let recorded: BTreeSet<String> = inventory.entries().keys().map(|id| id.cluster.clone()).collect();
    for cluster in recorded {
        if sites.contains_key(&cluster) {
            continue;
        }
        let name: ClusterName = cluster
            .parse()
            .map_err(|error| Fault::new(Class::Bug, "UnknownCluster", format!("{error}")))?;
        if world.requests.is_gone(&name).await? {
            tracing::info!(key = %owner.key, %name, "the cluster is gone, and with it what was on it");
            strike_all(inventory, &cluster).await?;
            continue;
        }
        let rights = world.provider.access().on(name.role);
        let identities = record.identities();
        let site = match world.requests.site(owner, name, &rights, &identities).await {
            Ok((_, site)) => site,
            Err(turn @ Stop::Turn { .. }) => return Err(turn),
            Err(stop) => Err(stop.into_fault()),
        };
        if let Ok(found) = &site {
            record.note(found);
        }
        sites.insert(cluster, site);
    }
    Ok(())
}

pub(super) async fn strike_all<S: Store>(
    inventory: &mut Inventory<'_, S>,
    cluster: &str,
) -> Result<(), Fault> {
    let gone: Vec<Id> = inventory
        .entries()
        .keys()
        .filter(|id| id.cluster == cluster)
        .cloned()
        .collect();
    gone.iter().for_each(|id| inventory.strike(id));
    inventory.flush().await
}
