//! The tenant's objects of the kinds that the service installed: they block the deletion of the service.
//!
//! The kinds are discovered from the definitions in the Inventory, as they are served now.
use crate::{
    access::{Owner, Reached},
    desired::Role,
    provider::ServiceProvider,
    status::DOMAIN_OBJECTS_EXIST,
    stop::Stop,
    world::World,
};
use openmcp_reconcile::{
    apply::Mark,
    children::{Others, Ours},
    inventory::Entry,
};
use std::collections::BTreeMap;

/// Whether an entry is a definition on the tenant's ControlPlane: one of the DomainServiceAPI.
pub(super) fn is_definition(entry: &Entry) -> bool {
    entry.id.is_definition() && entry.id.cluster.starts_with(Role::Mcp.as_str())
}

/// Stops while there are objects of the tenant, and lists them. Their end wakes the service object.
pub(super) async fn check<'a, P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    reached: &BTreeMap<String, Reached>,
    mark: &'a Mark,
    entries: impl Iterator<Item = &'a Entry> + Clone,
) -> Result<(), Stop> {
    let ours = Ours::new(mark, entries.clone());
    let mut found = Others::default();
    for entry in entries.filter(|entry| is_definition(entry)) {
        let Some(mcp) = reached.get(&entry.id.cluster) else {
            continue;
        };
        let others = world.engine.others_of(owner.key, &mcp.cluster, entry, &ours);
        found.add(others.await?);
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!("the ControlPlane still has objects of this service; delete them first: {found}");
    Err(Stop::stuck(DOMAIN_OBJECTS_EXIST, message))
}
