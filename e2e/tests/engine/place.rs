//! Where the tests work: a namespace of its own for each, on the platform cluster.
use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{Api, Client, api::PostParams, config::Kubeconfig};
use openmcp_e2e::{namespace, people};
use openmcp_reconcile::apply::{Deletion, Mark, delete};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const MANAGER: &str = "engine-test";
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace of its own on the platform cluster.
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    kubeconfig: Kubeconfig,
}

impl Place {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let path =
            std::env::var("OPENMCP_PLATFORM_KUBECONFIG").context("OPENMCP_PLATFORM_KUBECONFIG is not set")?;
        let bytes = std::fs::read(&path).with_context(|| format!("reading {path}"))?;
        let client = people::client(&bytes).await?;
        let kubeconfig = serde_yaml::from_slice(&bytes)?;
        let namespace = namespace::make(&client, &format!("engine-{name}")).await?;
        Ok(Self {
            client,
            namespace,
            kubeconfig,
        })
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn config_map(&self, name: &str, data: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": data,
        })
    }

    pub(crate) async fn delete(&self, name: &str, uid: &str) -> Result<Deletion, openmcp_reconcile::Fault> {
        delete(&self.client, "v1", "ConfigMap", Some(&self.namespace), name, uid).await
    }

    /// A kubeconfig for a new service account that may do nothing.
    pub(crate) async fn nobody(&self, name: &str) -> Result<Vec<u8>> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.namespace);
        let new = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        accounts.create(&PostParams::default(), &new).await?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let request = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = request.status.context("no token")?.token;
        let cluster = self.kubeconfig.clusters[0]
            .cluster
            .clone()
            .context("no cluster")?;
        let ca = cluster
            .certificate_authority_data
            .context("the kubeconfig has no inline CA")?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": cluster.server, "certificate-authority-data": ca}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        Ok(kubeconfig.to_string().into_bytes())
    }

    pub(crate) async fn leave(self) -> Result<()> {
        namespace::leave(&self.client, &self.namespace).await
    }
}

pub(crate) fn ours() -> Mark {
    Mark {
        label: "test.openmcp.cloud/owner",
        value: "us".to_owned(),
    }
}

pub(crate) fn theirs() -> Mark {
    Mark {
        label: "test.openmcp.cloud/owner",
        value: "them".to_owned(),
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // A look may stand in a request.
    soon(what, looks).await.unwrap();
}

/// What `comes`, or an error that says what did not.
pub(crate) async fn soon<T>(what: &str, comes: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, comes)
        .await
        .with_context(|| format!("not within {} s: {what}", PATIENCE.as_secs()))
}
