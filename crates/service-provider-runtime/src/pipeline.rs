//! The reconcile of one service object (runtime design §2): read inputs → compute what is desired → reach the
//! clusters → apply and observe → status. One module and one error enum a step; this one knows only their order.
mod apply;
mod compute;
mod explain;
pub(crate) mod operation;
mod read;

pub(crate) use apply::{Applied, mark};
pub(crate) use explain::explain;

use crate::{
    access::Owner,
    deletion, measures, object,
    provider::{ServiceProvider, ServiceStatus},
    status::{self, Verdict},
    stop::Stop,
    world::World,
};
use kube::{Resource, ResourceExt};
use openmcp_api::names;
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler, environment::chance, fault::Class, status::apply_status,
};
use std::{sync::Arc, time::Duration};

/// Brings service objects to what they want, for ever.
pub(crate) struct Pipeline<P: ServiceProvider>(pub(crate) Arc<World<P>>);

impl<P: ServiceProvider> Reconciler for Pipeline<P> {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let object = self.0.objects.get(&key.namespace, &key.name);
        match object {
            Some(object) if object.meta().deletion_timestamp.is_some() => self.end(key, &object).await,
            Some(object) => self.live(key, &object).await,
            None => self.leftovers(key).await,
        }
    }
}

impl<P: ServiceProvider> Pipeline<P> {
    /// An object that is to exist.
    async fn live(&self, key: &Key, object: &Arc<P::Api>) -> Result<Outcome, Fault> {
        let world = &*self.0;
        operation::take_reconcile(world, key, object).await?;
        if let Some(by) = operation::paused(world, key, object).await? {
            self.write(object, &Verdict::Paused(&by)).await?;
            return Ok(Outcome::Settled);
        }
        match self.bring_up(key, object).await {
            // After a start, nothing is known yet: what was said before stays said.
            Ok(applied) if !applied.reading.is_empty() => {
                tracing::debug!(%key, "reading {}", applied.reading.join(", "));
                Ok(Outcome::Settled)
            }
            Ok(applied) => {
                self.write(object, &Verdict::Applied(&applied)).await?;
                match soonest(applied.failures) {
                    Some(fault) => Err(fault),
                    None => Ok(applied.wake.map_or(Outcome::Settled, Outcome::Wake)),
                }
            }
            Err(stop) => {
                if !self.keeps_silent(key, object, &stop) {
                    self.write(object, &Verdict::Stopped(&stop)).await?;
                }
                ended(stop)
            }
        }
    }

    async fn bring_up(&self, key: &Key, object: &Arc<P::Api>) -> Result<Applied, Stop> {
        let world = &self.0;
        let owner = Owner::new(key);
        self.finish_former(&owner, object).await?;
        let config = read::inputs(world, key)?;
        // Before anything is asked for or made: a wrong wish is told at once, and changes nothing.
        let desired = compute::desired(world, key, object, &config).await?;
        if !object.finalizers().contains(&world.names.finalizer) {
            let api = world.objects_in(&key.namespace);
            object::add_finalizer(&api, object, &world.names.finalizer).await?;
        }
        let access = world.provider.access();
        let mcp = world.requests.mcp_cluster(&owner)?;
        let mut reached = vec![world.requests.reach(&owner, mcp, &access.mcp).await?];
        if let Some(rights) = &access.workload {
            let workload = world.requests.workload_cluster(&owner).await?;
            reached.push(world.requests.reach(&owner, workload, rights).await?);
        }
        apply::apply(world, &owner, object, desired, reached).await
    }

    /// What an earlier object of the same name left is removed before anything is made for this one.
    async fn finish_former(&self, owner: &Owner<'_>, object: &P::Api) -> Result<(), Stop> {
        let world = &*self.0;
        let name = names::inventory(world.names.provider, world.names.kind, &owner.key.name);
        match world.inventories.load(&owner.namespace, &name).await? {
            Some(former) if Some(&former.spec.owner.uid) != object.uid().as_ref() => {
                deletion::tear_down(world, owner, former).await
            }
            _ => Ok(()),
        }
    }

    /// An object on its way out.
    async fn end(&self, key: &Key, object: &P::Api) -> Result<Outcome, Fault> {
        let world = &*self.0;
        operation::take_reconcile(world, key, object).await?;
        match deletion::run(world, key).await {
            Ok(()) => {
                if object.finalizers().contains(&world.names.finalizer) {
                    let api = world.objects_in(&key.namespace);
                    object::remove_finalizer(&api, object, &world.names.finalizer).await?;
                }
                world.forget(key);
                Ok(Outcome::Settled)
            }
            Err(stop) => {
                if !self.keeps_silent(key, object, &stop) {
                    self.write(object, &Verdict::Terminating(&stop)).await?;
                }
                ended(stop)
            }
        }
    }

    /// An object that is gone: somebody may have stripped its finalizer, so the Inventory decides.
    async fn leftovers(&self, key: &Key) -> Result<Outcome, Fault> {
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

    /// Who only waits for a turn has seen nothing: what was said of this generation stays said.
    fn keeps_silent(&self, key: &Key, object: &P::Api, stop: &Stop) -> bool {
        let said = self.0.statuses.of(key, object).observed_generation;
        matches!(stop, Stop::Turn { .. }) && Some(said) == object.meta().generation
    }

    /// Writes the status if it differs, and an Event if Ready does.
    async fn write(&self, object: &P::Api, verdict: &Verdict<'_>) -> Result<(), Fault> {
        let world = &*self.0;
        let key = Key::new(
            world.names.kind,
            object.namespace().unwrap_or_default(),
            object.name_any(),
        );
        let before = world.statuses.of(&key, object);
        let generation = object.meta().generation.unwrap_or_default();
        let after = status::status(verdict, &before, generation, world.environment.now());
        let live = serde_json::to_value(&before).unwrap_or_default();
        let api = world.objects_in(&object.namespace().unwrap_or_default());
        let written = apply_status(&api, object, &live, &after, world.names.provider).await?;
        if written {
            self.tell(object, &before, &after);
            world.statuses.wrote(&key, object, after);
        }
        Ok(())
    }

    fn tell(&self, object: &P::Api, before: &ServiceStatus, after: &ServiceStatus) {
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
    }
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
