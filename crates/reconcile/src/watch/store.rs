//! The last seen objects of one watch, readable from anywhere without waiting.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;

/// Objects that cannot be decoded are remembered up to this number.
const UNDECODABLE_MAX: usize = 100;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    namespace: String,
    name: String,
}

impl Name {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// An object that the watch skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// What is wrong with it.
    pub error: String,
}

/// The last seen objects of one watch. Cheap to clone. managedFields are dropped.
pub struct Store<K>(Arc<Shared<K>>);

struct Shared<K> {
    objects: RwLock<HashMap<Name, Arc<K>>>,
    /// What is wrong, where something is. Never locked together with `objects`.
    troubles: RwLock<Troubles>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Troubles {
    watch: Option<String>,
    undecodable: HashMap<Name, String>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Store<K> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            objects: RwLock::default(),
            troubles: RwLock::default(),
            synced: watch::Sender::new(false),
        }))
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read()
            .get(&Name {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
            .cloned()
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// The objects that `keep` wants, in no order. `keep` must be quick: the watch waits for it.
    pub fn select(&self, mut keep: impl FnMut(&K) -> bool) -> Vec<Arc<K>> {
        self.read()
            .values()
            .filter(|object| keep(object))
            .cloned()
            .collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// No object is known.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Whether the first list is complete. Before, absence means nothing.
    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits for the first complete list.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives in self: it cannot be dropped meanwhile.
        let _synced = synced.wait_for(|synced| *synced).await;
    }

    /// Why the watch does not work now, if it does not: what is in the store may be old.
    pub fn trouble(&self) -> Option<String> {
        self.troubles().watch.clone()
    }

    /// Objects that exist and cannot be decoded (the first hundred).
    pub fn undecodable(&self) -> Vec<Undecodable> {
        self.troubles()
            .undecodable
            .iter()
            .map(|(name, error)| Undecodable {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                error: error.clone(),
            })
            .collect()
    }

    /// The watch's state, for people who look, as long as somebody holds the store.
    pub(super) fn look(
        &self,
        cluster: String,
        kind: String,
    ) -> impl Fn() -> Option<Value> + Send + Sync + 'static
    where
        K: Send + Sync + 'static,
    {
        let store = Arc::downgrade(&self.0);
        move || {
            let store = Self(store.upgrade()?);
            Some(json!({
                "cluster": cluster, "kind": kind, "objects": store.len(), "synced": store.is_synced(),
                "trouble": store.trouble(), "undecodable": store.undecodable().len(),
            }))
        }
    }

    /// Puts an object in and returns the one that it replaces.
    pub(super) fn insert(&self, name: Name, object: Arc<K>) -> Option<Arc<K>> {
        if !self.troubles().undecodable.is_empty() {
            self.troubles_mut().undecodable.remove(&name);
        }
        self.write().insert(name, object)
    }

    pub(super) fn remove(&self, name: &Name) -> Option<Arc<K>> {
        self.troubles_mut().undecodable.remove(name);
        self.write().remove(name)
    }

    /// Removes what a complete list did not name, and returns it.
    pub(super) fn retain(&self, listed: &HashSet<Name>) -> Vec<Arc<K>> {
        self.troubles_mut()
            .undecodable
            .retain(|name, _| listed.contains(name));
        let mut gone = Vec::new();
        self.write().retain(|name, object| {
            let stays = listed.contains(name);
            if !stays {
                gone.push(object.clone());
            }
            stays
        });
        gone
    }

    pub(super) fn set_synced(&self) {
        self.0.synced.send_replace(true);
    }

    /// Returns whether that is news: trouble where there was none, or the other way round.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        if trouble.is_none() && self.troubles().watch.is_none() {
            return false;
        }
        let old = std::mem::replace(&mut self.troubles_mut().watch, trouble.clone());
        old.is_some() != trouble.is_some()
    }

    pub(super) fn set_undecodable(&self, name: Name, error: String) {
        let mut troubles = self.troubles_mut();
        if troubles.undecodable.len() < UNDECODABLE_MAX || troubles.undecodable.contains_key(&name) {
            troubles.undecodable.insert(name, error);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Name, Arc<K>>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Name, Arc<K>>> {
        self.0.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
    fn troubles(&self) -> RwLockReadGuard<'_, Troubles> {
        self.0.troubles.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn troubles_mut(&self) -> RwLockWriteGuard<'_, Troubles> {
        self.0.troubles.write().unwrap_or_else(PoisonError::into_inner)
    }
}
