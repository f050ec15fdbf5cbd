//! Target clusters: one connection and one set of label-selected watches each, started when the first AccessRequest
//! needs it. A cluster that does not answer has stores that never sync; it keeps nobody else waiting.
use super::plan::{Id, Kind};
use crate::{
    context::HostEndpoint,
    names::{ANNOTATION_ACCESS_REQUEST, LABEL_ACCESS_REQUEST},
};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Api, Client, Resource, ResourceExt, core::ObjectMeta, runtime::watcher};
use openmcp_reconcile::watch::{Change, Store, watch};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Told the UID of an AccessRequest whose objects changed.
pub(crate) type WakeRequest = Arc<dyn Fn(&str) + Send + Sync>;
/// Told the UID of the Cluster whose watches are synced.
pub(crate) type WakeCluster = Arc<dyn Fn(&str) + Send + Sync>;

/// A connected cluster. Dropping the last reference stops its watches.
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) endpoint: HostEndpoint,
    /// Tells this connection from a later one with other credentials.
    fingerprint: String,
    accounts: Store<ServiceAccount>,
    roles: Store<Role>,
    cluster_roles: Store<ClusterRole>,
    role_bindings: Store<RoleBinding>,
    cluster_role_bindings: Store<ClusterRoleBinding>,
    _stop: DropGuard,
}

/// Everything connected, by the Cluster's UID.
pub(crate) struct Targets {
    connected: Mutex<HashMap<String, Arc<Target>>>,
    wake_request: WakeRequest,
    wake_cluster: WakeCluster,
    shutdown: CancellationToken,
}

