//! The reconcile of one service object (runtime design §2): read inputs → compute what is desired → reach the
//! clusters → apply and observe → status. This module knows only their order.
//!
//! | step of §2 | where | what stops it |
//! |---|---|---|
//! | read inputs | [`read`] | `ReadError` |
//! | validate, desired | [`compute`]: what the provider refuses, and what the engine cannot apply | `ComputeError` |
//! | reach the clusters | `access` | [`Stop`]: waited for, denied, unreachable |
//! | plan, apply, observe | [`apply`], by `openmcp_reconcile::children` (`plan`, `step`, `observe`) | `ApplyError`, the report |
//! | status | `status`, one verdict a pass | |
//! | deletion | `deletion`, from the Inventory alone | [`Stop`] |
mod apply;
mod compute;
mod explain;
pub(crate) mod operation;
mod read;

pub(crate) use apply::{Applied, mark};
pub(crate) use explain::explain;

use crate::{
    access::{Identities, Owner},
    archive::Unreadable,
    children::Recorded,
    deletion, measures, object,
    provider::{ServiceProvider, ServiceStatus},
    status::{self, Verdict},
    stop::Stop,
    world::World,
};
use kube::{
    Api, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta, PartialObjectMetaExt, Status},
};
use openmcp_api::Inventory;
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler, environment::chance, fault::Class, status::write_status,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt::Debug, sync::Arc, time::Duration};

/// Brings service objects to what they want, for ever.
pub(crate) struct Pipeline<P: ServiceProvider>(pub(crate) Arc<World<P>>);

impl<P: ServiceProvider> Reconciler for Pipeline<P> {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        match self.0.objects.get(&key.namespace, &key.name) {
            Ok(Some(object)) if object.meta().deletion_timestamp.is_some() => {
                operation::take_reconcile(&self.0, key, &*object).await?;
                let status = self.0.statuses.of(key, &*object);
                self.end(key, &*object, &status).await
            }
            Ok(Some(object)) => self.live(key, &object).await,
            Ok(None) => self.leftovers(key).await,
            Err(unreadable) => self.unreadable(key, &unreadable).await,
        }
    }

    /// The object is told as if the fault had stopped the pass. One that is gone has nobody to tell.
    async fn report(&self, key: &Key, fault: &Fault) {
        let stop = Stop::Fault(fault.clone());
        match self.0.objects.get(&key.namespace, &key.name) {
            Ok(Some(object)) => {
                let said = self.0.statuses.of(key, &*object);
                self.cut_off(key, &*object, &said, &stop).await;
            }
            Ok(None) => {}
            Err(unreadable) => {
                let (object, said) = self.bare(key, &unreadable);
                self.cut_off(key, &object, &said, &stop).await;
            }
        }
    }
}

impl<P: ServiceProvider> Pipeline<P> {
    /// An object that is to exist.
    async fn live(&self, key: &Key, object: &Arc<P::Api>) -> Result<Outcome, Fault> {
        let world = &*self.0;
        operation::take_reconcile(world, key, &**object).await?;
        let said = world.statuses.of(key, &**object);
        let stored = world.inventory_of(key).await?;
        if let Some(by) = operation::paused(world, object, stored.as_deref()) {
            self.write(key, &**object, &said, &Verdict::Paused(&by)).await?;
            return Ok(Outcome::Settled);
        }
        match self.bring_up(key, object, stored).await {
            // After a start, nothing is known yet: what was said before stays said.
            Ok(None) => Ok(Outcome::Settled),
            Ok(Some(applied)) => {
                for why in world.requests.outdated(&Owner::new(key)) {
                    world.note(&**object, true, Unreadable::REASON, "Read", why);
                }
                self.write(key, &**object, &said, &Verdict::Applied(&applied))
                    .await?;
                match soonest(applied.failures) {
                    Some(fault) => Err(fault.waking(applied.wake)),
                    None => Ok(applied.wake.map_or(Outcome::Settled, Outcome::Wake)),
                }
            }
            Err(stop) => {
                if !keeps_silent(&**object, &said, &stop) {
                    self.write(key, &**object, &said, &Verdict::Stopped(&stop))
                        .await?;
                }
                ended(stop)
            }
        }
    }

