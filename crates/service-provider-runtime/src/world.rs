//! What every step of a reconcile works with: names, watches, connections, the engine.
use crate::{
    access::{Owner, Requests},
    archive::{self, Archive, Packed},
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
/// that nothing is written, said or timed twice, and nothing is taken for said that is not there any more.
#[derive(Default)]
pub(crate) struct Statuses(Mutex<HashMap<Key, Last>>);

/// The last own write.
pub(crate) enum Last {
    Wrote(Written),
    /// It may have arrived or not. What is known is the one before.
    Unknown(Option<Written>),
}

#[derive(Clone)]
pub(crate) struct Written {
    /// The version that it made.
    version: Option<u64>,
    status: ServiceStatus,
}

impl Last {
    fn known(&self) -> Option<&Written> {
        match self {
            Self::Wrote(written) => Some(written),
            Self::Unknown(before) => before.as_ref(),
        }
    }
}

impl Statuses {
    fn last(&self) -> MutexGuard<'_, HashMap<Key, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of an object as it is now, as far as this process knows.
    pub(crate) fn of<K: ServiceApi>(&self, key: &Key, object: &K) -> ServiceStatus {
        self.newer(key, object.meta(), object.status().cloned().unwrap_or_default())
    }

    /// `shown`, unless another status was written since.
    pub(crate) fn newer(&self, key: &Key, of: &ObjectMeta, shown: ServiceStatus) -> ServiceStatus {
        match self.last().get(key).and_then(Last::known) {
            Some(written) if archive::version(of) < written.version => written.status.clone(),
            _ => shown,
        }
    }

    /// A status is about to be written. Returns what was the last write so far.
    pub(crate) fn begin(&self, key: &Key) -> Option<Last> {
        let mut last = self.last();
        let before = last.get(key).and_then(Last::known).cloned();
        last.insert(key.clone(), Last::Unknown(before))
    }

    /// It need not be written, or there is nothing to write to.
    pub(crate) fn spared(&self, key: &Key, so_far: Option<Last>) {
        match so_far {
            Some(last) => self.last().insert(key.clone(), last),
            None => self.last().remove(key),
        };
    }

    /// Whether it is not known what the last write came to.
    pub(crate) fn is_unknown(&self, key: &Key) -> bool {
        matches!(self.last().get(key), Some(Last::Unknown(_)))
    }

    /// A status was written, and made this version of the object.
    pub(crate) fn wrote(&self, key: &Key, object: &ObjectMeta, status: ServiceStatus) {
        let version = archive::version(object);
        let written = Written { version, status };
        self.last().insert(key.clone(), Last::Wrote(written));
    }

    /// The watch has shown the object: what was written before is not needed any more.
    pub(crate) fn seen<K: ServiceApi>(&self, key: &Key, object: &Packed<K>) {
        let mut last = self.last();
        if let Some(Last::Wrote(written)) = last.get(key)
            && object.version() >= written.version
        {
            last.remove(key);
        }
    }

    fn forget(&self, key: &Key) {
        self.last().remove(key);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(number.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn phase(phase: &str) -> ServiceStatus {
        ServiceStatus {
            phase: phase.to_owned(),
            ..ServiceStatus::default()
        }
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_shown_it_and_not_only_something_newer_than_before() {
        let (statuses, key) = (Statuses::default(), Key::new("X", "a", "x"));
        statuses.wrote(&key, &version(12), phase("Ready"));
        // The finalizer was set at 11, before: the watch shows that first.
        for (shown, said) in [(10, "Ready"), (11, "Ready"), (12, "Shown"), (13, "Shown")] {
            let known = statuses.newer(&key, &version(shown), phase("Shown"));
            assert_eq!(known.phase, said, "at {shown}");
        }
    }

    #[test]
    fn after_a_write_that_failed_the_one_before_counts_until_the_watch_has_shown_it() {
        let (statuses, key) = (Statuses::default(), Key::new("X", "a", "x"));
        statuses.wrote(&key, &version(12), phase("Ready"));
        for _ in 0..2 {
            statuses.begin(&key);
            assert!(statuses.is_unknown(&key));
            for (shown, said) in [(11, "Ready"), (12, "Shown")] {
                let known = statuses.newer(&key, &version(shown), phase("Shown"));
                assert_eq!(known.phase, said, "at {shown}");
            }
        }
    }

    #[test]
    fn a_write_that_was_cut_off_is_unknown_until_another_one_is_answered() {
        let (statuses, key) = (Statuses::default(), Key::new("X", "a", "x"));
        assert!(statuses.begin(&key).is_none());
        assert!(statuses.is_unknown(&key));
        statuses.wrote(&key, &version(12), phase("Ready"));
        assert!(!statuses.is_unknown(&key));
        let so_far = statuses.begin(&key);
        statuses.spared(&key, so_far);
        assert_eq!(statuses.newer(&key, &version(11), phase("Shown")).phase, "Ready");
    }
}
