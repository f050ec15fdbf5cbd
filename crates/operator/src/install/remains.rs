//! What is left of a provider, asked of the API server when the watches show nothing that runs: they may lag behind a
//! process that has just ended, and behind the operator's own last writes.
use super::effects::Effects;
use crate::{meta, platform::slim::Crd};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Pod, Service, ServiceAccount},
    rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Api, Resource, api::ListParams};
use openmcp_api::{
    AccessRequest, ClusterRequest,
    keys::labels,
    names::{Component, label_value},
};
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What a ServiceProvider's init made on the platform, whether or not it came to register its kinds: the runtime puts
/// the provider's name on it.
#[derive(Default)]
pub(super) struct Remains {
    pub crds: Vec<Crd>,
    pub requests: Vec<ClusterRequest>,
    pub accesses: Vec<AccessRequest>,
}

impl Remains {
    pub(super) async fn of(effects: &Effects<'_>) -> Result<Self, Fault> {
        let (client, of) = (&effects.platform.client, effects.of);
        let (crds, requests, accesses) = tokio::try_join!(
            definitions(client, &of.name),
            list(Api::namespaced(client.clone(), of.namespace), marked(&of.name)),
            list(Api::namespaced(client.clone(), of.namespace), marked(&of.name)),
        )?;
        Ok(Self {
            crds,
            requests,
            accesses,
        })
    }

    /// The request by which the provider had access to the onboarding cluster, if it ever was granted.
    pub(super) fn granted(&self) -> Option<&AccessRequest> {
        let has_secret = |it: &&AccessRequest| {
            it.status
                .as_ref()
                .is_some_and(|status| status.secret_ref.is_some())
        };
        self.accesses.iter().find(has_secret)
    }
}

/// The definitions on a cluster that the provider's init installed: those that it has made for a service object bear its
/// name, too, but not of which cluster they are.
pub(super) async fn definitions(client: &kube::Client, provider: &str) -> Result<Vec<Crd>, Fault> {
    let installed = format!("{},{}", marked(provider), labels::CLUSTER);
    list(Api::all_with(client.clone(), &()), installed).await
}

fn marked(provider: &str) -> String {
    format!("{}={}", labels::RUNTIME_PROVIDER, label_value(provider))
}

async fn list<K>(api: Api<K>, selector: String) -> Result<Vec<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match api.list(&ListParams::default().labels(&selector)).await {
        Ok(list) => Ok(list.items),
        Err(error) => Err(Fault::api(
            format!("list {} with {selector}", K::plural(&())),
            &error,
        )),
    }
}

impl Effects<'_> {
    /// What of the provider is there that runs.
    pub(super) async fn running_now(&self) -> Result<Vec<String>, Fault> {
        let (jobs, deployments, pods) = tokio::try_join!(
            self.installed::<Job>(self.api()),
            self.installed::<Deployment>(self.api()),
            self.installed::<Pod>(self.api()),
        )?;
        Ok([names(&jobs), names(&deployments), names(&pods)].concat())
    }

    /// What else was installed for the provider and is there.
    pub(super) async fn installed_now(&self) -> Result<Vec<String>, Fault> {
        let bindings = Api::all(self.platform.client.clone());
        let (services, accounts, roles, role_bindings, bindings) = tokio::try_join!(
            self.installed::<Service>(self.api()),
            self.installed::<ServiceAccount>(self.api()),
            self.installed::<Role>(self.api()),
            self.installed::<RoleBinding>(self.api()),
            self.installed::<ClusterRoleBinding>(bindings),
        )?;
        Ok([
            names(&services),
            names(&accounts),
            names(&roles),
            names(&role_bindings),
            names(&bindings),
        ]
        .concat())
    }

    async fn installed<K>(&self, api: Api<K>) -> Result<Vec<K>, Fault>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let mut bears = self.of.names.labels(Component::Run);
        bears.remove(labels::APP_COMPONENT);
        let selector: Vec<_> = bears
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        list(api, selector.join(",")).await
    }
}

fn names<K: Resource<DynamicType = ()>>(all: &[K]) -> Vec<String> {
    all.iter().map(meta::describe).collect()
}
