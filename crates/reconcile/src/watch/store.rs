//! The last seen objects of one watch, readable from anywhere without waiting.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

/// Objects that cannot be decoded are remembered up to this number.
const UNDECODABLE_MAX: usize = 100;

/// `namespace/name`; `/name` for cluster-scoped kinds. One allocation: there are many.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Box<str>);

impl Place {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, name].join("/").into())
    }

    /// Empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.split().0
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_start_matches('/'))
    }
}

/// Which version of which object is held. Hashes: they are only ever compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    uid: u64,
    resource_version: u64,
}

impl Version {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        let hash = |text: &Option<String>| xxh3_64(text.as_deref().unwrap_or_default().as_bytes());
        Self {
            uid: hash(&meta.uid),
            resource_version: hash(&meta.resource_version),
        }
    }

    pub(super) fn is_other_object(&self, other: &Self) -> bool {
        self.uid != other.uid
    }
}

pub(super) struct Held<K> {
    pub(super) version: Version,
    pub(super) object: Arc<K>,
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
    objects: RwLock<HashMap<Place, Held<K>>>,
    /// What is wrong, where something is. Never locked together with `objects`.
    troubles: RwLock<Troubles>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Troubles {
    watch: Option<String>,
    undecodable: HashMap<Place, String>,
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
            .get(&Place::new(namespace, name))
            .map(|held| held.object.clone())
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().values().map(|held| held.object.clone()).collect()
    }

    /// The objects that `keep` wants, in no order. `keep` must be quick: the watch waits for it.
    pub fn select(&self, mut keep: impl FnMut(&K) -> bool) -> Vec<Arc<K>> {
        self.read()
            .values()
            .filter(|held| keep(&held.object))
            .map(|held| held.object.clone())
            .collect()
    }

    /// Namespace (empty for cluster-scoped kinds) and name of all objects, in no order.
    pub fn places(&self) -> Vec<(String, String)> {
        let split = |at: &Place| (at.namespace().to_owned(), at.name().to_owned());
        self.read().keys().map(split).collect()
    }

    /// Whether `is_it` holds for any object. It must be quick: the watch waits for it.
    pub fn any(&self, is_it: impl FnMut(&K) -> bool) -> bool {
        let mut is_it = is_it;
        self.read().values().any(|held| is_it(&held.object))
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
            .map(|(place, error)| {
                let (namespace, name) = place.split();
                Undecodable {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    error: error.clone(),
                }
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
    pub(super) fn insert(&self, name: Place, held: Held<K>) -> Option<Held<K>> {
        if !self.troubles().undecodable.is_empty() {
            self.troubles_mut().undecodable.remove(&name);
        }
        self.write().insert(name, held)
    }

    pub(super) fn remove(&self, name: &Place) -> Option<Arc<K>> {
        self.troubles_mut().undecodable.remove(name);
        self.write().remove(name).map(|held| held.object)
    }

    /// Removes what a complete list did not name, and returns it in order.
    pub(super) fn retain(&self, listed: &HashSet<Place>) -> Vec<(Place, Arc<K>)> {
        self.troubles_mut()
            .undecodable
            .retain(|name, _| listed.contains(name));
        let mut gone = Vec::new();
        self.write().retain(|at, held| {
            let stays = listed.contains(at);
            if !stays {
                gone.push((at.clone(), held.object.clone()));
            }
            stays
        });
        gone.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
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

    pub(super) fn set_undecodable(&self, name: Place, error: String) {
        let mut troubles = self.troubles_mut();
        if troubles.undecodable.len() < UNDECODABLE_MAX || troubles.undecodable.contains_key(&name) {
            troubles.undecodable.insert(name, error);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Place, Held<K>>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Place, Held<K>>> {
        self.0.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
    fn troubles(&self) -> RwLockReadGuard<'_, Troubles> {
        self.0.troubles.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn troubles_mut(&self) -> RwLockWriteGuard<'_, Troubles> {
        self.0.troubles.write().unwrap_or_else(PoisonError::into_inner)
    }
}
