//! The platform cluster as the operator sees it: the last seen objects of every kind that it acts on, and which key of
//! which controller each change wakes.
//!
//! Owns watches and stores. Takes no decision and has no effect.
pub(crate) mod slim;
mod wake;
mod watches;

pub(crate) use wake::Wake;
pub(crate) use watches::start;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod, Service, ServiceAccount},
    rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
};
use openmcp_api::{
    AccessRequest, Cluster, ClusterProfile, ClusterProvider, ClusterRequest, PlatformService,
    ServiceProvider, keys::annotations,
};
use openmcp_reconcile::watch::Store;
use slim::{AccessSecret, ClusterRoleName, Crd};

/// The UID of the ControlPlane that a platform namespace was made for, where it is recorded.
pub(crate) fn record(namespace: &Namespace) -> Option<&str> {
    let recorded = namespace.metadata.annotations.as_ref()?;
    recorded.get(annotations::CONTROL_PLANE_UID).map(String::as_str)
}

/// What was last seen on the platform cluster.
pub(crate) struct Platform {
    pub client: kube::Client,
    /// The operator's own namespace: providers are installed and static requests are made here.
    pub namespace: String,
    pub environment: String,
    pub service_providers: Store<ServiceProvider>,
    pub cluster_providers: Store<ClusterProvider>,
    pub platform_services: Store<PlatformService>,
    pub clusters: Store<Cluster>,
    pub profiles: Store<ClusterProfile>,
    pub requests: Store<ClusterRequest>,
    pub accesses: Store<AccessRequest>,
    pub namespaces: Store<Namespace>,
    pub secrets: Store<AccessSecret>,
    pub crds: Store<Crd>,
    pub cluster_roles: Store<ClusterRoleName>,
    pub installed: Installed,
}

/// What the operator installed for providers: only objects that bear its label.
pub(crate) struct Installed {
    pub jobs: Store<Job>,
    pub deployments: Store<Deployment>,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub service_accounts: Store<ServiceAccount>,
    pub roles: Store<Role>,
    pub role_bindings: Store<RoleBinding>,
    pub cluster_role_bindings: Store<ClusterRoleBinding>,
}

impl Platform {
    /// Waits until every first list is complete: before, absence means nothing.
    pub(crate) async fn synced(&self) {
        let Installed {
            jobs,
            deployments,
            pods,
            services,
            service_accounts,
            roles,
            role_bindings,
            cluster_role_bindings,
        } = &self.installed;
        tokio::join!(
            self.service_providers.synced(),
            self.cluster_providers.synced(),
            self.platform_services.synced(),
            self.clusters.synced(),
            self.profiles.synced(),
            self.requests.synced(),
            self.accesses.synced(),
            self.namespaces.synced(),
            self.secrets.synced(),
            self.crds.synced(),
            self.cluster_roles.synced(),
            jobs.synced(),
            deployments.synced(),
            pods.synced(),
            services.synced(),
            service_accounts.synced(),
            roles.synced(),
            role_bindings.synced(),
            cluster_role_bindings.synced(),
        );
    }

    /// The Cluster of that name.
    pub(crate) fn cluster(
        &self,
        at: &openmcp_api::common::ObjectReference,
    ) -> Option<std::sync::Arc<Cluster>> {
        self.clusters.get(&at.namespace, &at.name)
    }
}
