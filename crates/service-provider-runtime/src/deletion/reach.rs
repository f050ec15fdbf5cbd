//! The clusters that the entries of an Inventory are on.
use crate::{
    access::{ClusterName, Owner, Reached},
    desired::Role,
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
/// struck off: they went with it.
pub(crate) async fn reach_recorded<P: ServiceProvider, S: Store>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
    inventory: &mut Inventory<'_, S>,
    reached: &mut BTreeMap<String, Reached>,
) -> Result<(), Stop> {
    let failed = reach_each(world, owner, record, inventory, reached).await?;
    failed
        .into_iter()
        .next()
        .map_or(Ok(()), |(_, fault)| Err(fault.into()))
}

/// As [`reach_recorded`]; the clusters that cannot be reached are returned with the reason. One that is slow can be, in
/// its turn.
pub(super) async fn reach_each<P: ServiceProvider, S: Store>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
    inventory: &mut Inventory<'_, S>,
    reached: &mut BTreeMap<String, Reached>,
) -> Result<Vec<(String, Fault)>, Stop> {
    let recorded: BTreeSet<String> = inventory.entries().keys().map(|id| id.cluster.clone()).collect();
    let mut failed = Vec::new();
    for cluster in recorded {
        if reached.contains_key(&cluster) {
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
        let access = world.provider.access();
        let rights = match name.role {
            Role::Mcp => access.mcp,
            Role::Workload => access.workload.unwrap_or_default(),
        };
        match world
            .requests
            .reach(owner, name, &rights, &record.identities())
            .await
        {
            Ok(found) => {
                record.note(&found);
                reached.insert(cluster, found);
            }
            Err(turn @ Stop::Turn { .. }) => return Err(turn),
            Err(stop) => failed.push((cluster, stop.into_fault())),
        }
    }
    Ok(failed)
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
