//! Removing what is recorded and not wanted any more: last, and in the order of a deletion.
//!
//! A definition takes the objects of its kind with it, whoever made them. So while there are any of others it stays, and
//! with it everything that would be removed after it: a controller that has a finalizer on them, its rights, the
//! namespace that they are in. The owner is woken when they come and go.
use super::{
    converge::{Convergence, Engine},
    defined::Ours,
    remove::TearDown,
    report::{Failure, Report},
};
use crate::{
    Fault,
    inventory::{Entry, Id, Inventory, Store},
};
use std::{collections::BTreeMap, time::Duration};

/// What left the watch before its end is looked at again after this.
const UNWATCHED: Duration = Duration::from_secs(5);

impl Engine {
    /// Removes the objects of each group, a group after the one before is gone. A passing failure to remove one ends the
    /// pass; that it is not known whether a definition may go keeps only that and what comes after it.
    pub(super) async fn prune<S: Store>(
        &self,
        order: &Convergence<'_>,
        groups: Vec<Vec<Id>>,
        inventory: &mut Inventory<'_, S>,
        report: &mut Report,
    ) -> Result<(), Fault> {
        for group in groups {
            match self.kept(order, &group, inventory.entries()).await {
                Ok(kept) => report.kept = kept,
                Err(failure) => {
                    report.complete = false;
                    report.failures.push(failure);
                    break;
                }
            }
            if !report.kept.is_empty() {
                break;
            }
            let TearDown {
                waiting,
                foreign,
                unwatched,
            } = self
                .tear_down(order.key, order.clusters, order.mark, vec![group], inventory)
                .await?;
            report.foreign.extend(foreign);
            if unwatched {
                report.wake_in(UNWATCHED);
            }
            if !waiting.is_empty() {
                report.complete = false;
                let waiting = waiting.into_iter();
                report
                    .missing
                    .extend(waiting.map(|waiting| format!("removing {waiting}")));
                break;
            }
        }
        inventory.flush().await
    }

    /// Which definitions among these have to stay, and because of what.
    pub(super) async fn kept(
        &self,
        order: &Convergence<'_>,
        ids: &[Id],
        entries: &BTreeMap<Id, Entry>,
    ) -> Result<Vec<String>, Failure> {
        let mut kept = Vec::new();
        for id in ids.iter().filter(|id| id.is_definition()) {
            let (Some(entry), Some(cluster)) = (entries.get(id), order.clusters.get(&id.cluster)) else {
                continue;
            };
            if entry.orphan {
                continue;
            }
            let ours = Ours::new(order.mark, entries.values());
            let others = self.others_of(order.key, cluster, entry, &ours).await;
            let others = others.map_err(|fault| Failure {
                id: id.clone(),
                fault,
            })?;
            if !others.is_empty() {
                kept.push(format!(
                    "{id} is not wanted any more; it stays, with what may serve it, until its objects are deleted: {others}"
                ));
            }
        }
        Ok(kept)
    }
}
