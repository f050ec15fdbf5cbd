//! A watch of a kind of which there may be tens of thousands: what it has seen is kept deflated, a few hundred bytes an
//! object instead of several thousand, and inflated for whoever reads it (some microseconds).
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use kube::{Api, Resource, runtime::watcher};
use openmcp_reconcile::watch::{self, Change, Store};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Write},
    marker::PhantomData,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// An object as it is kept.
pub(crate) struct Packed<K> {
    deflated: Box<[u8]>,
    wish: u64,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource + Serialize + DeserializeOwned> Packed<K> {
    fn of(object: K) -> Self {
        let wish = wish(&object);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        // Neither can fail: the object came from JSON, and is written into memory.
        let written = serde_json::to_vec(&object)
            .ok()
            .map(|json| encoder.write_all(&json));
        drop(written);
        Self {
            deflated: encoder.finish().unwrap_or_default().into(),
            wish,
            kind: PhantomData,
        }
    }

    pub(crate) fn unpack(&self) -> Option<K> {
        let mut json = Vec::new();
        DeflateDecoder::new(&*self.deflated).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Whether both want the same: status, and what we write ourselves, aside.
    pub(crate) fn wants_the_same(&self, other: &Self) -> bool {
        self.wish == other.wish
    }
}

/// A hash of what a user or the platform says by an object: its generation, its annotations, that it is to go.
pub(crate) fn wish<K: Resource>(object: &K) -> u64 {
    let meta = object.meta();
    let mut hash = DefaultHasher::new();
    (
        &meta.uid,
        meta.generation,
        meta.deletion_timestamp.is_some(),
        &meta.annotations,
    )
        .hash(&mut hash);
    hash.finish()
}

/// The objects of one kind.
pub(crate) struct Archive<K>(Store<Packed<K>>);

impl<K> Clone for Archive<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Archive<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// As [`watch::watch`].
    pub(crate) fn watch(
        api: Api<K>,
        config: watcher::Config,
        shutdown: CancellationToken,
        on_change: impl FnMut(Change<Packed<K>>) + Send + 'static,
    ) -> Self {
        Self(watch::watch_reduced(api, config, shutdown, Packed::of, on_change))
    }

    pub(crate) async fn synced(&self) {
        self.0.synced().await;
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.get(namespace, name)?.unpack().map(Arc::new)
    }

    /// Namespace and name of all objects, in no order.
    pub(crate) fn places(&self) -> Vec<(String, String)> {
        self.0.places()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::{Value, json};

    fn map(annotation: &str, data: &str) -> ConfigMap {
        let text = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": data},
            "metadata": {"name": "a", "namespace": "b", "uid": "1", "annotations": {"x": annotation}}});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        assert_eq!(Packed::of(map("1", "v")).unpack(), Some(map("1", "v")));
    }

    #[test]
    fn two_wishes_are_told_apart_by_what_users_say() {
        let first = Packed::of(map("1", "v"));
        assert!(
            first.wants_the_same(&Packed::of(map("1", "w"))),
            "its generation did not move"
        );
        assert!(!first.wants_the_same(&Packed::of(map("2", "v"))));
    }

    fn pod(metadata: Value, status: Value) -> Pod {
        let mut object = json!({"metadata": {"name": "x", "uid": "1", "generation": 1}, "status": status});
        for (field, value) in metadata.as_object().into_iter().flatten() {
            object["metadata"][field] = value.clone();
        }
        serde_json::from_value(object).unwrap_or_default()
    }

    /// Known fault 6: what we write ourselves would wake us for ever.
    #[test]
    fn a_status_or_a_finalizer_of_our_own_is_no_new_wish_and_all_else_is() {
        let old = pod(json!({"resourceVersion": "1"}), json!({}));
        let same = |metadata| wish(&old) == wish(&pod(metadata, json!({"phase": "Running"})));
        assert!(same(json!({"resourceVersion": "2", "finalizers": ["ours"]})));
        assert!(!same(json!({"generation": 2})));
        assert!(!same(json!({"uid": "2"})));
        assert!(!same(
            json!({"annotations": {"openmcp.cloud/operation": "reconcile"}})
        ));
        assert!(!same(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})));
    }
}
