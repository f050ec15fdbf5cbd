//! What every step of a reconcile works with: names, watches, connections, the engine.
use crate::{
    access::{Owner, Requests},
    archive::{Archive, Packed},
    contained::Contained,
    dependents::Dependents,
    external::{self, Calls, Looks},
    inventories::Inventories,
    provider::{ServiceApi, ServiceProvider, ServiceStatus},
    singles::Singles,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, ObjectReference},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Resource, ResourceExt};
use openmcp_api::{Inventory, names};
use openmcp_reconcile::{
    Environment, Fault, Key,
    children::Engine,
    controller::Handle,
    events::{Note, Recorder},
    watch::Store,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How things are called in this process.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The provider, as its ServiceProvider object is called: field manager, label value, prefix of names.
    pub(crate) provider: &'static str,
    /// The namespace of its pods.
    pub(crate) home: String,
    /// Kind of the service objects.
    pub(crate) kind: &'static str,
    /// Group of the service objects.
    pub(crate) group: String,
    /// On service objects.
    pub(crate) finalizer: String,
}

impl Names {
    pub(crate) fn of<P: ServiceProvider>(provider: &str, home: &str) -> Self {
        let group = P::Api::group(&()).into_owned();
        Self {
            // Both live as long as the process, like the constants that they stand for.
            provider: provider.to_owned().leak(),
            kind: P::Api::kind(&()).into_owned().leak(),
            home: home.to_owned(),
            finalizer: openmcp_api::keys::finalizers::service_object(&group),
            group,
        }
    }

    pub(crate) fn user_agent(&self) -> String {
        crate::Process::user_agent(self.provider)
    }
}

/// The statuses that were written and that the watch has not shown yet: what comes next is compared with them, so
/// that nothing is written, said or timed twice.
#[derive(Default)]
pub(crate) struct Statuses(Mutex<HashMap<Key, (Option<String>, ServiceStatus)>>);

impl Statuses {
    fn written(&self) -> MutexGuard<'_, HashMap<Key, (Option<String>, ServiceStatus)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of an object as it is now, as far as this process knows.
    pub(crate) fn of<K: ServiceApi>(&self, key: &Key, object: &K) -> ServiceStatus {
        self.newer(key, object.meta(), object.status().cloned().unwrap_or_default())
    }

    /// `shown`, unless another status was written over it.
    pub(crate) fn newer(&self, key: &Key, of: &ObjectMeta, shown: ServiceStatus) -> ServiceStatus {
        match self.written().get(key) {
            Some((seen, written)) if *seen == of.resource_version => written.clone(),
            _ => shown,
        }
    }

    /// A status was written over an object as it was seen.
    pub(crate) fn wrote(&self, key: &Key, object: &ObjectMeta, status: ServiceStatus) {
        self.written()
            .insert(key.clone(), (object.resource_version.clone(), status));
    }

    /// The watch has shown a newer version: what was written over an older one is not needed any more.
    pub(crate) fn seen<K: ServiceApi>(&self, key: &Key, object: &Packed<K>) {
        let mut written = self.written();
        if !written.contains_key(key) {
            return;
        }
        let version = object.resource_version();
        if written.get(key).is_some_and(|(over, _)| *over != version) {
            written.remove(key);
        }
    }

    fn forget(&self, key: &Key) {
        self.written().remove(key);
    }
}

/// What is to be known of a ControlPlane.
pub(crate) struct Presence {
    /// It is being deleted.
    pub(crate) terminates: bool,
    pub(crate) wish: u64,
}

/// See the module.
pub(crate) struct World<P: ServiceProvider> {
    pub(crate) provider: P,
    pub(crate) contained: Contained,
    pub(crate) backends: Calls,
    pub(crate) looks: Looks,
    pub(crate) names: Names,
    pub(crate) requests: Requests,
    pub(crate) inventories: Inventories,
    pub(crate) config_maps: Singles<ConfigMap>,
    pub(crate) configs: Store<P::Config>,
    pub(crate) environment: Environment,
    pub(crate) onboarding: kube::Client,
    pub(crate) objects: Archive<P::Api>,
    pub(crate) control_planes: Store<Presence>,
    pub(crate) recorder: Recorder,
    pub(crate) engine: Engine,
    pub(crate) dependents: Arc<Dependents>,
    pub(crate) handle: Handle,
    pub(crate) statuses: Arc<Statuses>,
}

impl<P: ServiceProvider> World<P> {
    /// The Inventory of a service object, as it is stored.
    pub(crate) async fn inventory_of(&self, key: &Key) -> Result<Option<Arc<Inventory>>, Fault> {
        let name = names::inventory(self.names.provider, self.names.kind, &key.name);
        self.inventories.load(&Owner::new(key).namespace, &name).await
    }

    /// How [`Dependents`] call the ConfigMaps.
    pub(crate) const CONFIG_MAP: &'static str = "ConfigMap";

    /// The service objects of a namespace.
    pub(crate) fn objects_in(&self, namespace: &str) -> Api<P::Api> {
        Api::namespaced(self.onboarding.clone(), namespace)
    }

    /// Says something about a service object, where its owner looks.
    pub(crate) fn note<K: Resource>(
        &self,
        object: &K,
        warning: bool,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) {
        let regarding = ObjectReference {
            api_version: Some(P::Api::api_version(&()).into_owned()),
            kind: Some(self.names.kind.to_owned()),
            namespace: object.namespace(),
            name: object.name_any().into(),
            uid: object.uid(),
            resource_version: object.resource_version(),
            ..ObjectReference::default()
        };
        let note = Note {
            warning,
            reason,
            action,
            note,
        };
        self.recorder.publish(regarding, note);
    }

    /// What the steps about the resources in back ends share.
    pub(crate) fn externals<'a, L>(
        &'a self,
        key: &'a Key,
        uid: &'a str,
        ledger: &'a L,
    ) -> external::Scene<'a, L> {
        external::Scene {
            calls: &self.backends,
            looks: &self.looks,
            ledger,
            key,
            uid,
        }
    }

    /// Everything about a service object that is gone is forgotten; what nobody reads any more is closed.
    pub(crate) fn forget(&self, key: &Key) {
        self.engine.forget(key);
        for source in self.dependents.forget(key) {
            self.requests.connections.close(source);
            self.config_maps.close(source);
        }
        self.statuses.forget(key);
        self.looks.forget(key);
        self.handle.forget(key);
    }
}
