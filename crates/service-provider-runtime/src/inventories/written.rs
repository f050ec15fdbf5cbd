//! What was written and the watch has not shown yet: it counts until then.
use crate::archive::version;
use kube::ResourceExt;
use openmcp_api::Inventory;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Namespace and name.
pub(super) type Slot = (String, String);

/// The last own writes that the watch has not shown.
pub(super) type Written = HashMap<Slot, Last>;

/// The last own write, until the watch has shown it.
#[derive(Clone)]
pub(super) enum Last {
    Wrote(Arc<Inventory>),
    /// It may have arrived or not: read it from the API server. The number tells it from other such writes.
    Unknown(u64),
    /// The one with this UID was removed.
    Removed(Option<String>),
}

pub(super) fn lock(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a write that the watch has shown, or gone past.
pub(super) fn catch_up(written: &mut Written, shown: &Inventory, gone: bool) {
    let slot = (shown.namespace().unwrap_or_default(), shown.name_any());
    let passed = match written.get(&slot) {
        Some(Last::Wrote(own)) if gone => shown.uid() == own.uid(),
        Some(Last::Wrote(own)) => version(&shown.metadata) >= version(&own.metadata),
        Some(Last::Removed(uid)) => gone && shown.uid() == *uid,
        Some(Last::Unknown(_)) | None => false,
    };
    if passed {
        written.remove(&slot);
    }
}

/// Takes over what was read because of an unknown write. `false`: somebody has written or read it meanwhile, and that
/// counts.
pub(super) fn learn(
    written: &mut Written,
    slot: &Slot,
    unknown: u64,
    found: Option<&Arc<Inventory>>,
) -> bool {
    if !matches!(written.get(slot), Some(Last::Unknown(number)) if *number == unknown) {
        return false;
    }
    match found {
        Some(found) => written.insert(slot.clone(), Last::Wrote(found.clone())),
        None => written.remove(slot),
    };
    true
}

/// What was read or written last. Resource versions are decimal numbers that grow.
pub(super) fn newer(own: Arc<Inventory>, seen: Option<Arc<Inventory>>) -> Arc<Inventory> {
    match seen {
        Some(seen) if version(&seen.metadata) > version(&own.metadata) => seen,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openmcp_api::inventory::InventorySpec;

    #[test]
    fn what_was_read_because_of_an_unknown_write_does_not_replace_a_later_one() {
        let inventory = |version: &str| {
            let mut inventory = Inventory::new("x", InventorySpec::default());
            inventory.metadata.resource_version = Some(version.to_owned());
            Arc::new(inventory)
        };
        let (slot, read) = ((String::new(), "x".to_owned()), inventory("5"));
        let last = |written: &Written| match written.get(&slot) {
            Some(Last::Wrote(it)) => it.metadata.resource_version.clone(),
            _ => None,
        };
        let mut written = Written::from([(slot.clone(), Last::Unknown(1))]);
        written.insert(slot.clone(), Last::Wrote(inventory("6")));
        assert!(!learn(&mut written, &slot, 1, Some(&read)));
        assert_eq!(last(&written).as_deref(), Some("6"));
        written.insert(slot.clone(), Last::Unknown(2));
        assert!(!learn(&mut written, &slot, 1, None), "that is another write");
        assert!(learn(&mut written, &slot, 2, Some(&read)));
        assert_eq!(last(&written).as_deref(), Some("5"));
    }
}
