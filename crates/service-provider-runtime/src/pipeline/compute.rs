//! Step 2: the provider's pure function, contained: whatever it does, it stops nothing else.
use crate::{
    children::{Answers, Asked, ChildState, Look, Recorded},
    contained::Broken,
    dependents::Source,
    desired::Desired,
    identity::workload_namespace,
    inputs::{Inputs, Invalid},
    provider::ServiceProvider,
    stop::Stop,
    values::{self, Known},
    world::World,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use openmcp_api::Inventory;
use openmcp_reconcile::{Fault, Key, fault::Class, watch::Store};
use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComputeError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Unread(#[from] Fault),
}

impl From<ComputeError> for Stop {
    fn from(error: ComputeError) -> Self {
        let reason = match error {
            ComputeError::Invalid(invalid) => return invalid.into(),
            ComputeError::Unread(fault) => return fault.into(),
            ComputeError::Broken(Broken::Panicked(..)) => "ProviderPanicked",
            ComputeError::Broken(Broken::Stuck(_)) => "ProviderStuck",
        };
        Self::Fault(Fault::new(Class::Bug, reason, error.to_string()))
    }
}

/// What should exist for an object. Asks again until everything that the provider reads has been read once; of its
/// children only what is known is told: nothing, before its clusters are reached.
pub(super) async fn desired<P: ServiceProvider>(
    world: &Arc<World<P>>,
    key: &Key,
    object: &Arc<P::Api>,
    config: &Arc<P::Config>,
    stored: Option<&Arc<Inventory>>,
    children: Option<&Recorded<'_>>,
) -> Result<Desired, ComputeError> {
    // The names that back ends gave, and the values that were generated: of this object, for who asks for them.
    let asks = !world.backends.is_empty() || world.provider.access().generates;
    let recorded = stored
        .filter(|stored| asks && Some(&stored.spec.owner.uid) == object.uid().as_ref())
        .cloned();
    let known = Arc::new(values::known(world, key, recorded.as_deref()).await?);
    let (mut answers, mut reading) = (Answers::new(), Vec::new());
    loop {
        let (recorded, known, told) = (recorded.clone(), known.clone(), answers.clone());
        let (within, of, object, config) = (world.clone(), key.clone(), object.clone(), config.clone());
        let asked = move || ask(&within, &of, &object, &config, recorded.as_deref(), &known, &told);
        let (asked, read) = world.contained.call(key, "desired", asked).await?;
        if !read.unread.is_empty() {
            for store in read.unread {
                store.synced().await;
            }
            continue;
        }
        let mut news = false;
        for (child, told) in read.children {
            if answers.contains_key(&child) {
                continue;
            }
            let state = match children {
                Some(children) => look(children, &child, &mut reading).await?,
                None => told,
            };
            news |= children.is_some();
            answers.insert(child, state);
        }
        if news {
            continue;
        }
        if !reading.is_empty() {
            // Whatever the provider says, it does not know enough.
            let reading = std::mem::take(&mut reading);
            return Ok(Desired {
                reading,
                ..Desired::default()
            });
        }
        // Without knowing its children it may not have read all that it reads.
        if children.is_some() || answers.is_empty() {
            give_up(world, key, &read.names);
        }
        return Ok(Desired { answers, ..asked? });
    }
}

async fn look(
    children: &Recorded<'_>,
    child: &Asked,
    reading: &mut Vec<String>,
) -> Result<ChildState, Fault> {
    Ok(match children.look(child).await? {
        Look::Known(state) => state,
        Look::Reading(kind) => {
            reading.push(kind);
            unread()
        }
    })
}

fn unread() -> ChildState {
    ChildState::Unknown("it is being read".to_owned())
}

/// Ends the watches of what the provider read for this object before and does not read any more.
fn give_up<P: ServiceProvider>(world: &World<P>, key: &Key, names: &BTreeSet<String>) {
    let source = |name: &String| {
        world
            .dependents
            .source(World::<P>::CONFIG_MAP, &world.names.home, name)
    };
    let still: Vec<Source> = names.iter().map(source).collect();
    let mut dropped = world.dependents.read_by(key);
    dropped.retain(|source| world.config_maps.has(*source) && !still.contains(source));
    for source in world.dependents.drop_some(key, dropped) {
        world.config_maps.close(source);
    }
}

/// What the provider read when it was asked.
#[derive(Default)]
struct Read {
    names: BTreeSet<String>,
    /// What has not been listed yet.
    unread: Vec<Store<ConfigMap>>,
    /// Its own children, and what it was told.
    children: Answers,
}

fn read_config_map<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    name: &str,
    read: &RefCell<Read>,
) -> Result<Arc<ConfigMap>, String> {
    let home = &world.names.home;
    read.borrow_mut().names.insert(name.to_owned());
    world.dependents.add(key, World::<P>::CONFIG_MAP, home, name);
    let store = world.config_maps.store(home, name);
    match store.get(home, name) {
        Some(found) => Ok(found),
        None if store.is_synced() => Err(format!("it does not exist in namespace {home}")),
        None => {
            read.borrow_mut().unread.push(store);
            Err("it is being read".to_owned())
        }
    }
}

/// Asks once. What the provider read comes along.
fn ask<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    object: &P::Api,
    config: &P::Config,
    recorded: Option<&Inventory>,
    values: &Known,
    answers: &Answers,
) -> (Result<Desired, Invalid>, Read) {
    let read: RefCell<Read> = RefCell::default();
    let inputs = Inputs {
        object,
        config,
        workload_namespace: &workload_namespace(world.names.provider, &key.namespace, &key.name),
        config_maps: &|name| read_config_map(world, key, name, &read),
        children: &|asked| {
            let state = answers.get(&asked).cloned().unwrap_or_else(unread);
            read.borrow_mut().children.insert(asked, state.clone());
            state
        },
        recorded,
        values,
        asks: RefCell::default(),
        lost: RefCell::default(),
        waits: RefCell::default(),
        read: RefCell::default(),
    };
    let asked = world.provider.desired(&inputs).map(|mut desired| {
        desired.waiting.extend(inputs.waits.take());
        desired.asks = inputs.asks.take();
        desired.lost = inputs.lost.take();
        desired.read = inputs.read.take();
        desired
    });
    drop(inputs);
    (asked, read.into_inner())
}
