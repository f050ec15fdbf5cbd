//! Who read what: which service objects are woken when an object on the platform changes.
//!
//! There may be tens of thousands of readers: each of them and each source is held once, and shared.
use openmcp_reconcile::Key;
use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An object on the platform, as (kind, namespace, name).
pub(crate) type Source = (&'static str, Box<str>, Box<str>);

/// What each service object read, and the other way round.
#[derive(Default)]
pub(crate) struct Dependents(Mutex<Edges>);

#[derive(Default)]
struct Edges {
    readers: HashMap<Arc<Source>, HashSet<Arc<Key>>>,
    read: HashMap<Arc<Key>, Vec<Arc<Source>>>,
}

/// The key under which a map holds something, or a new one.
fn shared<T: Eq + Hash, V>(map: &HashMap<Arc<T>, V>, key: &T, new: impl FnOnce() -> T) -> Arc<T>
where
    Arc<T>: Borrow<T>,
{
    map.get_key_value(key)
        .map_or_else(|| Arc::new(new()), |(held, _)| held.clone())
}

fn source(kind: &'static str, namespace: &str, name: &str) -> Source {
    (kind, namespace.into(), name.into())
}

impl Dependents {
    fn edges(&self) -> MutexGuard<'_, Edges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `key` read the object: changes of it wake the key from now on. Call it before reading.
    pub(crate) fn add(&self, key: &Key, kind: &'static str, namespace: &str, name: &str) {
        let read = source(kind, namespace, name);
        let mut edges = self.edges();
        if edges
            .readers
            .get(&read)
            .is_some_and(|readers| readers.contains(key))
        {
            return;
        }
        let key = shared(&edges.read, key, || key.clone());
        let read = shared(&edges.readers, &read, || read.clone());
        edges.readers.entry(read.clone()).or_default().insert(key.clone());
        edges.read.entry(key).or_default().push(read);
    }

    /// Who read the object.
    pub(crate) fn of(&self, kind: &'static str, namespace: &str, name: &str) -> Vec<Key> {
        let edges = self.edges();
        let readers = edges.readers.get(&source(kind, namespace, name));
        readers.into_iter().flatten().map(|key| Key::clone(key)).collect()
    }

    /// Forgets what `key` read, and tells what nobody reads any more.
    pub(crate) fn forget(&self, key: &Key) -> Vec<Arc<Source>> {
        let mut edges = self.edges();
        let mut unread = Vec::new();
        for source in edges.read.remove(key).unwrap_or_default() {
            if let Some(readers) = edges.readers.get_mut(&source) {
                readers.remove(key);
                if readers.is_empty() {
                    edges.readers.remove(&source);
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
