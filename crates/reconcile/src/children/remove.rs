//! Removing children by what was recorded of them, and nothing else.
//!
//! Only a GET by name that answers 404 or another UID means gone. What is neither marked nor applied by us is
//! never deleted.
use super::{
    converge::Engine,
    wanted::Wave,
    watch::{Cluster, Scope},
};
use crate::{
    Fault, Key,
    apply::Mark,
    apply::target::Target as Place,
    apply_child::Target,
    inventory::{Entry, Id, Inventory, Store},
    raw,
};
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;

/// What removing one object came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Confirmed: it is not there any more.
    Gone,
    /// It stays, without our marks, as was asked for.
    Released,
    /// Under the recorded UID there is something that bears neither our mark nor our fields: it is left alone.
    Foreign,
    /// It is still there; these finalizers hold it.
    Waiting(Vec<String>),
}

/// What removing several objects came to.
#[derive(Debug, Default)]
pub struct TearDown {
    /// What is still there, with what holds it: "Namespace x (held by kubernetes)".
    pub waiting: Vec<String>,
    /// What was not ours any more and was left alone.
    pub foreign: Vec<Id>,
    /// Something left the watch before it was gone: no event will tell its end.
    pub unwatched: bool,
}

impl Engine {
    /// Removes the objects of each group, a group after the one before is gone, and strikes them off the
    /// inventory. Ends early when something is still there; `key` is woken when it goes.
    pub async fn tear_down<S: Store>(
        &self,
        key: &Key,
        clusters: &BTreeMap<String, Cluster>,
        mark: &Mark,
        groups: Vec<Vec<Id>>,
        inventory: &mut Inventory<'_, S>,
    ) -> Result<TearDown, Fault> {
        let mut result = TearDown::default();
        for group in groups {
            let outcome = self
                .tear_down_group(key, clusters, mark, group, inventory, &mut result)
                .await;
            // What is gone is struck off even when something else failed.
            inventory.flush().await?;
            outcome?;
            if !result.waiting.is_empty() {
                break;
            }
        }
        Ok(result)
    }

