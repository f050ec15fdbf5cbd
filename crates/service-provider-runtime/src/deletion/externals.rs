//! The resources in back ends, removed after everything on clusters that may use them.
use super::{Stop, policy::Receipt};
use crate::{
    access::Owner,
    external::{self, DELETING},
    inventories::Record,
    provider::ServiceProvider,
    world::World,
};

/// Removes what was made in back ends for the owner with this UID. By force, with a receipt, what cannot be removed is
/// left; what is going is waited for.
pub(super) async fn remove<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
    uid: &str,
    force: Option<&mut Receipt>,
) -> Result<(), Stop> {
    let held = external::remove_all(&world.externals(owner.key, uid, record)).await;
    let (going, stuck): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, fault)| fault.reason == DELETING);
    if let Some(receipt) = force.filter(|_| !stuck.is_empty()) {
        let left = stuck.iter().map(|(row, fault)| {
            let name = row.name.as_deref().unwrap_or("its name is not known");
            let (backend, key, nonce) = (&row.backend, &row.key, &row.nonce);
            format!("{backend} {key} ({name}, nonce {nonce}) was left: {fault}")
        });
        receipt.note(&left.collect::<Vec<_>>()).await?;
    } else if let Some((_, fault)) = stuck.into_iter().next() {
        // What somebody has to act on is told before what goes by itself.
        return Err(fault.into());
    }
    going
        .into_iter()
        .next()
        .map_or(Ok(()), |(_, fault)| Err(fault.into()))
}
