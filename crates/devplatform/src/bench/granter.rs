//! A cluster provider and scheduler that only say yes: every ClusterRequest gets the Cluster that its purpose names,
//! every AccessRequest the kubeconfig that is kept for its Cluster.
use super::site::{merge, post};
use crate::openmcp::SYSTEM_NAMESPACE;
use anyhow::{Context, Result};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use openmcp_api::{
    AccessRequest, ClusterRequest,
    clusters::purpose,
    common::{ObjectReference, phase},
    keys::secrets,
    names,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinSet;

/// Grants in flight at once.
const IN_FLIGHT: usize = 32;
pub(super) const CLUSTERS: &str = "/apis/clusters.openmcp.cloud/v1alpha1/namespaces";

/// See the module. Ends when it is dropped.
pub(super) struct Granter {
    yes: Yes,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Yes {
    client: Client,
    kubeconfigs: Arc<Mutex<HashMap<String, String>>>,
}

impl Granter {
    /// Begins to grant.
    pub(super) fn start(client: Client) -> Self {
        let yes = Yes {
            client: client.clone(),
            kubeconfigs: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        let requests = yes.clone();
        tasks.spawn(each(Api::<ClusterRequest>::all(client.clone()), move |it| {
            let yes = requests.clone();
            async move { yes.cluster(&it).await }.boxed()
        }));
        let accesses = yes.clone();
        tasks.spawn(each(Api::<AccessRequest>::all(client), move |it| {
            let yes = accesses.clone();
            async move { yes.access(&it).await }.boxed()
        }));
        Self { yes, _tasks: tasks }
    }

    /// Makes a Cluster; `tenancy` is Shared or Exclusive. Requests of the purpose `name` are granted it.
    pub(super) async fn add_cluster(&self, name: &str, tenancy: &str, kubeconfig: &Value) -> Result<()> {
        self.yes
            .kubeconfigs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), serde_yaml::to_string(kubeconfig)?);
        let cluster = json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name},
            "spec": {"profile": "bench", "purposes": [purpose::MCP], "tenancy": tenancy},
        });
        let path = format!("{CLUSTERS}/{SYSTEM_NAMESPACE}/clusters");
        post(&self.yes.client, &path, &cluster).await?;
        let ready = json!({"status": {"observedGeneration": 1, "phase": "Ready"}});
        merge(&self.yes.client, &format!("{path}/{name}/status"), &ready).await?;
        Ok(())
    }
}

impl Granter {
    /// Other credentials for a Cluster: in every Secret that leads to it.
    pub(super) async fn rotate(&self, name: &str, kubeconfig: &Value) -> Result<usize> {
        let text = serde_yaml::to_string(kubeconfig)?;
        self.yes
            .kubeconfigs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), text.clone());
        let accesses: Api<AccessRequest> = Api::all(self.yes.client.clone());
        let mut written = 0;
        for access in accesses.list(&Default::default()).await? {
            if self.yes.leads_to(&access).await?.as_deref() == Some(name) {
                let (namespace, secret) = (access.namespace().unwrap_or_default(), access.name_any());
                let secret = names::secret_of_access_request(&secret);
                self.yes.write_secret(&namespace, &secret, text.clone()).await?;
                written += 1;
            }
        }
        Ok(written)
    }
}

/// Hands every object to `grant`, again when it changes.
async fn each<K>(api: Api<K>, grant: impl Fn(K) -> BoxFuture<'static, Result<()>>)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let events = watcher(api, watcher::Config::default()).filter_map(|event| {
        let object = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some(object),
            _ => None,
        };
        std::future::ready(object)
    });
    let grants = events.map(|object| {
        let (what, granted) = (format!("{} {}", K::kind(&()), object.name_any()), grant(object));
        async move {
            if let Err(error) = granted.await {
                eprintln!("  {what} was not granted: {error:#}");
            }
        }
    });
    grants.buffer_unordered(IN_FLIGHT).collect::<()>().await;
}

impl Yes {
    async fn cluster(&self, request: &ClusterRequest) -> Result<()> {
        if request.granted_cluster().is_some() || request.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let path = format!(
            "{CLUSTERS}/{}/clusterrequests/{}/status",
            request.namespace().unwrap_or_default(),
            request.name_any()
        );
        let cluster = ObjectReference::new(SYSTEM_NAMESPACE, &*request.spec.purpose);
        let status = json!({"status": {"observedGeneration": request.metadata.generation, "phase": phase::GRANTED, "cluster": cluster}});
        merge(&self.client, &path, &status).await.map(drop)
    }

    async fn access(&self, request: &AccessRequest) -> Result<()> {
        let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
        let same = request.status.as_ref().is_some_and(|status| {
            status.phase == phase::GRANTED && Some(status.observed_generation) == request.metadata.generation
        });
        if same || request.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let Some(cluster) = self.leads_to(request).await? else {
            return Ok(());
        };
        let kubeconfig = self
            .kubeconfigs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&cluster)
            .cloned()
            .with_context(|| format!("nobody made the Cluster {cluster}"))?;
        let secret = names::secret_of_access_request(&name);
        self.write_secret(&namespace, &secret, kubeconfig).await?;
        let status = json!({"status": {
            "observedGeneration": request.metadata.generation, "phase": phase::GRANTED, "secretRef": {"name": secret},
        }});
        let path = format!("{CLUSTERS}/{namespace}/accessrequests/{name}/status");
        merge(&self.client, &path, &status).await.map(drop)
    }

    /// The name of the Cluster that access is asked for.
    async fn leads_to(&self, request: &AccessRequest) -> Result<Option<String>> {
        Ok(match (&request.spec.cluster_ref, &request.spec.request_ref) {
            (Some(cluster), _) => Some(cluster.name.clone()),
            (None, Some(reference)) => {
                let api: Api<ClusterRequest> = Api::namespaced(self.client.clone(), &reference.namespace);
                Some(api.get(&reference.name).await?.spec.purpose)
            }
            (None, None) => None,
        })
    }

    async fn write_secret(&self, namespace: &str, name: &str, kubeconfig: String) -> Result<()> {
        let mut data = serde_json::Map::new();
        data.insert(secrets::KUBECONFIG.to_owned(), kubeconfig.into());
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}?fieldManager=bench&force=true");
        let request = http::Request::patch(path).header("content-type", "application/apply-patch+yaml");
        self.client
            .request::<Value>(request.body(serde_json::to_vec(&secret)?)?)
            .await
            .map(drop)
            .with_context(|| format!("cannot write Secret {namespace}/{name}"))
    }
}