    async fn tear_down_group<S: Store>(
        &self,
        key: &Key,
        clusters: &BTreeMap<String, Cluster>,
        mark: &Mark,
        group: Vec<Id>,
        inventory: &mut Inventory<'_, S>,
        result: &mut TearDown,
    ) -> Result<(), Fault> {
        let mut failed = None;
        for id in group {
            let Some(entry) = inventory.entries().get(&id).cloned() else {
                continue;
            };
            let Some(cluster) = clusters.get(&id.cluster) else {
                result
                    .waiting
                    .push(format!("{id} (no access to cluster {})", id.cluster));
                continue;
            };
            match self
                .remove(key, cluster, mark, &entry, &mut result.unwatched)
                .await
            {
                Ok(Removal::Gone | Removal::Released) => inventory.strike(&id),
                Ok(Removal::Foreign) => {
                    inventory.strike(&id);
                    result.foreign.push(id);
                }
                Ok(Removal::Waiting(finalizers)) if finalizers.is_empty() => {
                    result.waiting.push(id.to_string())
                }
                Ok(Removal::Waiting(finalizers)) => {
                    result
                        .waiting
                        .push(format!("{id} (held by {})", finalizers.join(", ")));
                }
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn remove(
        &self,
        key: &Key,
        cluster: &Cluster,
        mark: &Mark,
        entry: &Entry,
        unwatched: &mut bool,
    ) -> Result<Removal, Fault> {
        let kind = self
            .kinds()
            .resolve(
                &cluster.client,
                &cluster.identity,
                &entry.api_version(),
                &entry.id.kind,
            )
            .await?;
        let Some(kind) = kind else {
            return gone_with_its_kind(cluster, entry).await;
        };
        let lease = self.lease(key, cluster, &kind, Scope::Marked);
        let watched = lease.follow(&entry.id.namespace, &entry.id.name).is_some();
        let synced = lease.synced() == Ok(true);
        let address = entry.id.at(&kind);
        let target = Target {
            client: &cluster.client,
            address: &address,
            manager: self.manager(),
            mark,
        };
        let removal = target.remove(entry).await?;
        *unwatched |= synced && !watched && matches!(removal, Removal::Waiting(_));
        Ok(removal)
    }
}

impl Engine {
    /// Takes the finalizers off an object of ours that is being deleted: by force, when nobody is left to do what they
    /// stand for. Returns what was done.
    pub async fn strip_finalizers(
        &self,
        cluster: &Cluster,
        mark: &Mark,
        entry: &Entry,
    ) -> Result<Option<String>, Fault> {
        let (identity, client) = (&cluster.identity, &cluster.client);
        let kind = self
            .kinds()
            .resolve(client, identity, &entry.api_version(), &entry.id.kind)
            .await?;
        let Some(kind) = kind else { return Ok(None) };
        let address = entry.id.at(&kind);
        let target = Target {
            client,
            address: &address,
            manager: self.manager(),
            mark,
        };
        target.strip(entry).await
    }
}

/// A kind that does not exist any more has no objects. One that is only not served at the moment may have.
async fn gone_with_its_kind(cluster: &Cluster, entry: &Entry) -> Result<Removal, Fault> {
    let namespace = Some(entry.id.namespace.as_str());
    let place = Place::new(&entry.api_version(), &entry.id.kind, namespace, &entry.id.name)?;
    if place.kind_is_gone(&cluster.client).await? {
        return Ok(Removal::Gone);
    }
    Err(Fault::retry(
        "NotServed",
        format!("{}: its kind exists and is not served at the moment", entry.id),
    ))
}

impl Target<'_> {
    async fn strip(&self, entry: &Entry) -> Result<Option<String>, Fault> {
        let Some(meta) = raw::get_metadata(self.client, self.address).await? else {
            return Ok(None);
        };
        let ours = entry.uid.as_deref() == meta["metadata"]["uid"].as_str();
        let Some(Removal::Waiting(finalizers)) = terminating(&meta).filter(|_| ours) else {
            return Ok(None);
        };
        if finalizers.is_empty() {
            return Ok(None);
        }
        let remove = serde_json::json!({"op": "remove", "path": "/metadata/finalizers"});
        self.trim(&meta, vec![remove]).await?;
        let finalizers = finalizers.join(", ");
        Ok(Some(format!("took finalizers {finalizers} off {}", self.address)))
    }

    async fn remove(&self, entry: &Entry) -> Result<Removal, Fault> {
        let Some(meta) = raw::get_metadata(self.client, self.address).await? else {
            return Ok(Removal::Gone);
        };
        let Some(live) = meta["metadata"]["uid"].as_str() else {
            return Ok(Removal::Gone);
        };
        let ours = self.is_marked(&meta) || self.has_applied(&meta);
        match entry.uid.as_deref() {
            Some(recorded) if recorded != live => return Ok(Removal::Gone),
            // An intent that never came to be: whatever bears the name is somebody else's.
            None if !self.is_marked(&meta) => return Ok(Removal::Gone),
            _ if !ours => return Ok(Removal::Foreign),
            _ => {}
        }
        if let Some(waiting) = terminating(&meta) {
            return Ok(waiting);
        }
        if entry.orphan {
            self.release(&meta).await?;
            return Ok(Removal::Released);
        }
        let answer = raw::delete(self.client, self.address, live, propagation(entry.wave)).await?;
        if !answer.status.is_success()
            && answer.status != StatusCode::NOT_FOUND
            && answer.status != StatusCode::CONFLICT
        {
            return Err(answer.fault(format!("delete {}", self.address)));
        }
        match raw::get_metadata(self.client, self.address).await? {
            Some(meta) if meta["metadata"]["uid"] == live => {
                Ok(terminating(&meta).unwrap_or(Removal::Waiting(Vec::new())))
            }
            _ => Ok(Removal::Gone),
        }
    }
}

/// Pods must be gone before what they use; a Job deleted without a policy would orphan them.
pub(super) fn propagation(wave: Wave) -> &'static str {
    if wave == Wave::Workload {
        "Foreground"
    } else {
        "Background"
    }
}

fn terminating(meta: &Value) -> Option<Removal> {
    let meta = &meta["metadata"];
    let finalizers = meta["finalizers"].as_array().into_iter().flatten();
    (!meta["deletionTimestamp"].is_null())
        .then(|| Removal::Waiting(finalizers.filter_map(Value::as_str).map(str::to_owned).collect()))
}