    async fn bring_up(
        &self,
        key: &Key,
        object: &Arc<P::Api>,
        stored: Option<Arc<Inventory>>,
    ) -> Result<Option<Applied>, Stop> {
        let world = &self.0;
        let owner = Owner::new(key);
        let stored = self.finish_former(&owner, object, stored).await?;
        let recorded = stored.as_deref().map(Identities::of).unwrap_or_default();
        let config = read::inputs(world, key)?;
        // Before anything is asked for or made: a wrong wish is told at once, and changes nothing.
        let mut desired = compute::desired(world, key, object, &config, stored.as_ref(), None).await?;
        if !object.finalizers().contains(&world.names.finalizer) {
            let api = world.objects_in(&key.namespace);
            object::add_finalizer(&api, object, &world.names.finalizer).await?;
        }
        let access = world.provider.access();
        let mcp = world.requests.mcp_cluster(&owner)?;
        let mut sites = vec![world.requests.site(&owner, mcp, &access.mcp, &recorded).await?];
        if let Some(rights) = &access.workload {
            let workload = world.requests.workload_cluster(&owner).await?;
            sites.push(world.requests.site(&owner, workload, rights, &recorded).await?);
        }
        if !desired.answers.is_empty() {
            let children = Recorded::new(&world.engine, key, &sites, stored.as_deref());
            desired = compute::desired(world, key, object, &config, stored.as_ref(), Some(&children)).await?;
        }
        if !desired.reading.is_empty() {
            tracing::debug!(%key, "listing {}", desired.reading.join(", "));
            return Ok(None);
        }
        apply::apply(world, &owner, object, desired, sites, stored).await
    }

    /// What an earlier object of the same name left is removed before anything is made for this one. Returns the
    /// Inventory of this one.
    async fn finish_former(
        &self,
        owner: &Owner<'_>,
        object: &P::Api,
        stored: Option<Arc<Inventory>>,
    ) -> Result<Option<Arc<Inventory>>, Stop> {
        match stored {
            Some(former) if Some(&former.spec.owner.uid) != object.uid().as_ref() => {
                deletion::tear_down(&self.0, owner, former).await?;
                Ok(None)
            }
            own => Ok(own),
        }
    }

    /// An object on its way out. Nothing of it is needed but its metadata.
    async fn end<K: Subject>(&self, key: &Key, object: &K, said: &ServiceStatus) -> Result<Outcome, Fault> {
        let world = &*self.0;
        match deletion::run(world, key).await {
            Ok(()) => {
                if object.finalizers().contains(&world.names.finalizer) {
                    let api = self.in_namespace_of(key);
                    object::remove_finalizer(&api, object, &world.names.finalizer).await?;
                }
                world.forget(key);
                Ok(Outcome::Settled)
            }
            Err(stop) => {
                if !keeps_silent(object, said, &stop) {
                    self.write(key, object, said, &Verdict::Terminating(&stop))
                        .await?;
                }
                ended(stop)
            }
        }
    }

    /// An object that exists and says nothing that this build understands: what it has stays as it is.
    async fn unreadable(&self, key: &Key, unreadable: &Unreadable) -> Result<Outcome, Fault> {
        let (object, said) = self.bare(key, unreadable);
        if object.metadata.deletion_timestamp.is_some() {
            return self.end(key, &object, &said).await;
        }
        let why = unreadable.to_string();
        let message = format!(
            "{why}; what was made for it stays as it is, and nothing is repaired, until it is changed or \
             another version runs"
        );
        tracing::error!(%key, reason = Unreadable::REASON, "{message}");
        let stop = Stop::stuck(Unreadable::REASON, message);
        let written = self.write(key, &object, &said, &Verdict::Stopped(&stop)).await;
        if let Err(fault) = written {
            // The API server may refuse all of an object whose definition it does not conform to.
            self.0.note(&object, true, "Stalled", "Reconcile", why);
            return Err(fault);
        }
        Ok(Outcome::Settled)
    }

    /// As much of it as this build can read, and its status.
    fn bare(&self, key: &Key, unreadable: &Unreadable) -> (PartialObjectMeta<P::Api>, ServiceStatus) {
        let object: PartialObjectMeta<P::Api> = unreadable.metadata.clone().into_request_partial();
        let shown = ServiceStatus::deserialize(&unreadable.status).unwrap_or_default();
        let said = self.0.statuses.newer(key, &object.metadata, shown);
        (object, said)
    }

    /// Says why a pass did not come to its end. Where the status cannot be written, an Event at least is tried.
    async fn cut_off<K: Subject>(&self, key: &Key, object: &K, said: &ServiceStatus, stop: &Stop) {
        let verdict = match object.meta().deletion_timestamp {
            Some(_) => Verdict::Terminating(stop),
            None => Verdict::Stopped(stop),
        };
        if let Err(unwritten) = self.write(key, object, said, &verdict).await {
            tracing::warn!(%key, "{unwritten}");
            let note = format!("{}: {}", stop.reason(), stop.message());
            self.0.note(object, true, "Stalled", "Reconcile", note);
        }
    }

    /// An object that is gone: somebody may have stripped its finalizer, so the Inventory decides. That the watch does
    /// not show it is not enough: a list may be old, or not for this build to read.
    async fn leftovers(&self, key: &Key) -> Result<Outcome, Fault> {
        if self.leaves_something(key).await? {
            self.confirm_gone(key).await?;
        }
        match deletion::run(&self.0, key).await {
            Ok(()) => {
                self.0.forget(key);
                Ok(Outcome::Settled)
            }
            Err(stop) => {
                tracing::warn!(%key, reason = stop.reason(), "removing what is left of it: {}", stop.message());
                ended(stop)
            }
        }
    }

