//! The operation annotation (contract §4, §11.8): `reconcile` runs a pass and is removed first; `ignore` pauses.
//!
//! A platform owner pauses everything by the annotation on the ProviderConfig, and one object by the annotation on
//! its Inventory. A tenant pauses its own object only where the ProviderConfig allows it. Nothing of it blocks a
//! deletion.
use crate::{
    object,
    provider::{ProviderConfig, ServiceProvider},
    world::World,
};
use kube::{Resource, ResourceExt};
use openmcp_api::{Inventory, keys::annotations};
use openmcp_reconcile::{Fault, Key};

/// The value of the annotation.
pub(crate) fn operation<K: Resource>(object: &K) -> Option<&str> {
    object
        .annotations()
        .get(annotations::OPERATION)
        .map(String::as_str)
}

/// Removes the request for a pass: this is the pass.
pub(super) async fn take_reconcile<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
) -> Result<(), Fault> {
    if operation(object) == Some(annotations::OPERATION_RECONCILE) {
        let api = world.objects_in(&key.namespace);
        object::remove_annotation(&api, object, annotations::OPERATION).await?;
    }
    Ok(())
}

/// By whose word the object is left alone, if it is.
pub(super) fn paused<P: ServiceProvider>(
    world: &World<P>,
    object: &P::Api,
    inventory: Option<&Inventory>,
) -> Option<String> {
    let ignored = |operation: Option<&str>| operation == Some(annotations::OPERATION_IGNORE);
    let config = world.configs.get("", world.names.provider);
    if config
        .as_ref()
        .is_some_and(|config| ignored(operation(&**config)))
    {
        return Some("paused by the platform owner on the ProviderConfig".to_owned());
    }
    if inventory.is_some_and(|inventory| ignored(operation(inventory))) {
        return Some("paused by the platform owner".to_owned());
    }
    let allowed = config.is_some_and(|config| config.tenants_may_pause());
    (allowed && ignored(operation(object)))
        .then(|| format!("paused by annotation {}", annotations::OPERATION))
}
