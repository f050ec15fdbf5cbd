//! Giving back what was asked for, in the order of the contract: accesses, then the slot on the workload cluster.
use super::{ClusterName, Owner, Requests, requests::shared_name};
use crate::{archive::Unreadable, desired::Role, stop::Stop};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
    core::NamespaceResourceScope,
};
use openmcp_api::{
    common::ObjectReference,
    keys::{finalizers, labels},
    names::{self, RequestTarget},
};
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc};

impl Requests {
    /// Whether there is any request in the name of the service object alone.
    pub(crate) fn any_of(&self, owner: &Owner<'_>) -> Result<bool, Fault> {
        let [workload, mcp] = [RequestTarget::Workload, RequestTarget::Mcp]
            .map(|target| names::request(self.provider, &owner.key.name, target));
        let namespace = &owner.namespace;
        Ok(self.access_requests.get(namespace, &mcp)?.is_some()
            || self.access_requests.get(namespace, &workload)?.is_some()
            || self.cluster_requests.get(namespace, &workload)?.is_some())
    }

    /// Gives back what was asked for in the name of the service object: accesses first, then the slot on the
    /// workload cluster; and an access that nobody shares any more. `served` tells the other service objects that
    /// there are, as (namespace on the platform, name).
    pub(crate) async fn release(
        &self,
        owner: &Owner<'_>,
        served: impl Fn(&mut dyn FnMut(&str, &str) -> bool) -> bool,
    ) -> Result<(), Stop> {
        let workload = names::request(self.provider, &owner.key.name, RequestTarget::Workload);
        let mcp = names::request(self.provider, &owner.key.name, RequestTarget::Mcp);
        for name in [&mcp, &workload] {
            self.dependents
                .add(owner.key, Self::ACCESS_REQUEST, &owner.namespace, name);
            self.remove(self.access_requests.get(&owner.namespace, name)?)
                .await?;
        }
        self.dependents
            .add(owner.key, Self::CLUSTER_REQUEST, &owner.namespace, &workload);
        let granted = |namespace: &str, request: &str| {
            let request = self.cluster_requests.get(namespace, request)?;
            Ok::<_, Box<Unreadable>>(request.and_then(|it| it.granted_cluster().cloned()))
        };
        // Whose request cannot be read may be on any cluster.
        let is_on = |cluster: &ObjectReference, namespace: &str, request: &str| {
            granted(namespace, request).map_or(true, |it| it.as_ref() == Some(cluster))
        };
        if let Some(cluster) = granted(&owner.namespace, &owner.key.name)? {
            let others = served(&mut |namespace, name| {
                namespace != owner.namespace && is_on(&cluster, namespace, name)
            });
            if !others {
                self.release_shared(owner, &ClusterName::new(Role::Mcp, &cluster))
                    .await?;
            }
        }
        if let Some(cluster) = granted(&owner.namespace, &workload)? {
            let others = served(&mut |namespace, name| {
                let request = names::request(self.provider, name, RequestTarget::Workload);
                namespace != owner.namespace && is_on(&cluster, namespace, &request)
            });
            if !others {
                self.release_shared(owner, &ClusterName::new(Role::Workload, &cluster))
                    .await?;
            }
        }
        self.remove(self.cluster_requests.get(&owner.namespace, &workload)?)
            .await
    }

    async fn release_shared(&self, owner: &Owner<'_>, cluster: &ClusterName) -> Result<(), Stop> {
        let name = names::static_request(self.provider, &shared_name(cluster));
        self.dependents
            .add(owner.key, Self::ACCESS_REQUEST, &self.home, &name);
        self.remove(self.access_requests.get(&self.home, &name)?).await
    }

    /// Deletes a request of ours and waits until it is gone. One that bears somebody else's label is left alone.
    async fn remove<K>(&self, live: Option<Arc<K>>) -> Result<(), Stop>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let Some(live) = live else { return Ok(()) };
        if live
            .labels()
            .get(labels::MANAGED_BY)
            .is_none_or(|by| by != self.provider)
        {
            return Ok(());
        }
        let (namespace, name) = (live.namespace().unwrap_or_default(), live.name_any());
        let doing = || format!("delete {} {namespace}/{name}", K::kind(&()));
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        if live.meta().deletion_timestamp.is_none() {
            let uid = Preconditions {
                uid: live.uid(),
                resource_version: None,
            };
            match api
                .delete(&name, &DeleteParams::background().preconditions(uid))
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => return Err(Fault::api(doing(), &error).into()),
            }
        }
        self.drop_finalizer(live.as_ref()).await?;
        Err(Stop::wait(
            "ReleasingAccess",
            format!("waiting until {} {namespace}/{name} is gone", K::kind(&())),
        ))
    }

    pub(super) async fn drop_finalizer<K>(&self, live: &K) -> Result<(), Fault>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        if !live
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == finalizers::CLUSTER_ACCESS)
        {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &live.namespace().unwrap_or_default());
        crate::object::remove_finalizer(&api, live, finalizers::CLUSTER_ACCESS).await
    }
}
