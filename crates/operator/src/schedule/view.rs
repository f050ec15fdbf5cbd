//! The clusters as the scheduler sees them: the watch's store, overlaid with the scheduler's own writes that the
//! watch has not shown yet.
//!
//! Without it two requests that are scheduled one right after the other would each make a cluster, or see a free slot
//! that the other has taken. (Two schedulers are kept apart by the resourceVersion of each claim instead.)
use super::plan::reference;
use kube::ResourceExt;
use openmcp_api::clusters::Cluster;
use openmcp_reconcile::watch::Store;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Default)]
struct Own {
    clusters: HashMap<(String, String), Arc<Cluster>>,
    /// How far the watch has come. The answer to a write may arrive after the watch has shown it, or has shown that
    /// the cluster is gone: remembered then, it would stay for ever.
    shown: u64,
}

/// Shared by the scheduler, which writes, and the watch of the clusters, which confirms.
#[derive(Clone, Default)]
pub(crate) struct OwnWrites(Arc<Mutex<Own>>);

impl OwnWrites {
    fn with<T>(&self, f: impl FnOnce(&mut Own) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers what the API server answered to a write of ours.
    pub(crate) fn wrote(&self, cluster: Cluster) {
        self.with(|own| {
            if version(&cluster) > own.shown {
                own.clusters.insert(reference(&cluster), Arc::new(cluster));
            }
        });
    }

    /// The watch shows this cluster, or that it is gone: what was remembered is in the store, or outdated.
    pub(crate) fn seen(&self, cluster: &Cluster, gone: bool) {
        self.with(|own| {
            own.shown = own.shown.max(version(cluster));
            if let Entry::Occupied(entry) = own.clusters.entry(reference(cluster))
                && (version(cluster) >= version(entry.get()) || (gone && cluster.uid() == entry.get().uid()))
            {
                entry.remove();
            }
        });
    }

    /// All clusters.
    pub(crate) fn over(&self, store: &Store<Cluster>) -> Vec<Arc<Cluster>> {
        self.merge(store.all())
    }

    fn merge(&self, stored: Vec<Arc<Cluster>>) -> Vec<Arc<Cluster>> {
        self.with(|own| {
            let mut own = own.clusters.clone();
            let mut all = Vec::with_capacity(stored.len() + own.len());
            for cluster in stored {
                match own.remove(&reference(&cluster)) {
                    Some(newer) if version(&newer) > version(&cluster) => all.push(newer),
                    _ => all.push(cluster),
                }
            }
            all.extend(own.into_values());
            all
        })
    }
}

/// resourceVersions of one resource are comparable numbers since Kubernetes 1.35.
fn version(cluster: &Cluster) -> u64 {
    cluster
        .metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cluster(name: &str, version: &str) -> Cluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster",
            "metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": version},
            "spec": {"profile": "p", "tenancy": "Shared", "purposes": ["x"]}}))
        .unwrap()
    }

    fn versions(view: Vec<Arc<Cluster>>) -> Vec<(String, u64)> {
        let mut all: Vec<_> = view.iter().map(|c| (c.name_any(), version(c))).collect();
        all.sort();
        all
    }

    #[test]
    fn a_write_counts_before_the_watch_shows_it_and_no_longer_after() {
        let own = OwnWrites::default();
        own.wrote(cluster("new", "7"));
        own.wrote(cluster("old", "8"));
        let stored = || vec![Arc::new(cluster("old", "3"))];
        assert_eq!(
            versions(own.merge(stored())),
            [("new".into(), 7), ("old".into(), 8)]
        );
        own.seen(&cluster("new", "7"), false);
        own.seen(&cluster("old", "5"), false);
        assert_eq!(versions(own.merge(stored())), [("old".into(), 8)]);
    }

    #[test]
    fn an_answer_that_comes_after_the_watch_is_not_remembered() {
        let own = OwnWrites::default();
        own.seen(&cluster("a", "9"), true);
        own.wrote(cluster("a", "8"));
        assert!(own.merge(Vec::new()).is_empty());
    }

    #[test]
    fn a_deleted_cluster_is_forgotten_whatever_its_version() {
        let own = OwnWrites::default();
        own.wrote(cluster("a", "9"));
        own.seen(&cluster("a", "2"), true);
        assert!(own.merge(Vec::new()).is_empty());
    }
}
