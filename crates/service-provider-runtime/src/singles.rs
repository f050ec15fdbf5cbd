//! Single objects of one kind on the platform, each watched from its first reading on: a provider sees what it
//! reads, and no more. For kinds of which many objects read the same few (ConfigMaps); what each service object has
//! one of is an [`crate::archive`].
use crate::{
    dependents::{Dependents, Source},
    fanout::FanOut,
};
use kube::{Api, Resource, core::NamespaceResourceScope, runtime::watcher};
use openmcp_reconcile::watch::{self, Store};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A watch that ends when this is dropped.
type Single<K> = (Store<K>, DropGuard);

/// The watches. Changes wake those who read the object.
pub(crate) struct Singles<K> {
    kind: &'static str,
    client: kube::Client,
    fan_out: FanOut,
    dependents: Arc<Dependents>,
    shutdown: CancellationToken,
    open: Mutex<HashMap<Source, Single<K>>>,
}

impl<K> Singles<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// `kind` is how [`Dependents`] call the kind.
    pub(crate) fn new(
        kind: &'static str,
        client: kube::Client,
        fan_out: FanOut,
        dependents: Arc<Dependents>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            kind,
            client,
            fan_out,
            dependents,
            shutdown,
            open: Mutex::default(),
        }
    }

    /// The watch of one object.
    pub(crate) fn store(&self, namespace: &str, name: &str) -> Store<K> {
        let source = self.dependents.source(self.kind, namespace, name);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((store, _)) = open.get(&source) {
            return store.clone();
        }
        let token = self.shutdown.child_token();
        let (kind, fan_out, dependents) = (self.kind, self.fan_out.clone(), self.dependents.clone());
        let (read_in, read) = (namespace.to_owned(), name.to_owned());
        let store = watch::watch(
            Api::<K>::namespaced(self.client.clone(), namespace),
            watcher::Config::default().fields(&format!("metadata.name={name}")),
            token.clone(),
            move |_change| fan_out.readers(dependents.of(kind, &read_in, &read)),
        );
        open.insert(source, (store.clone(), token.drop_guard()));
        store
    }

    /// Whether it is one of these.
    pub(crate) fn has(&self, source: Source) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.contains_key(&source)
    }

    /// Nobody reads the object any more, if it is one of these, and unless somebody has begun to meanwhile.
    pub(crate) fn close(&self, source: Source) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Readers say that they read before they ask for the watch.
        if !self.dependents.is_read(source) {
            open.remove(&source);
        }
    }
}
