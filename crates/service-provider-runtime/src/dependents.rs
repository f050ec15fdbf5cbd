//! Who read what: which service objects are woken when an object on the platform changes.
use openmcp_reconcile::Key;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// An object on the platform, as (kind, namespace, name).
pub(crate) type Source = (&'static str, String, String);

/// What each service object read, and the other way round.
#[derive(Default)]
pub(crate) struct Dependents(Mutex<Edges>);

#[derive(Default)]
struct Edges {
    by_source: HashMap<Source, HashSet<Key>>,
    by_key: HashMap<Key, HashSet<Source>>,
}

impl Dependents {
    fn edges(&self) -> MutexGuard<'_, Edges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `key` read the object: changes of it wake the key from now on. Call it before reading.
    pub(crate) fn add(&self, key: &Key, kind: &'static str, namespace: &str, name: &str) {
        let source = (kind, namespace.to_owned(), name.to_owned());
        let mut edges = self.edges();
        edges
            .by_source
            .entry(source.clone())
            .or_default()
            .insert(key.clone());
        edges.by_key.entry(key.clone()).or_default().insert(source);
    }

    /// Who read the object.
    pub(crate) fn of(&self, kind: &'static str, namespace: &str, name: &str) -> Vec<Key> {
        let source = (kind, namespace.to_owned(), name.to_owned());
        self.edges()
            .by_source
            .get(&source)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Forgets what `key` read, and tells what nobody reads any more.
    pub(crate) fn forget(&self, key: &Key) -> Vec<Source> {
        let mut edges = self.edges();
        let mut unread = Vec::new();
        for source in edges.by_key.remove(key).unwrap_or_default() {
            if let Some(keys) = edges.by_source.get_mut(&source) {
                keys.remove(key);
                if keys.is_empty() {
                    edges.by_source.remove(&source);
                    unread.push(source);
                }
            }
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
}
