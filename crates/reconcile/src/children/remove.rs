//! Removing children by what was recorded of them, and nothing else.
//!
//! Only a GET by name that answers 404 or somebody else's object means gone. What is neither marked nor applied by us is
//! never deleted, nor is what another owner of the same manager has taken over. What was made anew under another UID than
//! is recorded is ours if it bears both our mark and our fields: a crash came before its record.
use super::{
    abandoned::is_abandoned,
    cluster::Cluster,
    converge::{CONCURRENCY, Engine},
    kinds::{Kind, Kinds},
    kstatus::holders,
    observe::held_by,
    wanted::Wave,
    watch::Scope,
};
use crate::{
    Fault, Key,
    apply::Mark,
    apply::target::Target as Place,
    apply_child::Target,
    inventory::{Entry, Id, Inventory, Store},
    raw,
    request::Answer,
};
use futures::{StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What removing one object came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Confirmed: it is not there any more.
    Gone,
    /// It stays, without our marks, as was asked for.
    Released,
    /// Under the recorded UID there is something that bears neither our mark nor our fields, or under another one
    /// something that bears our mark and was not applied by us: it is left alone.
    Foreign,
    /// It is still there; these hold it: finalizers, and what a namespace says of its content.
    Waiting(Vec<String>),
}

/// What removing several objects came to.
#[derive(Debug, Default)]
pub struct TearDown {
    /// What is still there, with what holds it: "ClusterRole x (held by example.com/finalizer)".
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
            // What is gone is struck off even when something else failed. An empty record is the caller's to remove.
            if !inventory.entries().is_empty() {
                inventory.flush().await?;
            }
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
        let mut removals = Vec::new();
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
            removals.push(self.remove_one(key, cluster, mark, entry));
        }
        let removed: Vec<_> = stream::iter(removals)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (id, unwatched, removal) in removed {
            result.unwatched |= unwatched;
            match removal {
                Ok(Removal::Gone | Removal::Released) => inventory.strike(&id),
                Ok(Removal::Foreign) => {
                    inventory.strike(&id);
                    result.foreign.push(id);
                }
                Ok(Removal::Waiting(holders)) => {
                    result.waiting.push(format!("{id}{}", held_by(&holders)));
                }
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whose removal it was, whether no event will tell its end, and what it came to.
    async fn remove_one(
        &self,
        key: &Key,
        cluster: &Cluster,
        mark: &Mark,
        entry: Entry,
    ) -> (Id, bool, Result<Removal, Fault>) {
        let mut unwatched = false;
        let removal = self.remove(key, cluster, mark, &entry, &mut unwatched).await;
        (entry.id, unwatched, removal)
    }

    async fn remove(
        &self,
        key: &Key,
        cluster: &Cluster,
        mark: &Mark,
        entry: &Entry,
        unwatched: &mut bool,
    ) -> Result<Removal, Fault> {
        let Some(kind) = self.kind_of(cluster, entry).await? else {
            return gone_with_its_kind(cluster, entry).await;
        };
        let lease = self.lease(key, cluster, &kind, Scope::Marked);
        let watched = lease.follow(&entry.id.namespace, &entry.id.name);
        let synced = lease.synced() == Ok(true);
        // As it was applied, our marks included: there is no need to ask whose it is.
        let unchanged = watched.as_ref().filter(|child| {
            let same_object = entry.uid.as_deref().is_some_and(|uid| child.has_uid(uid));
            synced && same_object && entry.live == Some(child.digest()) && !child.is_deleting()
        });
        let unchanged = unchanged.map(|child| child.version());
        let address = entry.id.at(&kind);
        let target = Target {
            client: &cluster.client,
            address: &address,
            manager: self.manager(),
            mark,
        };
        let removal = target.remove(entry, unchanged, self.selected()).await?;
        *unwatched |= synced && watched.is_none() && matches!(removal, Removal::Waiting(_));
        Ok(removal)
    }
}

impl Engine {
    /// How the kind of what was recorded is served now, in the version that was recorded if that still is.
    async fn kind_of(&self, cluster: &Cluster, entry: &Entry) -> Result<Option<Kind>, Fault> {
        let Id { group, kind, .. } = &entry.id;
        let recorded = entry.api_version();
        match cluster.kind(&recorded, kind).await? {
            Some(recorded) => Ok(Some(recorded)),
            None => Kinds::in_any_version(&cluster.client, group, kind).await,
        }
    }

    /// Takes the finalizers off an object of ours that is being deleted: by force, when nobody is left to do what they
    /// stand for ([`is_abandoned`]). Returns what was done.
    pub async fn strip_finalizers(
        &self,
        cluster: &Cluster,
        mark: &Mark,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<Option<String>, Fault> {
        let Some(kind) = self.kind_of(cluster, entry).await? else {
            return Ok(None);
        };
        let address = entry.id.at(&kind);
        let target = Target {
            client: &cluster.client,
            address: &address,
            manager: self.manager(),
            mark,
        };
        target.strip(entry, now).await
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
    async fn strip(&self, entry: &Entry, now: Timestamp) -> Result<Option<String>, Fault> {
        let Some(meta) = raw::get_metadata(self.client, self.address).await? else {
            return Ok(None);
        };
        let recorded = entry.uid.as_deref() == meta["metadata"]["uid"].as_str();
        let ours = recorded || self.is_made_anew(entry, &meta);
        let Some(Removal::Waiting(finalizers)) = self.terminating(&meta).filter(|_| ours) else {
            return Ok(None);
        };
        let deleted = meta["metadata"]["deletionTimestamp"].as_str();
        let deleted = deleted.and_then(|at| at.parse().ok());
        let (taken, kept): (Vec<String>, Vec<String>) = finalizers
            .into_iter()
            .partition(|finalizer| is_abandoned(finalizer, deleted, now));
        if taken.is_empty() {
            return Ok(None);
        }
        let change = match kept.is_empty() {
            true => json!({"op": "remove", "path": "/metadata/finalizers"}),
            false => json!({"op": "replace", "path": "/metadata/finalizers", "value": kept}),
        };
        self.trim(&meta, vec![change]).await?;
        let taken = taken.join(", ");
        Ok(Some(format!("took finalizers {taken} off {}", self.address)))
    }

    /// `unchanged`: in this version it is known to be ours, and not yet on its way out.
    async fn remove(&self, entry: &Entry, unchanged: Option<u64>, selected: &str) -> Result<Removal, Fault> {
        let known = entry.uid.clone().zip(unchanged).filter(|_| !entry.orphan);
        let (uid, version) = match known {
            Some((uid, version)) => (uid, Some(version)),
            None => match self.look(entry, selected).await? {
                Ok(uid) => (uid, None),
                Err(removal) => return Ok(removal),
            },
        };
        if self.still_aggregates().await? {
            return Ok(Removal::Waiting(Vec::new()));
        }
        let answer = raw::delete(
            self.client,
            self.address,
            (&uid, version),
            propagation(entry.wave),
        )
        .await?;
        if answer.status == StatusCode::CONFLICT && version.is_some() {
            // Somebody wrote to it since: it may not be ours any more.
            return Box::pin(self.remove(entry, None, selected)).await;
        }
        self.confirm(answer, &uid).await
    }

    /// What became of the object with this UID after a DELETE.
    async fn confirm(&self, answer: Answer, uid: &str) -> Result<Removal, Fault> {
        if !answer.status.is_success()
            && answer.status != StatusCode::NOT_FOUND
            && answer.status != StatusCode::CONFLICT
        {
            return Err(answer.fault(format!("delete {}", self.address)));
        }
        match self.read().await? {
            Some(meta) if meta["metadata"]["uid"] == uid => {
                Ok(self.terminating(&meta).unwrap_or(Removal::Waiting(Vec::new())))
            }
            _ => Ok(Removal::Gone),
        }
    }
}

impl Target<'_> {
    /// Kubernetes' aggregation controller applies the rules of an aggregated ClusterRole without asking whether it is
    /// still there: one that is deleted meanwhile comes back empty, and is nobody's (seen on 1.36). So it stops being
    /// aggregated first; the event of that change goes on with its removal. Returns whether that was done now.
    async fn still_aggregates(&self) -> Result<bool, Fault> {
        if self.address.kind.resource.kind != "ClusterRole" {
            return Ok(false);
        }
        let Some(live) = raw::get(self.client, self.address).await? else {
            return Ok(false);
        };
        if live["aggregationRule"].is_null() {
            return Ok(false);
        }
        let remove = json!({"op": "remove", "path": "/aggregationRule"});
        self.trim(&live, vec![remove]).await.map(|_| true)
    }

    /// Its metadata; of a namespace all, for its status says what holds it.
    async fn read(&self) -> Result<Option<Value>, Fault> {
        match self.address.kind.resource.kind.as_str() {
            "Namespace" => raw::get(self.client, self.address).await,
            _ => raw::get_metadata(self.client, self.address).await,
        }
    }

    fn terminating(&self, live: &Value) -> Option<Removal> {
        let kind = &self.address.kind.resource.kind;
        (!live["metadata"]["deletionTimestamp"].is_null())
            .then(|| Removal::Waiting(holders(kind, live).map(str::to_owned).collect()))
    }

    /// Whether the live object is ours although another UID is recorded.
    fn is_made_anew(&self, entry: &Entry, meta: &Value) -> bool {
        entry.uid.is_some() && self.is_marked(meta) && self.has_applied(meta)
    }

    /// Whose the live object is: its UID where it is to be deleted now, else what it came to already.
    async fn look(&self, entry: &Entry, selected: &str) -> Result<Result<String, Removal>, Fault> {
        let Some(meta) = self.read().await? else {
            return Ok(Err(Removal::Gone));
        };
        let Some(live) = meta["metadata"]["uid"].as_str() else {
            return Ok(Err(Removal::Gone));
        };
        let ours = self.is_marked(&meta) || (self.has_applied(&meta) && !self.is_marked_for_another(&meta));
        match entry.uid.as_deref() {
            Some(recorded) if recorded != live => match self.is_marked(&meta) {
                true if self.has_applied(&meta) => {}
                true => return Ok(Err(Removal::Foreign)),
                false => return Ok(Err(Removal::Gone)),
            },
            // An intent that never came to be: whatever bears the name is somebody else's.
            None if !self.is_marked(&meta) => return Ok(Err(Removal::Gone)),
            _ if !ours => return Ok(Err(Removal::Foreign)),
            _ => {}
        }
        if let Some(waiting) = self.terminating(&meta) {
            return Ok(Err(waiting));
        }
        if entry.orphan {
            self.release(&meta, selected).await?;
            return Ok(Err(Removal::Released));
        }
        Ok(Ok(live.to_owned()))
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
