//! The watches on the platform cluster. Stores that others look things up in come first.
use super::{
    Installed, Platform,
    slim::{AccessSecret, ClusterRoleName, Crd},
    wake::{Wake, lane},
};
use crate::{meta::is_deleting, schedule::OwnWrites};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, ResourceExt, runtime::watcher::Config};
use openmcp_api::{
    AccessRequest, Cluster, ClusterProfile, ClusterProvider, ClusterRequest, PlatformService,
    ServiceProvider,
    common::ObjectReference,
    keys::labels,
    names::ProviderNames,
    provider::{Provider, ProviderKind},
};
use openmcp_reconcile::{
    Lane,
    watch::{Change, Store, watch},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio_util::sync::CancellationToken;

/// Starts every watch on the platform cluster.
pub(crate) fn start(
    client: kube::Client,
    namespace: String,
    environment: String,
    wake: &Wake,
    own: &OwnWrites,
    shutdown: &CancellationToken,
) -> Platform {
    let from = Source {
        client: &client,
        wake,
        shutdown,
    };
    let service_providers = from.providers::<ServiceProvider>();
    let cluster_providers = from.providers::<ClusterProvider>();
    let platform_services = from.providers::<PlatformService>();
    let providers = Providers {
        service: service_providers.clone(),
        cluster: cluster_providers.clone(),
        platform: platform_services.clone(),
    };
    let accesses = from.accesses();
    let requests = from.requests(&accesses);
    let clusters = from.clusters(&requests, &accesses, &providers, own);
    let profiles = from.profiles(&accesses, &providers);
    Platform {
        secrets: from.secrets(&accesses, &providers),
        namespaces: from.namespaces(),
        crds: from.crds(&providers),
        cluster_roles: from.cluster_roles(&providers),
        installed: from.installed(&namespace),
        service_providers,
        cluster_providers,
        platform_services,
        clusters,
        profiles,
        requests,
        accesses,
        namespace,
        environment,
        client: client.clone(),
    }
}

/// The providers of all kinds, to be woken by what they have no name of.
#[derive(Clone)]
struct Providers {
    service: Store<ServiceProvider>,
    cluster: Store<ClusterProvider>,
    platform: Store<PlatformService>,
}

impl Providers {
    fn wake(&self, wake: &Wake, lane: Lane, which: impl Fn(ProviderKind, &str, bool) -> bool) {
        fn each<P: Provider + ResourceExt>(
            store: &Store<P>,
            wake: &Wake,
            lane: Lane,
            which: &impl Fn(ProviderKind, &str, bool) -> bool,
        ) {
            for provider in store.all() {
                if which(P::KIND, &provider.name_any(), is_deleting(provider.as_ref())) {
                    wake.provider(P::KIND, provider.name_any(), lane);
                }
            }
        }
        each(&self.service, wake, lane, &which);
        each(&self.cluster, wake, lane, &which);
        each(&self.platform, wake, lane, &which);
    }
}

struct Source<'a> {
    client: &'a kube::Client,
    wake: &'a Wake,
    shutdown: &'a CancellationToken,
}

