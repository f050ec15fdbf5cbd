//! The watches on the onboarding cluster, and whom each change wakes.
use super::{Kinds, Onboarding, Removals, reconcile::Guard};
use crate::platform::{
    Platform, Wake,
    slim::{AccessSecret, Crd, NamespaceName},
};
use kube::{Api, ResourceExt, runtime::watcher::Config};
use openmcp_api::{ControlPlane, keys::labels};
use openmcp_reconcile::{
    Lane,
    cluster::Connection,
    events::Recorder,
    watch::{Change, Store, watch_on},
};
use tokio_util::sync::CancellationToken;

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
        let crds = watch_crds(&client, wake, &removals, stop);
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
            control_planes: watch_control_planes(&client, wake, stop),
            namespaces: watch_namespaces(&client, wake, stop),
            secrets: watch_secrets(&client, wake, stop),
            events: Recorder::new(client.clone(), crate::controlplane::NAME),
            removals,
            crds,
            kinds,
            guard,
            client,
        }
    }
}

fn watch_control_planes(client: &kube::Client, wake: &Wake, stop: &CancellationToken) -> Store<ControlPlane> {
    let wake = wake.clone();
    watch_on(
        "onboarding",
        Api::all(client.clone()),
        Config::default(),
        stop.clone(),
        move |change: Change<ControlPlane>| {
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
        },
    )
}

fn watch_namespaces(client: &kube::Client, wake: &Wake, stop: &CancellationToken) -> Store<NamespaceName> {
    let wake = wake.clone();
    watch_on(
        "onboarding",
        Api::all(client.clone()),
        Config::default(),
        stop.clone(),
        move |change: Change<NamespaceName>| {
            let name = change.object().name_any();
            wake.control_planes_where(|c| c.namespace().as_deref() == Some(&name), Lane::Bulk);
        },
    )
}

fn watch_secrets(client: &kube::Client, wake: &Wake, stop: &CancellationToken) -> Store<AccessSecret> {
    let wake = wake.clone();
    let ours = Config::default().labels(&format!(
        "{}={}",
        labels::MANAGED_BY,
        labels::MANAGED_BY_CONTROL_PLANE
    ));
    watch_on(
        "onboarding",
        Api::all(client.clone()),
        ours,
        stop.clone(),
        move |change: Change<AccessSecret>| {
            wake.control_plane_of(change.object().labels(), Lane::Normal);
        },
    )
}

fn watch_crds(
    client: &kube::Client,
    wake: &Wake,
    removals: &Removals,
    stop: &CancellationToken,
) -> Store<Crd> {
    let (wake, removals) = (wake.clone(), removals.clone());
    watch_on(
        "onboarding",
        Api::all(client.clone()),
        Config::default(),
        stop.clone(),
        move |_: Change<Crd>| {
            wake.onboarding(Lane::Normal);
            removals.wake();
        },
    )
}
