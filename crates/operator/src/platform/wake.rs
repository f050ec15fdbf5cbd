//! Which key a change wakes.
use super::record;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use openmcp_api::{
    AccessRequest, ClusterRequest, ControlPlane, keys::labels, names::label_value, provider::ProviderKind,
};
use openmcp_reconcile::{
    Handle, Key, Lane,
    watch::{Change, Store},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

const KEY_REQUEST: &str = "ClusterRequest";
const KEY_ACCESS: &str = "AccessRequest";
const KEY_CONTROL_PLANE: &str = "ControlPlane";
const KEY_ONBOARDING: &str = "Onboarding";

/// Wakes the operator's controllers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Wake {
    pub providers: Handle,
    pub requests: Handle,
    pub accesses: Handle,
    pub onboarding: Handle,
    pub control_planes: Handle,
    /// The ControlPlanes, once the onboarding cluster can be read.
    pub known_control_planes: Arc<OnceLock<Store<ControlPlane>>>,
    /// The platform's namespaces, which say what was made for which ControlPlane.
    pub known_namespaces: Arc<OnceLock<Store<Namespace>>>,
}

impl Wake {
    pub(crate) fn provider(&self, kind: ProviderKind, name: String, lane: Lane) {
        self.providers.wake(Key::new(kind.as_str(), "", name), lane);
    }

    /// The provider whose installation bears these labels.
    pub(crate) fn installer_of(&self, on: &BTreeMap<String, String>, lane: Lane) {
        let kind = on
            .get(labels::APP_NAME)
            .and_then(|text| ProviderKind::ALL.into_iter().find(|k| k.as_str() == text));
        if let (Some(kind), Some(name)) = (kind, on.get(labels::APP_INSTANCE)) {
            self.provider(kind, name.clone(), lane);
        }
    }

    pub(crate) fn request(&self, request: &ClusterRequest, lane: Lane) {
        self.requests.wake(
            Key::new(
                KEY_REQUEST,
                request.namespace().unwrap_or_default(),
                request.name_any(),
            ),
            lane,
        );
    }

    pub(crate) fn access(&self, access: &AccessRequest, lane: Lane) {
        self.accesses.wake(
            Key::new(
                KEY_ACCESS,
                access.namespace().unwrap_or_default(),
                access.name_any(),
            ),
            lane,
        );
    }

    pub(crate) fn onboarding(&self, lane: Lane) {
        self.onboarding
            .wake(Key::new(KEY_ONBOARDING, "", "onboarding"), lane);
    }

    pub(crate) fn control_plane(&self, namespace: &str, name: &str, lane: Lane) {
        self.control_planes
            .wake(Key::new(KEY_CONTROL_PLANE, namespace, name), lane);
    }

    /// The ControlPlane that something with these labels was made for.
    pub(crate) fn control_plane_of(&self, on: &BTreeMap<String, String>, lane: Lane) {
        let Some((namespace, name)) = on.get(labels::MCP_NAMESPACE).zip(on.get(labels::MCP_NAME)) else {
            return;
        };
        let Some(known) = self.known_control_planes.get() else {
            return;
        };
        if known.get(namespace, name).is_some() {
            return self.control_plane(namespace, name, lane);
        }
        // The label holds a shortened name, or the ControlPlane is gone.
        self.control_plane(namespace, name, lane);
        for control_plane in known.all() {
            let full = (
                control_plane.namespace().unwrap_or_default(),
                control_plane.name_any(),
            );
            if label_value(&full.0) == *namespace && label_value(&full.1) == *name {
                self.control_plane(&full.0, &full.1, lane);
            }
        }
    }

    /// The ControlPlane that a changed object was made for, and the one whose it was before its labels were changed.
    pub(crate) fn control_planes_of<K: ResourceExt>(&self, change: &Change<K>) {
        let lane = lane(change, Lane::Normal);
        self.control_plane_of(change.object().labels(), lane);
        if let Change::Applied { old: Some(old), .. } = change
            && old.labels() != change.object().labels()
        {
            self.control_plane_of(old.labels(), lane);
        }
    }

    /// Every ControlPlane on its way out: it is deleted, or it is gone and its platform namespace is there, maybe in the
    /// way of another one of the same name.
    pub(crate) fn leaving_control_planes(&self, lane: Lane) {
        self.control_planes_where(|c| c.metadata.deletion_timestamp.is_some(), lane);
        let (Some(known), Some(namespaces)) = (self.known_control_planes.get(), self.known_namespaces.get())
        else {
            return;
        };
        for made in namespaces.all() {
            let on = made.labels();
            let of = on.get(labels::MCP_NAMESPACE).zip(on.get(labels::MCP_NAME));
            if let (Some(uid), Some((namespace, name))) = (record(&made), of)
                && known
                    .get(namespace, name)
                    .is_none_or(|live| live.uid().as_deref() != Some(uid))
            {
                self.control_plane(namespace, name, lane);
            }
        }
    }

    /// Every ControlPlane for which `which` holds.
    pub(crate) fn control_planes_where(&self, which: impl Fn(&ControlPlane) -> bool, lane: Lane) {
        let Some(known) = self.known_control_planes.get() else {
            return;
        };
        for control_plane in known.all().iter().filter(|c| which(c)) {
            self.control_plane(
                &control_plane.namespace().unwrap_or_default(),
                &control_plane.name_any(),
                lane,
            );
        }
    }
}

/// The lane of a change: what was there at start waits behind what happens now.
pub(crate) fn lane<K>(change: &Change<K>, now: Lane) -> Lane {
    match change {
        Change::Applied { first: true, .. } => Lane::Bulk,
        _ => now,
    }
}
