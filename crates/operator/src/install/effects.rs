//! Bringing a provider's objects to what is desired: each effect is idempotent, and no request is sent for what is
//! already as it should be.
use super::{desired::Installation, status::Told};
use crate::{
    ensure::Applier,
    meta::{self, is_deleting},
    platform::Platform,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{coordination::v1::Lease, core::v1::Pod, rbac::v1::ClusterRoleBinding},
};
use kube::{Api, Resource, ResourceExt};
use openmcp_api::{common::ObjectReference, names::Component};
use openmcp_reconcile::{Fault, lease, watch::Store};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc};

/// The ClusterRole of a provider for which the platform owner prepared none.
const CLUSTER_ADMIN: &str = "cluster-admin";

/// The effects on one provider's installation.
pub(super) struct Effects<'a> {
    pub platform: &'a Platform,
    pub apply: &'a Applier,
    pub of: &'a Installation<'a>,
}

impl Effects<'_> {
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.platform.client.clone(), self.of.namespace)
    }

    /// The pods of one component.
    pub(super) fn pods(&self, component: Component) -> Vec<Arc<Pod>> {
        let labels = self.of.names.labels(component);
        let bears = |pod: &Arc<Pod>| {
            labels
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
        };
        self.platform
            .installed
            .pods
            .all()
            .into_iter()
            .filter(bears)
            .collect()
    }

    /// What init runs with, in the contract's order, and then its Job.
    pub(super) async fn start_init(&self) -> Result<(), Fault> {
        self.init_prerequisites().await?;
        self.apply.create(self.of.job()).await
    }

    /// Namespace, ServiceAccount, bindings and role of init.
    pub(super) async fn init_prerequisites(&self) -> Result<(), Fault> {
        let (of, seen) = (self.of, &self.platform.installed);
        if self.platform.namespaces.get("", of.namespace).is_none() {
            self.apply.create(of.namespace_object()).await?;
        }
        let name = of.names.object(Component::Init);
        let service_account = seen.service_accounts.get(of.namespace, &name);
        self.apply
            .ensure(service_account.as_deref(), of.service_account(Component::Init))
            .await?;
        self.bind(Component::Init).await?;
        self.apply
            .ensure(seen.roles.get(of.namespace, &name).as_deref(), of.init_role())
            .await?;
        self.apply
            .ensure(
                seen.role_bindings.get(of.namespace, &name).as_deref(),
                of.init_role_binding(),
            )
            .await?;
        Ok(())
    }

    /// The run part: ServiceAccount, binding, Deployment, metrics Service.
    pub(super) async fn start_run(&self) -> Result<Option<ObjectReference>, Fault> {
        let (of, seen) = (self.of, &self.platform.installed);
        let name = of.names.object(Component::Run);
        let service_account = seen.service_accounts.get(of.namespace, &name);
        self.apply
            .ensure(service_account.as_deref(), of.service_account(Component::Run))
            .await?;
        self.bind(Component::Run).await?;
        let webhook = self
            .platform
            .secrets
            .get(of.namespace, &of.names.webhook_secret())
            .is_some();
        let deployment = seen.deployments.get(of.namespace, &name);
        self.apply
            .ensure(deployment.as_deref(), of.deployment(webhook))
            .await?;
        let service_name = of.names.metrics_service();
        let service = seen.services.get(of.namespace, &service_name);
        match (of.metrics_service(), service) {
            (Some(desired), service) => {
                self.apply.ensure(service.as_deref(), desired).await?;
                Ok(Some(ObjectReference::new(of.namespace, service_name)))
            }
            (None, Some(service)) => {
                meta::delete(&self.api(), service.as_ref()).await?;
                Ok(None)
            }
            (None, None) => Ok(None),
        }
    }

    /// The ClusterRole that a component is bound to. Who was bound to a prepared role once never gets more by that role
    /// being deleted: the binding stays, and acts again with the role.
    fn cluster_role(&self, component: Component) -> String {
        let own = self.of.names.cluster_scoped(component);
        let bindings = &self.platform.installed.cluster_role_bindings;
        let bound = bindings
            .get("", &own)
            .is_some_and(|binding| binding.role_ref.name == own);
        if bound || self.is_prepared(&own) {
            own
        } else {
            CLUSTER_ADMIN.to_owned()
        }
    }

    fn is_prepared(&self, cluster_role: &str) -> bool {
        self.platform.cluster_roles.get("", cluster_role).is_some()
    }

    /// What there is to say if the role that a component is bound to was deleted.
    fn missing_role(&self, component: Component) -> Option<String> {
        let role = self.cluster_role(component);
        (role != CLUSTER_ADMIN && !self.is_prepared(&role)).then(|| {
            format!(
                "the ClusterRole {role} that it is bound to does not exist, so it may do nothing on the platform: apply the role again (the provider's command `rbac` prints it)"
            )
        })
    }

    /// Tells when a component has more rights than anybody prepared for it, or less.
    pub(super) fn rights(&self, component: Component) -> String {
        if let Some(missing) = self.missing_role(component) {
            return format!("; {missing}");
        }
        if self.cluster_role(component) == CLUSTER_ADMIN {
            format!(
                "; bound to cluster-admin, since there is no ClusterRole {}",
                self.of.names.cluster_scoped(component)
            )
        } else {
            String::new()
        }
    }

    /// A binding's role cannot be changed: a binding to another role is replaced.
    async fn bind(&self, component: Component) -> Result<(), Fault> {
        let name = self.of.names.cluster_scoped(component);
        let role = self.cluster_role(component);
        let mut live = self.platform.installed.cluster_role_bindings.get("", &name);
        if let Some(binding) = live.take_if(|binding| binding.role_ref.name != role) {
            let api: Api<ClusterRoleBinding> = Api::all(self.platform.client.clone());
            meta::delete(&api, binding.as_ref()).await?;
        }
        self.apply
            .ensure(live.as_deref(), self.of.cluster_role_binding(component, &role))
            .await
            .map(drop)
    }

    pub(super) async fn delete_job(&self) -> Result<(), Fault> {
        self.delete(
            &self.platform.installed.jobs,
            &self.of.names.object(Component::Init),
        )
        .await
        .map(drop)
    }

    /// Deletes an object of the installation, if it is still seen. Returns its name while it is.
    pub(super) async fn delete<K>(&self, store: &Store<K>, name: &str) -> Result<Option<String>, Fault>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let Some(live) = store.get(self.of.namespace, name) else {
            return Ok(None);
        };
        meta::delete(&self.api(), live.as_ref()).await?;
        Ok(Some(meta::describe(live.as_ref())))
    }

    /// Stops both parts. Returns what is still there of them, pods included.
    pub(super) async fn stop(&self) -> Result<Vec<String>, Fault> {
        let seen = &self.platform.installed;
        let mut left = Vec::new();
        left.extend(
            self.delete(&seen.jobs, &self.of.names.object(Component::Init))
                .await?,
        );
        left.extend(
            self.delete(&seen.deployments, &self.of.names.object(Component::Run))
                .await?,
        );
        for component in [Component::Init, Component::Run] {
            left.extend(
                self.pods(component)
                    .iter()
                    .map(|pod| meta::describe(pod.as_ref())),
            );
        }
        Ok(left)
    }

    /// Removes everything else that was installed. Returns what is still there.
    pub(super) async fn remove_rest(&self) -> Result<Vec<String>, Fault> {
        let seen = &self.platform.installed;
        let mut left = Vec::new();
        left.extend(
            self.delete(&seen.services, &self.of.names.metrics_service())
                .await?,
        );
        for component in [Component::Init, Component::Run] {
            let name = self.of.names.object(component);
            left.extend(self.delete(&seen.role_bindings, &name).await?);
            left.extend(self.delete(&seen.roles, &name).await?);
            if let Some(binding) = seen
                .cluster_role_bindings
                .get("", &self.of.names.cluster_scoped(component))
            {
                let api: Api<ClusterRoleBinding> = Api::all(self.platform.client.clone());
                meta::delete(&api, binding.as_ref()).await?;
                left.push(meta::describe(binding.as_ref()));
            }
            left.extend(self.delete(&seen.service_accounts, &name).await?);
        }
        self.delete_lease().await?;
        Ok(left)
    }

    /// Of several replicas the leader holds it, under the name of their Deployment. Nobody renews it any more.
    async fn delete_lease(&self) -> Result<(), Fault> {
        let name = lease::legal_name(&self.of.names.object(Component::Run));
        let api: Api<Lease> = self.api();
        let live = api.get_opt(&name).await;
        match live.map_err(|error| Fault::api(format!("read Lease {name}"), &error))? {
            Some(live) => meta::delete(&api, &live).await,
            None => Ok(()),
        }
    }

    /// How the run part stands.
    pub(super) fn run_state(&self) -> Told {
        let name = self.of.names.object(Component::Run);
        let deployment = self.platform.installed.deployments.get(self.of.namespace, &name);
        let deployment = deployment.as_deref().filter(|d| !is_deleting(*d));
        match super::state::run(deployment, &self.pods(Component::Run)) {
            super::state::Run::Absent => Told::run_pending("the Deployment is made when init has succeeded"),
            super::state::Run::NotReady(message) => Told::not_ready(format!(
                "Deployment {}/{name}: {message} (kubectl -n {} logs deployment/{name})",
                self.of.namespace, self.of.namespace
            )),
            super::state::Run::Ready if self.missing_role(Component::Run).is_some() => {
                Told::not_ready(format!(
                    "Deployment {}/{name} is available{}",
                    self.of.namespace,
                    self.rights(Component::Run)
                ))
            }
            super::state::Run::Ready => Told::ready(format!(
                "Deployment {}/{name} is available{}",
                self.of.namespace,
                self.rights(Component::Run)
            )),
        }
    }
}
