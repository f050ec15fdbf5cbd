//! The onboarding cluster as the operator gets and keeps it (contract §9): it asks for one like anybody else, installs the
//! tenants' CRDs and the policies that guard them, and only then lets ControlPlanes be served.
//!
//! `requests` is what it asks for, `reconcile` the way to a usable cluster, `policies` what guards it, `watches` what
//! is seen of it, `kinds` the service objects on it, `removals` who waits for them. It knows nothing of how a ControlPlane is made.
mod kinds;
pub(crate) mod policies;
mod reconcile;
mod removals;
mod requests;
mod roles;
#[cfg(test)]
mod tests;
mod watches;

pub(crate) use kinds::{Kinds, Objects, registered};
pub(crate) use reconcile::{Bootstrap, Guard};
use removals::Removals;

use crate::platform::slim::{AccessSecret, Crd, NamespaceName};
use openmcp_api::ControlPlane;
use openmcp_reconcile::{cluster::Connection, events::Recorder, watch::Store};
use std::sync::{Arc, OnceLock};

/// Field manager, event reporter and metric label; also the maker's name on static requests.
pub(crate) const NAME: &str = "openmcp-operator";

/// The onboarding cluster, once it is usable.
pub(crate) type Slot = Arc<OnceLock<Arc<Onboarding>>>;

/// A usable onboarding cluster and what was last seen on it.
pub(crate) struct Onboarding {
    pub connection: Connection,
    /// The UID of its namespace kube-system.
    pub identity: String,
    pub client: kube::Client,
    pub control_planes: Store<ControlPlane>,
    pub namespaces: Store<NamespaceName>,
    /// The Secrets that hold users' kubeconfigs.
    pub secrets: Store<AccessSecret>,
    pub crds: Store<Crd>,
    pub kinds: Kinds,
    pub events: Recorder,
    removals: Removals,
    guard: Guard,
}

impl Onboarding {
    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.control_planes.synced(),
            self.namespaces.synced(),
            self.secrets.synced(),
            self.crds.synced()
        );
    }
}