impl Source<'_> {
    fn watch<K>(
        &self,
        api: Api<K>,
        config: Config,
        mut on_change: impl FnMut(&Wake, Change<K>) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let wake = self.wake.clone();
        watch(api, config, self.shutdown.clone(), move |change| {
            on_change(&wake, change)
        })
    }

    fn all<K>(&self, on_change: impl FnMut(&Wake, Change<K>) + Send + 'static) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.watch(Api::all(self.client.clone()), Config::default(), on_change)
    }

    fn providers<P>(&self) -> Store<P>
    where
        P: Provider + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.all(|wake, change: Change<P>| {
            wake.provider(P::KIND, change.object().name_any(), lane(&change, Lane::Urgent));
            if P::KIND == ProviderKind::Service {
                // Its kinds may be new: the operator asks for access to them, and deletions may wait for them.
                wake.onboarding(Lane::Normal);
                wake.leaving_control_planes(Lane::Normal);
            }
        })
    }

    fn accesses(&self) -> Store<AccessRequest> {
        self.all(|wake, change: Change<AccessRequest>| {
            let access = change.object();
            wake.access(access, lane(&change, Lane::Urgent));
            wake.control_planes_of(&change);
            wake.onboarding(lane(&change, Lane::Normal));
        })
    }

    fn requests(&self, accesses: &Store<AccessRequest>) -> Store<ClusterRequest> {
        let accesses = accesses.clone();
        self.all(move |wake, change: Change<ClusterRequest>| {
            let request = change.object();
            wake.request(request, lane(&change, Lane::Urgent));
            wake.control_planes_of(&change);
            let at = ObjectReference::new(request.namespace().unwrap_or_default(), request.name_any());
            for access in accesses
                .all()
                .iter()
                .filter(|a| a.spec.request_ref.as_ref() == Some(&at))
            {
                wake.access(access, Lane::Normal);
            }
        })
    }

    fn clusters(
        &self,
        requests: &Store<ClusterRequest>,
        accesses: &Store<AccessRequest>,
        providers: &Providers,
        own: &OwnWrites,
    ) -> Store<Cluster> {
        let (requests, accesses, providers, own) =
            (requests.clone(), accesses.clone(), providers.clone(), own.clone());
        self.all(move |wake, change: Change<Cluster>| {
            let cluster = change.object();
            let gone = matches!(change, Change::Deleted { .. });
            own.seen(cluster, gone);
            let at = ObjectReference::new(cluster.namespace().unwrap_or_default(), cluster.name_any());
            for request in requests.all() {
                let assigned = request.status.as_ref().and_then(|s| s.cluster.as_ref());
                // A request without a cluster may fit into this one, or take its name when it is gone.
                if assigned.is_none_or(|a| *a == at) {
                    wake.request(&request, lane(&change, Lane::Normal));
                }
                if assigned == Some(&at) {
                    wake.control_plane_of(request.labels(), lane(&change, Lane::Normal));
                }
            }
            for access in accesses
                .all()
                .iter()
                .filter(|a| a.spec.cluster_ref.as_ref() == Some(&at))
            {
                wake.access(access, lane(&change, Lane::Normal));
            }
            providers.wake(wake, Lane::Normal, |kind, _, deleting| {
                kind == ProviderKind::Cluster && deleting
            });
        })
    }

    fn profiles(&self, accesses: &Store<AccessRequest>, providers: &Providers) -> Store<ClusterProfile> {
        let (accesses, providers) = (accesses.clone(), providers.clone());
        self.all(move |wake, change: Change<ClusterProfile>| {
            for access in accesses.all() {
                wake.access(&access, lane(&change, Lane::Normal));
            }
            providers.wake(wake, Lane::Normal, |kind, _, deleting| {
                kind == ProviderKind::Cluster && deleting
            });
        })
    }

    fn namespaces(&self) -> Store<Namespace> {
        let namespaces = self.all(|wake, change: Change<Namespace>| {
            wake.control_planes_of(&change);
        });
        let _ = self.wake.known_namespaces.set(namespaces.clone());
        namespaces
    }

    fn secrets(&self, accesses: &Store<AccessRequest>, providers: &Providers) -> Store<AccessSecret> {
        let (accesses, providers) = (accesses.clone(), providers.clone());
        self.all(move |wake, change: Change<AccessSecret>| {
            let secret = change.object();
            let (namespace, name) = (secret.namespace(), secret.name_any());
            for access in accesses.all() {
                let refers = access
                    .status
                    .as_ref()
                    .and_then(|status| status.secret_ref.as_ref());
                if access.namespace() == namespace && refers.is_some_and(|refers| refers.name == name) {
                    wake.control_plane_of(access.labels(), lane(&change, Lane::Normal));
                    wake.onboarding(lane(&change, Lane::Normal));
                }
            }
            providers.wake(wake, lane(&change, Lane::Normal), |kind, provider, _| {
                ProviderNames::new(kind, provider).webhook_secret() == name
            });
        })
    }

    fn crds(&self, providers: &Providers) -> Store<Crd> {
        let providers = providers.clone();
        self.all(move |wake, _| providers.wake(wake, Lane::Normal, |_, _, deleting| deleting))
    }

    fn cluster_roles(&self, providers: &Providers) -> Store<ClusterRoleName> {
        let providers = providers.clone();
        self.all(move |wake, change: Change<ClusterRoleName>| {
            let name = change.object().name_any();
            if name.starts_with(ClusterRoleName::OF_PROVIDERS)
                && matches!(change, Change::Deleted { .. } | Change::Applied { old: None, .. })
            {
                providers.wake(wake, lane(&change, Lane::Normal), |_, _, _| true);
            }
        })
    }

    /// Objects installed for providers: each wakes the provider that its labels name.
    fn installed(&self, namespace: &str) -> Installed {
        Installed {
            jobs: self.owned(namespace),
            deployments: self.owned(namespace),
            pods: self.owned(namespace),
            services: self.owned(namespace),
            service_accounts: self.owned(namespace),
            roles: self.owned(namespace),
            role_bindings: self.owned(namespace),
            cluster_role_bindings: self.labelled(Api::all(self.client.clone())),
        }
    }

    fn owned<K>(&self, namespace: &str) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        self.labelled(Api::namespaced(self.client.clone(), namespace))
    }

    fn labelled<K>(&self, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let ours = format!("{}={}", labels::APP_MANAGED_BY, labels::MANAGED_BY_OPERATOR);
        self.watch(api, Config::default().labels(&ours), |wake, change: Change<K>| {
            wake.installer_of(change.object().labels(), lane(&change, Lane::Normal));
        })
    }
}
