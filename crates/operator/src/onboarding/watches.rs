//! The watches on the onboarding cluster, and whom each change wakes.
use super::{Kinds, Onboarding, Removals, reconcile::Guard};
use crate::platform::{
    Platform, Wake,
    slim::{AccessSecret, Crd, NamespaceName},
};
use kube::{Api, Resource, ResourceExt, runtime::watcher::Config};
use openmcp_api::{ControlPlane, keys::labels};
use openmcp_reconcile::{
    Lane,
    cluster::Connection,
    events::Recorder,
    watch::{Change, Store, watch_on},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio_util::sync::CancellationToken;

/// Where the watches are on, and what each of their changes may wake.
pub(super) struct Source<'a> {
    pub client: &'a kube::Client,
    pub wake: &'a Wake,
    pub stop: &'a CancellationToken,
}

impl Source<'_> {
    /// Watches a kind, or a part of it, in all namespaces.
    pub(super) fn watch<K>(
        &self,
        config: Config,
        on_change: impl Fn(&Wake, Change<K>) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let wake = self.wake.clone();
        let api = Api::all(self.client.clone());
        watch_on("onboarding", api, config, self.stop.clone(), move |change| {
            on_change(&wake, change);
        })
    }

    fn control_planes(&self) -> Store<ControlPlane> {
        self.watch(Config::default(), |wake, change: Change<ControlPlane>| {
            let control_plane = change.object();
            let lane = if matches!(change, Change::Applied { first: true, .. }) {
                Lane::Bulk
            } else {
                Lane::Urgent
            };
            wake.control_plane(
                &control_plane.namespace().unwrap_or_default(),
                &control_plane.name_any(),
                lane,
            );
        })
    }

    fn namespaces(&self) -> Store<NamespaceName> {
        self.watch(Config::default(), |wake, change: Change<NamespaceName>| {
            let name = change.object().name_any();
            wake.control_planes_where(|c| c.namespace().as_deref() == Some(&name), Lane::Bulk);
        })
    }

    fn secrets(&self) -> Store<AccessSecret> {
        let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_CONTROL_PLANE);
        self.watch(
            Config::default().labels(&ours),
            |wake, change: Change<AccessSecret>| {
                wake.control_plane_of(change.object().labels(), Lane::Normal);
            },
        )
    }

    fn crds(&self, removals: &Removals) -> Store<Crd> {
        let removals = removals.clone();
        self.watch(Config::default(), move |wake, _| {
            wake.onboarding(Lane::Normal);
            removals.wake();
        })
    }
}

impl Onboarding {
    /// Starts every watch on the onboarding cluster, those of service kinds apart.
    pub(super) fn watch(
        connection: Connection,
        client: kube::Client,
        identity: String,
        guard: Guard,
        platform: &Platform,
        wake: &Wake,
        stop: &CancellationToken,
    ) -> Self {
        let removals = Removals::new(wake.clone(), platform);
        let from = Source {
            client: &client,
            wake,
            stop,
        };
        let crds = from.crds(&removals);
        let kinds = Kinds::new(
            client.clone(),
            crds.clone(),
            platform.service_providers.clone(),
            wake.clone(),
            removals.clone(),
            stop.clone(),
        );
        Self {
            connection,
            identity,
            control_planes: from.control_planes(),
            namespaces: from.namespaces(),
            secrets: from.secrets(),
            events: Recorder::new(client.clone(), crate::controlplane::NAME),
            removals,
            crds,
            kinds,
            guard,
            client,
        }
    }
}
