//! Step 2: the provider's pure function, contained: a panic in it stops nothing else.
use crate::{
    desired::Desired,
    identity::workload_namespace,
    inputs::{Inputs, Invalid},
    provider::ServiceProvider,
    stop::Stop,
    world::World,
};
use k8s_openapi::api::core::v1::ConfigMap;
use openmcp_reconcile::{Fault, Key, fault::Class, watch::Store};
use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComputeError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the provider panicked: {0}; nothing was changed, please report it to its authors")]
    Panicked(String),
}

impl From<ComputeError> for Stop {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Invalid(invalid) => invalid.into(),
            ComputeError::Panicked(_) => {
                Self::Fault(Fault::new(Class::Bug, "ProviderPanicked", error.to_string()))
            }
        }
    }
}

/// What should exist for an object. Asks again until everything that the provider reads has been read once.
pub(super) async fn desired<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
    config: &P::Config,
) -> Result<Desired, ComputeError> {
    let workload_namespace = workload_namespace(world.names.provider, &key.namespace, &key.name);
    loop {
        let (asked, unread) = ask(world, key, object, config, &workload_namespace);
        if unread.is_empty() {
            return asked;
        }
        for store in unread {
            store.synced().await;
        }
    }
}

fn read_config_map<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    name: &str,
    unread: &RefCell<Vec<Store<ConfigMap>>>,
) -> Result<Arc<ConfigMap>, String> {
    let home = &world.names.home;
    world.dependents.add(key, World::<P>::CONFIG_MAP, home, name);
    let store = world.config_maps.store(home, name);
    match store.get(home, name) {
        Some(found) => Ok(found),
        None if store.is_synced() => Err(format!("it does not exist in namespace {home}")),
        None => {
            unread.borrow_mut().push(store);
            Err("it is being read".to_owned())
        }
    }
}

/// Asks once. What the provider read and has not been listed yet comes along.
fn ask<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
    config: &P::Config,
    workload_namespace: &str,
) -> (Result<Desired, ComputeError>, Vec<Store<ConfigMap>>) {
    let unread: RefCell<Vec<Store<ConfigMap>>> = RefCell::default();
    let inputs = Inputs {
        object,
        config,
        workload_namespace,
        config_maps: &|name| read_config_map(world, key, name, &unread),
        waits: RefCell::default(),
    };
    // Nothing of ours is in between: what the provider leaves half done it built itself, and it is dropped.
    let asked = catch_unwind(AssertUnwindSafe(|| world.provider.desired(&inputs)));
    let waits = inputs.waits.take();
    drop(inputs);
    let desired = match asked {
        Ok(Ok(mut desired)) => {
            desired.waiting.extend(waits);
            Ok(desired)
        }
        Ok(Err(invalid)) => Err(invalid.into()),
        Err(panic) => Err(ComputeError::Panicked(text_of(&*panic))),
    };
    (desired, unread.into_inner())
}

/// The message of a panic, which is a text in all usual cases.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
