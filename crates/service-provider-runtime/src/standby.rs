//! What a replica that stands by keeps warm beside what it knows of platform and onboarding: the watches of all children,
//! so that it lists nothing when it has to take over (runtime design §8). It writes nothing.
//!
//! Owns which watches those are: one of each kind on each cluster that an Inventory lists. They are held for a service
//! object that has such a child, and are its own when its first pass comes.
use crate::{
    access::{ClusterName, Identities, Owner},
    inventories,
    provider::ServiceProvider,
    world::World,
};
use openmcp_reconcile::{Key, Lane, inventory::Entry};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Between two looks at what the Inventories list.
const BETWEEN: Duration = Duration::from_secs(300);

/// A kind on a cluster. In order: one seed of a simulation leads to one run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Watched {
    cluster: String,
    api_version: String,
    kind: String,
}

/// What is not watched yet, and for whom it will be.
struct Missing {
    key: Key,
    recorded: Identities,
    entry: Entry,
}

/// Opens the watches, and looks now and then for more of them.
pub(crate) async fn watch_children<P: ServiceProvider>(world: Arc<World<P>>, until: CancellationToken) {
    let watch = async {
        let mut open = BTreeMap::new();
        loop {
            for (watched, missing) in look(&world, &mut open).await {
                if follow(&world, &missing).await {
                    open.insert(watched, missing.key);
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    until.run_until_cancelled(watch).await;
}

/// What is missing. What no Inventory lists any more is let go.
async fn look<P: ServiceProvider>(
    world: &World<P>,
    open: &mut BTreeMap<Watched, Key>,
) -> BTreeMap<Watched, Missing> {
    let (mut missing, mut listed) = (BTreeMap::new(), BTreeSet::new());
    let looked = world.inventories.each(|inventory| {
        for entry in inventories::entries(inventory).filter(|entry| entry.uid.is_some()) {
            let watched = Watched {
                cluster: entry.id.cluster.clone(),
                api_version: entry.api_version(),
                kind: entry.id.kind.clone(),
            };
            if !open.contains_key(&watched) && !missing.contains_key(&watched) {
                let owner = &inventory.spec.owner;
                let of = Missing {
                    key: Key::new(world.names.kind, &*owner.namespace, &*owner.name),
                    recorded: Identities::of(inventory),
                    entry,
                };
                missing.insert(watched.clone(), of);
            }
            listed.insert(watched);
        }
    });
    match looked.await {
        Ok(()) => {
            let left = open.iter().filter(|(watched, _)| !listed.contains(watched));
            let left: BTreeSet<Key> = left.map(|(_, key)| key.clone()).collect();
            left.iter().for_each(|key| world.forget(key));
            // What else was watched for the same service object is opened anew.
            open.retain(|_, key| !left.contains(key));
        }
        // What is open stays open.
        Err(fault) => tracing::debug!("not all Inventories can be read: {fault}"),
    }
    missing
}

/// Whether the watch is open.
async fn follow<P: ServiceProvider>(world: &World<P>, missing: &Missing) -> bool {
    let Missing { key, recorded, entry } = missing;
    let Ok(name) = entry.id.cluster.parse::<ClusterName>() else {
        return false;
    };
    // Should it lead, its first pass takes the watch over, or lets it go.
    world.handle.wake(key.clone(), Lane::Bulk);
    let rights = world.provider.access().on(name.role);
    let (requests, owner) = (&world.requests, Owner::new(key));
    match requests.reach(&owner, name, &rights, recorded).await {
        Ok(reached) => world.engine.seen(key, &reached.cluster, entry).await.is_ok(),
        // It is not granted yet, or not as this version needs it: the leader asks for it. Or nothing answers there.
        Err(stop) => {
            tracing::debug!(%key, "its cluster is not reached: {}", stop.into_fault());
            false
        }
    }
}
