//! What a controller made elsewhere, recorded before it is made, and by UID afterwards (runtime design §3, §5).
//!
//! Owns the order of writes: intents before the first apply; UIDs, hashes and digests afterwards in one write;
//! the list shrinks last. Where it is stored is the caller's: see [`Store`].
use crate::{Fault, children::Wave, digest::Digest};
use std::{collections::BTreeMap, fmt, future::Future};

/// More objects than this are refused, and more than twice as many together with those that are still to be removed: the
/// record must fit into one object.
pub const MAX_ENTRIES: usize = 1500;

/// Which object an entry is about. Without a version: a kind may move to another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The cluster, as the caller calls it.
    pub cluster: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind's name.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// One object that was made or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which object it is.
    pub id: Id,
    /// The version of its kind that it was applied in: `v1`.
    pub version: String,
    /// `None`: an intent. The object may exist or not; its mark tells whether it is ours.
    pub uid: Option<String>,
    /// Removed before all earlier waves.
    pub wave: Wave,
    /// Of what was last applied.
    pub desired: Option<Digest>,
    /// Of our fields in the live object, as of the last apply.
    pub live: Option<Digest>,
    /// Left alone, without our marks, when it is no longer wanted.
    pub orphan: bool,
}

impl Entry {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.id.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.id.group, self.version)
        }
    }
}

/// Where the record of one owner is kept.
pub trait Store: Send + Sync {
    /// Replaces all entries, atomically. Must fail when another writer was there since they were read.
    fn save(&self, entries: Vec<Entry>) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// The record of one owner, as it is stored plus what has not been written yet.
pub struct Inventory<'a, S> {
    store: &'a S,
    entries: BTreeMap<Id, Entry>,
    changed: bool,
}

impl<'a, S: Store> Inventory<'a, S> {
    /// The record with `entries` as read from `store`.
    pub fn new(store: &'a S, entries: impl IntoIterator<Item = Entry>) -> Self {
        let entries = entries
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect();
        Self {
            store,
            entries,
            changed: false,
        }
    }

    /// All entries.
    pub fn entries(&self) -> &BTreeMap<Id, Entry> {
        &self.entries
    }

    /// Records what is about to be made, before it is made. No write when there is nothing new.
    pub async fn intend(&mut self, intents: Vec<Entry>) -> Result<(), Fault> {
        if intents.is_empty() {
            return Ok(());
        }
        let total = self.entries.len() + intents.len();
        // What is not wanted any more is removed last: new names for all are twice as many for a while.
        if intents.len() > MAX_ENTRIES || total > 2 * MAX_ENTRIES {
            let message = format!(
                "{total} objects are wanted or not removed yet, and one service object may have {MAX_ENTRIES}"
            );
            return Err(Fault::invalid("TooManyObjects", message));
        }
        self.entries
            .extend(intents.into_iter().map(|entry| (entry.id.clone(), entry)));
        self.changed = true;
        self.flush().await
    }

    /// Notes what an apply brought. Written by [`Inventory::flush`].
    pub fn record(&mut self, entry: Entry) {
        if self.entries.get(&entry.id) != Some(&entry) {
            self.entries.insert(entry.id.clone(), entry);
            self.changed = true;
        }
    }

    /// Notes that an object is confirmed gone or released. Written by [`Inventory::flush`].
    pub fn strike(&mut self, id: &Id) {
        self.changed |= self.entries.remove(id).is_some();
    }

    /// Writes what is noted, if anything is.
    pub async fn flush(&mut self) -> Result<(), Fault> {
        if self.changed {
            self.store.save(self.entries.values().cloned().collect()).await?;
            self.changed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Saves(Mutex<Vec<usize>>);

    impl Store for Saves {
        async fn save(&self, entries: Vec<Entry>) -> Result<(), Fault> {
            self.0.lock().unwrap().push(entries.len());
            Ok(())
        }
    }

    fn intent(name: &str) -> Entry {
        let id = Id {
            cluster: "mcp".into(),
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: "a".into(),
            name: name.into(),
        };
        Entry {
            id,
            version: "v1".into(),
            uid: None,
            wave: Wave::Config,
            desired: None,
            live: None,
            orphan: false,
        }
    }

    #[tokio::test]
    async fn intents_are_written_at_once_results_in_one_write_and_nothing_twice() {
        let store = Saves::default();
        let mut inventory = Inventory::new(&store, []);
        inventory.intend(vec![intent("a"), intent("b")]).await.unwrap();
        inventory.intend(Vec::new()).await.unwrap();
        for name in ["a", "b"] {
            inventory.record(Entry {
                uid: Some("1".into()),
                ..intent(name)
            });
        }
        inventory.flush().await.unwrap();
        inventory.record(Entry {
            uid: Some("1".into()),
            ..intent("a")
        });
        inventory.flush().await.unwrap();
        assert_eq!(*store.0.lock().unwrap(), [2, 2]);
    }

    #[tokio::test]
    async fn too_many_entries_are_refused_before_anything_is_written() {
        let store = Saves::default();
        let mut inventory = Inventory::new(&store, []);
        let many = (0..=MAX_ENTRIES).map(|n| intent(&n.to_string())).collect();
        assert_eq!(inventory.intend(many).await.unwrap_err().reason, "TooManyObjects");
        assert!(store.0.lock().unwrap().is_empty());
    }
}
