//! The service objects on the onboarding cluster: one watch for each kind that a ServiceProvider registered, of their
//! identities only.
use super::Removals;
use crate::platform::{
    Wake,
    slim::{Crd, ServiceObject},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
    core::ApiResource,
    runtime::watcher::Config,
};
use openmcp_api::{ServiceProvider, common::GroupVersionKind};
use openmcp_reconcile::{
    Fault, Lane,
    watch::{Change, Store, watch_dynamic},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// What is known of the objects of a kind.
pub(crate) enum Objects {
    /// The onboarding cluster has no such kind, so there are no objects of it.
    NotInstalled,
    /// The list is not complete yet.
    Unknown,
    Listed(Store<ServiceObject>),
}

struct KindWatch {
    store: Store<ServiceObject>,
    stop: CancellationToken,
}

/// The watches of service kinds.
pub(crate) struct Kinds {
    client: kube::Client,
    crds: Store<Crd>,
    providers: Store<ServiceProvider>,
    wake: Wake,
    removals: Removals,
    shutdown: CancellationToken,
    running: Mutex<BTreeMap<GroupVersionKind, KindWatch>>,
}

impl Kinds {
    pub(crate) fn new(
        client: kube::Client,
        crds: Store<Crd>,
        providers: Store<ServiceProvider>,
        wake: Wake,
        removals: Removals,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            client,
            crds,
            providers,
            wake,
            removals,
            shutdown,
            running: Mutex::default(),
        }
    }

    /// Starts the watches of registered kinds that are served now and whose group may be read, ends those of kinds that
    /// are not served any more.
    pub(crate) fn follow(&self, readable_groups: &BTreeSet<String>) {
        let registered: BTreeSet<GroupVersionKind> = registered(&self.providers);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|kind, watch| {
            let keep = registered.contains(kind) && self.served(kind).is_some();
            if !keep {
                watch.stop.cancel();
            }
            keep
        });
        for kind in registered {
            if running.contains_key(&kind) || !readable_groups.contains(&kind.group) {
                continue;
            }
            if let Some(resource) = self.served(&kind) {
                running.insert(kind, self.watch(resource));
            }
        }
    }

    fn watch(&self, resource: ApiResource) -> KindWatch {
        let stop = self.shutdown.child_token();
        let (wake, removals) = (self.wake.clone(), self.removals.clone());
        let api: Api<ServiceObject> = Api::all_with(self.client.clone(), &resource);
        let store = watch_dynamic(
            "onboarding",
            &resource,
            api,
            Config::default(),
            stop.clone(),
            move |change: Change<ServiceObject>| {
                let object = change.object();
                // Service object and ControlPlane bear the same name; deletions wait for each other.
                wake.control_plane(
                    &object.namespace().unwrap_or_default(),
                    &object.name_any(),
                    Lane::Normal,
                );
                removals.wake_providers();
            },
        );
        // A list without objects is news, too, and no change tells it.
        let (listed, ended, removals) = (store.clone(), stop.clone(), self.removals.clone());
        tokio::spawn(async move {
            if ended.run_until_cancelled(listed.synced()).await.is_some() {
                removals.wake();
            }
        });
        KindWatch { store, stop }
    }

    /// How to reach the kind, if the onboarding cluster serves it.
    fn served(&self, kind: &GroupVersionKind) -> Option<ApiResource> {
        self.crd(kind)
            .filter(|crd| crd.is_established())?
            .resource(&kind.version)
    }

    fn crd(&self, kind: &GroupVersionKind) -> Option<std::sync::Arc<Crd>> {
        self.crds.all().into_iter().find(|crd| crd.defines(kind))
    }

    /// What was last seen of a kind's objects.
    pub(crate) fn objects(&self, kind: &GroupVersionKind) -> Objects {
        if self.crds.is_synced() && self.crd(kind).is_none() {
            return Objects::NotInstalled;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get(kind) {
            Some(watch) if watch.store.is_synced() => Objects::Listed(watch.store.clone()),
            _ => Objects::Unknown,
        }
    }

    /// Lists a kind's objects on the API server, as the last look before its CRD is deleted.
    pub(crate) async fn list_now(&self, kind: &GroupVersionKind) -> Result<Vec<String>, Fault> {
        let Some(resource) = self.served(kind) else {
            return Ok(Vec::new());
        };
        let api: Api<ServiceObject> = Api::all_with(self.client.clone(), &resource);
        match api.list(&ListParams::default()).await {
            Ok(list) => Ok(list
                .iter()
                .map(|o| {
                    format!(
                        "{} {}/{}",
                        kind.kind,
                        o.namespace().unwrap_or_default(),
                        o.name_any()
                    )
                })
                .collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(Fault::api(
                format!("list {kind} on the onboarding cluster"),
                &error,
            )),
        }
    }

    /// Deletes one service object, if it is there. Returns whether it still is. `None`: not known yet.
    pub(crate) async fn delete(
        &self,
        kind: &GroupVersionKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<bool>, Fault> {
        let store = match self.objects(kind) {
            Objects::NotInstalled => return Ok(Some(false)),
            Objects::Unknown => return Ok(None),
            Objects::Listed(store) => store,
        };
        let Some(object) = store.get(namespace, name) else {
            return Ok(Some(false));
        };
        if let Some(resource) = self
            .served(kind)
            .filter(|_| !crate::meta::is_deleting(object.as_ref()))
        {
            let api: Api<ServiceObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
            let preconditions = Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            });
            match api
                .delete(
                    name,
                    &DeleteParams {
                        preconditions,
                        ..DeleteParams::background()
                    },
                )
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(Fault::api(
                        format!("delete {} {namespace}/{name}", kind.kind),
                        &error,
                    ));
                }
            }
        }
        Ok(Some(true))
    }
}

/// Every kind that any ServiceProvider registered.
pub(crate) fn registered(providers: &Store<ServiceProvider>) -> BTreeSet<GroupVersionKind> {
    providers
        .all()
        .iter()
        .filter_map(|p| p.status.clone())
        .flat_map(|s| s.resources)
        .collect()
}
