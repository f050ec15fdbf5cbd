//! What is known of one recorded child, for who wants to know how far it is.
use super::{cluster::Cluster, converge::Engine, kstatus::Health, watch::Scope};
use crate::{Fault, Key, fault::Class, inventory::Entry};

/// A recorded child as the shared watch of its kind has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A complete list does not show it, or its UID was not recorded yet.
    Absent,
    /// It is there.
    Present(Health),
    /// The first list of this kind, by its plural, is being read.
    Reading(String),
}

impl Engine {
    /// Looks without a request, and wakes `key` from now on when the child changes, or when the list is there.
    pub async fn seen(&self, key: &Key, cluster: &Cluster, entry: &Entry) -> Result<Seen, Fault> {
        let Some(uid) = entry.uid.as_deref() else {
            return Ok(Seen::Absent);
        };
        let Some(kind) = cluster.kind(&entry.api_version(), &entry.id.kind).await? else {
            return Ok(Seen::Absent);
        };
        let lease = self.lease(key, cluster, &kind, Scope::Marked);
        let child = lease.follow(&entry.id.namespace, &entry.id.name);
        match lease.synced() {
            Ok(true) => {}
            Ok(false) => return Ok(Seen::Reading(kind.resource.plural)),
            Err(failure) => return Err(Fault::new(Class::Unreachable, "WatchFailed", failure)),
        }
        let same = child.filter(|child| child.has_uid(uid));
        Ok(same.map_or(Seen::Absent, |child| Seen::Present(child.health().clone())))
    }
}
