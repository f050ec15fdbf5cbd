//! What the engine needs of its owner, for suites that run it in their own process.
use openmcp_reconcile::{
    Fault,
    children::{Maker, Wanted},
    inventory::{Entry, Store},
};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An inventory in memory, and how often it was written.
#[derive(Default)]
pub struct Record(Mutex<(Vec<Entry>, usize)>);

impl Record {
    pub fn entries(&self) -> Vec<Entry> {
        self.held().0.clone()
    }

    pub fn saves(&self) -> usize {
        self.held().1
    }

    fn held(&self) -> MutexGuard<'_, (Vec<Entry>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for &Record {
    async fn save(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let mut held = self.held();
        *held = (entries, held.1 + 1);
        Ok(())
    }
}

/// Everything is in what is wanted.
pub struct Verbatim;

impl Maker for Verbatim {
    async fn make(&self, wanted: &Wanted) -> Result<Value, Fault> {
        Ok(wanted.object.clone())
    }
}
