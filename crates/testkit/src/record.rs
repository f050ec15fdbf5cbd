//! What no server knows: which process sent each effect that arrived, and which authority each server's certificate is
//! from.
use data_encoding::BASE64;
use http::Request;
use kube::client::Body;
use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Of one world. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    versions: Arc<AtomicU64>,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    effects: Vec<Effect>,
    /// How often each server's authority was exchanged.
    authorities: BTreeMap<String, u32>,
}

/// A request that is no read, when it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    /// The number of the last write before it, anywhere.
    pub(crate) after: u64,
    /// That of the last write when it was done: the same, if it wrote nothing.
    until: u64,
    /// The process.
    pub(crate) by: String,
    pub(crate) what: String,
}

impl Effect {
    /// The numbers of its writes.
    pub(crate) fn writes(&self) -> RangeInclusive<u64> {
        self.after + 1..=self.until
    }
}

impl Record {
    /// `versions` counts the writes of the world.
    pub(crate) fn new(versions: Arc<AtomicU64>) -> Self {
        Self {
            versions,
            held: Arc::default(),
        }
    }

    /// The same up to now, for another world.
    pub(crate) fn fork(&self, versions: Arc<AtomicU64>) -> Self {
        let held = Arc::new(Mutex::new(self.held().clone()));
        Self { versions, held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down a request that arrives. Leases are how processes ask for leadership: they need none.
    pub(crate) fn arrives(&self, by: &str, host: &str, request: &Request<Body>) -> Option<Effect> {
        if request.uri().path().starts_with("/apis/coordination.k8s.io/") {
            return None;
        }
        let after = self.versions.load(Ordering::Relaxed);
        Some(Effect {
            after,
            until: after,
            by: by.to_owned(),
            what: format!("{} {host}{}", request.method(), request.uri().path()),
        })
    }

    /// It is done, and nothing else was meanwhile.
    pub(crate) fn done(&self, effect: Effect) {
        let until = self.versions.load(Ordering::Relaxed);
        self.held().effects.push(Effect { until, ..effect });
    }

    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.held().effects.clone()
    }

    /// From now on the server's certificate is from another authority.
    pub(crate) fn exchange_authority(&self, host: &str) {
        *self.held().authorities.entry(host.to_owned()).or_default() += 1;
    }

    /// The certificate of a server's authority, as PEM. No TLS is spoken: it is just compared.
    pub(crate) fn authority(&self, host: &str) -> String {
        let der = BASE64.encode(&self.der(host));
        format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
    }

    pub(crate) fn is_trusted(&self, host: &str, ca: Option<&[u8]>) -> bool {
        ca == Some(&self.der(host))
    }

    fn der(&self, host: &str) -> Vec<u8> {
        let number = self.held().authorities.get(host).copied().unwrap_or_default();
        format!("authority {number}").into_bytes()
    }
}
