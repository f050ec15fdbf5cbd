//! Who waits to learn which service objects there are: providers that are uninstalled, ControlPlanes that are deleted.
use crate::{
    meta::is_deleting,
    platform::{Platform, Wake},
};
use kube::ResourceExt;
use openmcp_api::{ServiceProvider, provider::ProviderKind};
use openmcp_reconcile::{Lane, watch::Store};

/// Wakes those who wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Removals {
    wake: Wake,
    providers: Store<ServiceProvider>,
}

impl Removals {
    pub(super) fn new(wake: Wake, platform: &Platform) -> Self {
        Self {
            wake,
            providers: platform.service_providers.clone(),
        }
    }

    pub(super) fn wake(&self) {
        self.wake_providers();
        self.wake.leaving_control_planes(Lane::Normal);
    }

    /// Those alone for whom each service object counts, whatever its name.
    pub(super) fn wake_providers(&self) {
        let all = self.providers.all();
        for provider in all.iter().filter(|p| is_deleting(p.as_ref())) {
            self.wake
                .provider(ProviderKind::Service, provider.name_any(), Lane::Normal);
        }
    }
}