    /// Whether anything was made or asked for in its name.
    async fn leaves_something(&self, key: &Key) -> Result<bool, Fault> {
        let world = &*self.0;
        Ok(world.inventory_of(key).await?.is_some() || world.requests.any_of(&Owner::new(key))?)
    }

    /// Only an API server that says so itself: another answer, or none, is no deletion (invariant 6). One that was made
    /// anew is not shown yet: what the former left is removed when it is.
    async fn confirm_gone(&self, key: &Key) -> Result<(), Fault> {
        let api: Api<PartialObjectMeta<P::Api>> = self.in_namespace_of(key);
        match api.get_metadata(&key.name).await {
            Ok(_) => Err(Fault::retry(
                "NotListed",
                format!("{key} exists, but the watch of its kind does not show it: nothing is removed"),
            )),
            Err(kube::Error::Api(status)) if status.code == 404 && names_it(&status, &key.name) => Ok(()),
            Err(error) => Err(Fault::api(format_args!("read {key}"), &error)),
        }
    }

    fn in_namespace_of<K: Subject>(&self, key: &Key) -> Api<K> {
        Api::namespaced(self.0.onboarding.clone(), &key.namespace)
    }

    /// Writes the status if it differs, and an Event if Ready does. `before` is what it was.
    async fn write<K: Subject>(
        &self,
        key: &Key,
        object: &K,
        before: &ServiceStatus,
        verdict: &Verdict<'_>,
    ) -> Result<(), Fault> {
        let world = &*self.0;
        let generation = object.meta().generation.unwrap_or_default();
        let after = status::status(verdict, before, generation, world.environment.now());
        // What may have arrived without an answer is written over, whatever it was.
        let live = match world.statuses.is_unknown(key) {
            true => serde_json::Value::Null,
            false if after == *before => return Ok(()),
            false => serde_json::to_value(before).unwrap_or_default(),
        };
        let api = self.in_namespace_of::<K>(key);
        let so_far = world.statuses.begin(key);
        match write_status(&api, object, &live, &after, world.names.provider).await? {
            Some(written) => {
                self.tell(object, before, &after);
                world.statuses.wrote(key, written.meta(), after);
            }
            None => world.statuses.spared(key, so_far),
        }
        Ok(())
    }

    fn tell<K: Subject>(&self, object: &K, before: &ServiceStatus, after: &ServiceStatus) {
        if let Some(since) = status::became_ready(before, after) {
            let created = object.meta().creation_timestamp.as_ref().map(|it| it.0);
            let now = self.0.environment.now();
            measures::ready(since.or(created).unwrap_or(now), now);
        }
        if let Some((warning, reason, message)) = status::transition(before, after) {
            let note = format!("{reason}: {message}");
            let reason = if warning { "Stalled" } else { "Reconciled" };
            self.0.note(object, warning, reason, "Reconcile", note);
        }
        if let Some(note) = status::kept(before, after) {
            self.0
                .note(object, true, status::DOMAIN_OBJECTS_EXIST, "Prune", note);
        }
    }
}

/// A service object, or as much of it as this build can read.
trait Subject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

impl<K> Subject for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

/// A 404 for an unknown path or kind says nothing of the object.
fn names_it(status: &Status, name: &str) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.name == name)
}

/// Who only waits for a turn has seen nothing: what was said of this generation stays said.
fn keeps_silent<K: Resource>(object: &K, said: &ServiceStatus, stop: &Stop) -> bool {
    matches!(stop, Stop::Turn { .. }) && Some(said.observed_generation) == object.meta().generation
}

/// Of several failures that which is tried again first: one that no retry helps must not keep the others from theirs.
fn soonest(failures: Vec<Fault>) -> Option<Fault> {
    failures.into_iter().min_by_key(|fault| match fault.class {
        Class::Retry | Class::Unreachable => 0,
        Class::Invalid => 2,
        _ => 1,
    })
}

/// Should nobody wake an object for its turn, it asks again by itself.
const TURN: Duration = Duration::from_secs(30);

/// Waiting ends with an event; a fault is tried again by its class.
fn ended(stop: Stop) -> Result<Outcome, Fault> {
    match stop {
        Stop::Fault(fault) => Err(fault),
        Stop::Turn { .. } => Ok(Outcome::Wake(TURN.mul_f64(0.75 + 0.5 * chance()))),
        Stop::Wait { .. } | Stop::Stuck { .. } => Ok(Outcome::Settled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_no_retry_helps_keeps_no_other_from_its_retry() {
        let wrong = Fault::invalid("ImmutableField", "spec.x");
        let passing = Fault::retry("ServerError", "500");
        assert_eq!(soonest(vec![wrong.clone(), passing.clone()]), Some(passing));
        assert_eq!(soonest(vec![wrong.clone()]), Some(wrong));
    }
}
