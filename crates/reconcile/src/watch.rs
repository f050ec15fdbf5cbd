//! Watches: an own store per watch, filled by kube's `watcher`, with deletes reported across relists, one
//! back-off a watch outside the stream, objects that cannot be decoded skipped and reported.
//!
//! Lost information is never deletion: only a watch DELETE or a *complete* list that lacks the object is reported.
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, hash::Hash, marker::PhantomData, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What a watch reports. A relist reports `Applied` only for objects whose resourceVersion moved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change<K> {
    /// The object exists, new or changed. `first` is set while the first list is read (use [`crate::Lane::Bulk`]).
    Applied {
        object: Arc<K>,
        old: Option<Arc<K>>,
        first: bool,
    },
    /// The object left the watch (deleted, or its label was removed: confirm with a GET before acting on it).
    Deleted { object: Arc<K> },
}

impl<K> Change<K> {
    /// The object, as last seen.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { object, .. } | Self::Deleted { object } => object,
        }
    }
}

/// The last seen objects of one watch. Cheap to clone. managedFields are dropped.
pub struct Store<K>(PhantomData<K>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}
impl<K> Store<K> {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, _namespace: &str, _name: &str) -> Option<Arc<K>> {
        unimplemented!()
    }
    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        unimplemented!()
    }
    /// Whether the first list is complete. Before, absence means nothing.
    pub fn is_synced(&self) -> bool {
        unimplemented!()
    }
    /// Waits for the first complete list.
    pub async fn synced(&self) {
        unimplemented!()
    }
}

/// Starts a watch as a task that ends with `shutdown`; `on_change` is called after the store holds the change.
pub fn watch<K>(
    _api: Api<K>,
    _config: watcher::Config,
    _shutdown: CancellationToken,
    _on_change: impl FnMut(Change<K>) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    unimplemented!()
}
