//! Differences that are left alone and were told: once each, and not looked into again while they stay.
//!
//! Kept in memory: after a restart they are told once more.
use crate::{Key, digest::Digest, inventory::Id};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// By owner and object: the digest of the live object that was told.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<Key, HashMap<Id, Digest>>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, HashMap<Id, Digest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was told that the object is so.
    pub(super) fn knows(&self, key: &Key, id: &Id, live: Digest) -> bool {
        self.lock().get(key).and_then(|of| of.get(id)) == Some(&live)
    }

    pub(super) fn note(&self, key: &Key, id: &Id, live: Digest) {
        self.lock()
            .entry(key.clone())
            .or_default()
            .insert(id.clone(), live);
    }

    /// It is as it was applied: the next difference is told, also if it was told before.
    pub(super) fn is_over(&self, key: &Key, id: &Id) {
        let mut told = self.lock();
        if let Some(of) = told.get_mut(key) {
            of.remove(id);
            if of.is_empty() {
                told.remove(key);
            }
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }
}