impl Targets {
    pub(crate) fn new(
        wake_request: WakeRequest,
        wake_cluster: WakeCluster,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            connected: Mutex::default(),
            wake_request,
            wake_cluster,
            shutdown,
        }
    }

    /// The connection of that Cluster, if it has these credentials.
    pub(crate) fn get(&self, cluster_uid: &str, fingerprint: &str) -> Option<Arc<Target>> {
        self.lock()
            .get(cluster_uid)
            .filter(|target| target.fingerprint == fingerprint)
            .cloned()
    }

    /// Connects, replacing an earlier connection. Sends nothing; the watches start by themselves.
    pub(crate) fn connect(
        &self,
        cluster_uid: &str,
        fingerprint: &str,
        endpoint: HostEndpoint,
        client: Client,
    ) -> Arc<Target> {
        let stop = self.shutdown.child_token();
        let target = Arc::new(Target {
            endpoint,
            fingerprint: fingerprint.to_owned(),
            accounts: self.watch(&client, &stop),
            roles: self.watch(&client, &stop),
            cluster_roles: self.watch(&client, &stop),
            role_bindings: self.watch(&client, &stop),
            cluster_role_bindings: self.watch(&client, &stop),
            client,
            _stop: stop.clone().drop_guard(),
        });
        self.lock().insert(cluster_uid.to_owned(), target.clone());
        let (weak, wake, uid) = (
            Arc::downgrade(&target),
            self.wake_cluster.clone(),
            cluster_uid.to_owned(),
        );
        tokio::spawn(async move {
            // Stores are cheap clones: waiting on them does not keep the connection alive.
            let Some(stores) = weak.upgrade().map(|target| target.stores()) else {
                return;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = stores.synced() => wake(&uid),
            }
        });
        target
    }

    /// Everything connected.
    pub(crate) fn all(&self) -> Vec<Arc<Target>> {
        self.lock().values().cloned().collect()
    }

    /// Drops the connection of a Cluster that is gone.
    pub(crate) fn forget(&self, cluster_uid: &str) {
        let dropped = self.lock().remove(cluster_uid);
        drop(dropped);
    }

    fn watch<K>(&self, client: &Client, stop: &CancellationToken) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let wake = self.wake_request.clone();
        let config = watcher::Config::default().labels(LABEL_ACCESS_REQUEST);
        watch(
            Api::all(client.clone()),
            config,
            stop.clone(),
            move |change: Change<K>| {
                let owner = |object: &K| object.labels().get(LABEL_ACCESS_REQUEST).cloned();
                let (now, before) = match &change {
                    // Everybody is woken once the first list is complete.
                    Change::Applied { first: true, .. } => return,
                    Change::Applied { object, old, .. } => (owner(object), old.as_deref().and_then(owner)),
                    other => (owner(other.object()), None),
                };
                for uid in now
                    .iter()
                    .chain(before.iter().filter(|before| Some(*before) != now.as_ref()))
                {
                    wake(uid);
                }
            },
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Target>>> {
        // A panic while the map was held cannot leave it half changed.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stores of a target, without its life.
struct TargetStores {
    accounts: Store<ServiceAccount>,
    roles: Store<Role>,
    cluster_roles: Store<ClusterRole>,
    role_bindings: Store<RoleBinding>,
    cluster_role_bindings: Store<ClusterRoleBinding>,
}

impl TargetStores {
    async fn synced(&self) {
        tokio::join!(
            self.accounts.synced(),
            self.roles.synced(),
            self.cluster_roles.synced(),
            self.role_bindings.synced(),
            self.cluster_role_bindings.synced(),
        );
    }
}

impl Target {
    /// Whether all first lists are complete. Before, absence means nothing.
    pub(crate) fn is_synced(&self) -> bool {
        self.accounts.is_synced()
            && self.roles.is_synced()
            && self.cluster_roles.is_synced()
            && self.role_bindings.is_synced()
            && self.cluster_role_bindings.is_synced()
    }

    /// An object as last seen, if it bears a mark.
    pub(crate) fn get(&self, id: &Id) -> Option<Value> {
        match id.kind {
            Kind::ServiceAccount => value(self.accounts.get(&id.namespace, &id.name)),
            Kind::Role => value(self.roles.get(&id.namespace, &id.name)),
            Kind::ClusterRole => value(self.cluster_roles.get("", &id.name)),
            Kind::RoleBinding => value(self.role_bindings.get(&id.namespace, &id.name)),
            Kind::ClusterRoleBinding => value(self.cluster_role_bindings.get("", &id.name)),
        }
    }

    /// Identities and UIDs of everything that bears the mark of that AccessRequest.
    pub(crate) fn of_request(&self, request_uid: &str) -> HashMap<Id, String> {
        self.all_that(&|meta| mark(meta) == Some(request_uid))
    }

    /// The same of AccessRequests that had this name before the one with that UID: nobody removes it otherwise, if
    /// somebody took the finalizer off them.
    pub(crate) fn of_former(&self, request: &str, request_uid: &str) -> HashMap<Id, String> {
        let of = |meta: &ObjectMeta| {
            let annotations = meta.annotations.as_ref();
            annotations.and_then(|them| them.get(ANNOTATION_ACCESS_REQUEST).cloned())
        };
        self.all_that(&|meta| {
            mark(meta).is_some_and(|uid| uid != request_uid) && of(meta).as_deref() == Some(request)
        })
    }

    fn all_that(&self, holds: &dyn Fn(&ObjectMeta) -> bool) -> HashMap<Id, String> {
        let mut found = HashMap::new();
        collect(&mut found, Kind::ServiceAccount, &self.accounts, holds);
        collect(&mut found, Kind::Role, &self.roles, holds);
        collect(&mut found, Kind::ClusterRole, &self.cluster_roles, holds);
        collect(&mut found, Kind::RoleBinding, &self.role_bindings, holds);
        collect(
            &mut found,
            Kind::ClusterRoleBinding,
            &self.cluster_role_bindings,
            holds,
        );
        found
    }

    fn stores(&self) -> TargetStores {
        TargetStores {
            accounts: self.accounts.clone(),
            roles: self.roles.clone(),
            cluster_roles: self.cluster_roles.clone(),
            role_bindings: self.role_bindings.clone(),
            cluster_role_bindings: self.cluster_role_bindings.clone(),
        }
    }
}

fn value<K: Serialize>(object: Option<Arc<K>>) -> Option<Value> {
    object.and_then(|object| serde_json::to_value(&*object).ok())
}

/// The UID of the AccessRequest that an object was made for.
fn mark(meta: &ObjectMeta) -> Option<&str> {
    let labels = meta.labels.as_ref()?;
    labels.get(LABEL_ACCESS_REQUEST).map(String::as_str)
}

fn collect<K>(
    found: &mut HashMap<Id, String>,
    kind: Kind,
    store: &Store<K>,
    holds: &dyn Fn(&ObjectMeta) -> bool,
) where
    K: Resource<DynamicType = ()> + Clone,
    K::DynamicType: Eq + Hash,
{
    for object in store.all() {
        if holds(object.meta()) {
            let id = Id {
                kind,
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
            };
            found.insert(id, object.uid().unwrap_or_default());
        }
    }
}
