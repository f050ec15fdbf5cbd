//! Who read what: which service objects are woken when an object on the platform changes.
//!
//! There may be tens of thousands of readers: each of them is held once, and of a source no more than a hash.
use openmcp_reconcile::Key;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Kind, namespace and name of an object on the platform, as 128 bits that nobody outside this process can foresee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source([u64; 2]);

/// What each service object read, and the other way round.
#[derive(Default)]
pub(crate) struct Dependents {
    sources: [RandomState; 2],
    edges: Mutex<Edges>,
}

#[derive(Default)]
struct Edges {
    readers: HashMap<Source, Readers>,
    read: HashMap<Key, Vec<Source>>,
}

/// Most objects have one reader, some have all.
enum Readers {
    One(Key),
    #[expect(
        clippy::box_collection,
        reason = "four words less for each object that has one reader"
    )]
    Many(Box<HashSet<Key>>),
}

impl Readers {
    fn contains(&self, key: &Key) -> bool {
        match self {
            Self::One(held) => held == key,
            Self::Many(held) => held.contains(key),
        }
    }

    fn add(&mut self, key: Key) {
        match self {
            Self::One(held) => *self = Self::Many(Box::new([held.clone(), key].into())),
            Self::Many(held) => {
                held.insert(key);
            }
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, key: &Key) -> bool {
        match self {
            Self::One(held) => held == key,
            Self::Many(held) => {
                held.remove(key);
                held.is_empty()
            }
        }
    }
}

impl Dependents {
    fn edges(&self) -> MutexGuard<'_, Edges> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an object is called here.
    pub(crate) fn source(&self, kind: &'static str, namespace: &str, name: &str) -> Source {
        let hash = |hash: &RandomState| hash.hash_one((kind, namespace, name));
        Source(self.sources.each_ref().map(hash))
    }

    /// `key` read the object: changes of it wake the key from now on. Call it before reading.
    pub(crate) fn add(&self, key: &Key, kind: &'static str, namespace: &str, name: &str) {
        let source = self.source(kind, namespace, name);
        let mut edges = self.edges();
        let readers = edges.readers.get(&source);
        if readers.is_some_and(|readers| readers.contains(key)) {
            return;
        }
        let key = edges.read.get_key_value(key).map_or(key, |(key, _)| key).clone();
        match edges.readers.get_mut(&source) {
            Some(readers) => readers.add(key.clone()),
            None => {
                edges.readers.insert(source, Readers::One(key.clone()));
            }
        }
        let read = edges.read.entry(key).or_default();
        read.reserve_exact(1);
        read.push(source);
    }

    /// Who read the object, in order: one seed of a simulation leads to one run.
    pub(crate) fn of(&self, kind: &'static str, namespace: &str, name: &str) -> Vec<Key> {
        let mut keys: Vec<Key> = match self.edges().readers.get(&self.source(kind, namespace, name)) {
            None => Vec::new(),
            Some(Readers::One(key)) => vec![key.clone()],
            Some(Readers::Many(keys)) => keys.iter().cloned().collect(),
        };
        keys.sort_unstable();
        keys
    }

    /// Whether anybody reads the object.
    pub(crate) fn is_read(&self, source: Source) -> bool {
        self.edges().readers.contains_key(&source)
    }

    /// What `key` read.
    pub(crate) fn read_by(&self, key: &Key) -> Vec<Source> {
        self.edges().read.get(key).cloned().unwrap_or_default()
    }

    /// `key` does not read these any more. Tells what nobody reads any more.
    pub(crate) fn drop_some(&self, key: &Key, mut dropped: Vec<Source>) -> Vec<Source> {
        let mut edges = self.edges();
        if let Some(read) = edges.read.get_mut(key) {
            read.retain(|source| !dropped.contains(source));
        }
        dropped.retain(|source| edges.leave(source, key));
        dropped
    }

    /// Forgets what `key` read, and tells what nobody reads any more.
    pub(crate) fn forget(&self, key: &Key) -> Vec<Source> {
        let mut edges = self.edges();
        let mut read = edges.read.remove(key).unwrap_or_default();
        read.retain(|source| edges.leave(source, key));
        read
    }
}

impl Edges {
    /// One reader less. Returns whether it was the last.
    fn leave(&mut self, source: &Source, key: &Key) -> bool {
        let readers = self.readers.get_mut(source);
        let unread = readers.is_some_and(|readers| readers.remove(key));
        if unread {
            self.readers.remove(source);
        }
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_unread_when_its_last_reader_forgets_it() {
        let (a, b) = (Key::new("Kro", "x", "a"), Key::new("Kro", "x", "b"));
        let dependents = Dependents::default();
        dependents.add(&a, "Secret", "n", "s");
        dependents.add(&b, "Secret", "n", "s");
        assert_eq!(dependents.of("Secret", "n", "s").len(), 2);
        assert!(dependents.forget(&a).is_empty());
        assert_eq!(dependents.forget(&b).len(), 1);
        assert!(dependents.of("Secret", "n", "s").is_empty());
    }

    #[test]
    fn what_is_read_no_more_is_forgotten_and_nothing_else() {
        let (a, b) = (Key::new("Kro", "x", "a"), Key::new("Kro", "x", "b"));
        let dependents = Dependents::default();
        for (key, name) in [(&a, "old"), (&a, "new"), (&b, "new")] {
            dependents.add(key, "Map", "n", name);
        }
        let [old, new] = ["old", "new"].map(|name| dependents.source("Map", "n", name));
        assert_eq!(dependents.drop_some(&a, vec![old]), [old]);
        assert!(!dependents.is_read(old) && dependents.read_by(&a) == [new]);
        assert!(dependents.drop_some(&a, vec![new]).is_empty(), "b reads it");
        assert_eq!(dependents.of("Map", "n", "new"), [b]);
    }
}
