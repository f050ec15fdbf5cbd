//! Who acts in the suites: the platform owner, and unprivileged tenants on onboarding and on their MCPs.
use crate::{
    kinds::{self, api},
    wait,
};
use anyhow::{Context, Result, anyhow};
use kube::{
    Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest that a server says nothing: no request of a suite stands for ever. A watch or a log that is followed in vain
/// is given up before.
const SILENCE: Duration = Duration::from_secs(wait::PATIENCE.as_secs() + 10);

/// The namespace of the operator and of static requests.
pub const SYSTEM: &str = "openmcp-system";

/// The platform cluster, as its owner.
#[derive(Clone)]
pub struct Platform {
    pub client: Client,
}

/// A tenant: admin of its namespace on the onboarding cluster, and nothing else.
#[derive(Clone)]
pub struct Tenant {
    pub client: Client,
    pub namespace: String,
}

impl Platform {
    /// From `OPENMCP_PLATFORM_KUBECONFIG`.
    pub async fn from_env() -> Result<Self> {
        let path = std::env::var("OPENMCP_PLATFORM_KUBECONFIG")
            .context("OPENMCP_PLATFORM_KUBECONFIG is not set: run the suites by `cargo verify`")?;
        let kubeconfig = std::fs::read(&path).with_context(|| format!("reading {path}"))?;
        Ok(Self {
            client: client(&kubeconfig).await?,
        })
    }

    /// Admits a tenant by an AccessRequest, as examples/tenants does.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        let namespace = format!("project-{name}");
        let request = json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": format!("tenant-{name}"), "namespace": SYSTEM},
            "spec": {
                "clusterRef": {"name": "onboarding", "namespace": SYSTEM},
                "token": {
                    "permissions": [{"namespace": namespace, "rules": []}],
                    "roleRefs": [{"kind": "ClusterRole", "name": "admin", "namespace": namespace}],
                },
            },
        });
        apply(&self.client, &kinds::access_request(), request).await?;
        let client = self.access(SYSTEM, &format!("tenant-{name}")).await?;
        Ok(Tenant { client, namespace })
    }

    /// The onboarding cluster, as its owner.
    pub async fn onboarding(&self) -> Result<Client> {
        let request = json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": "e2e-owner", "namespace": SYSTEM},
            "spec": {
                "clusterRef": {"name": "onboarding", "namespace": SYSTEM},
                "token": {"roleRefs": [{"kind": "ClusterRole", "name": "cluster-admin"}]},
            },
        });
        apply(&self.client, &kinds::access_request(), request).await?;
        self.access(SYSTEM, "e2e-owner").await
    }

    /// Waits for an AccessRequest and returns a client with its kubeconfig.
    pub async fn access(&self, namespace: &str, name: &str) -> Result<Client> {
        let requests = api(&self.client, &kinds::access_request(), namespace);
        let granted = wait::phase(&requests, name, "Granted").await?;
        let secret = granted["status"]["secretRef"]["name"]
            .as_str()
            .context("granted without secretRef")?;
        kubeconfig_client(&self.client, namespace, secret).await
    }
}

impl Tenant {
    /// Orders a ControlPlane with a cluster-admin token and waits until it is ready.
    pub async fn control_plane(&self, name: &str) -> Result<Client> {
        self.order_control_plane(name).await?;
        wait::phase(
            &api(&self.client, &kinds::control_plane(), &self.namespace),
            name,
            "Ready",
        )
        .await?;
        kubeconfig_client(
            &self.client,
            &self.namespace,
            &format!("token-admin.{name}.kubeconfig"),
        )
        .await
    }

    /// Orders a ControlPlane with a cluster-admin token.
    pub async fn order_control_plane(&self, name: &str) -> Result<Value> {
        let object = json!({
            "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"iam": {"tokens": [
                {"name": "admin", "roleRefs": [{"kind": "ClusterRole", "name": "cluster-admin"}]},
            ]}},
        });
        apply(&self.client, &kinds::control_plane(), object).await
    }

    /// Orders kro for the ControlPlane of the same name.
    pub async fn order_kro(&self, name: &str, version: &str) -> Result<Value> {
        let object = json!({
            "apiVersion": "kro.services.open-control-plane.io/v1alpha1", "kind": "Kro",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"version": version},
        });
        apply(&self.client, &kinds::kro(), object).await
    }

    /// Deletes its kro and its ControlPlane of this name, where they are, and waits until they are gone.
    pub async fn leave(&self, name: &str) -> Result<()> {
        for kind in [kinds::kro(), kinds::control_plane()] {
            let objects = self.api(&kind);
            if objects.get_opt(name).await?.is_some() {
                objects.delete(name, &DeleteParams::default()).await?;
                wait::gone(&objects, name).await?;
            }
        }
        Ok(())
    }

    /// The tenant's objects of a kind.
    pub fn api(&self, kind: &ApiResource) -> kube::Api<DynamicObject> {
        api(&self.client, kind, &self.namespace)
    }
}

/// Server-side apply, as `kubectl apply --server-side` would do it.
pub async fn apply(client: &Client, kind: &ApiResource, object: Value) -> Result<Value> {
    let name = object["metadata"]["name"]
        .as_str()
        .ok_or_else(|| anyhow!("an object without a name"))?
        .to_string();
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let applied = api(client, kind, &namespace)
        .patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("apply {} {namespace}/{name}", kind.kind))?;
    Ok(serde_json::to_value(applied)?)
}

/// Creates an object; the error is the API server's.
pub async fn create(client: &Client, kind: &ApiResource, object: Value) -> Result<Value, kube::Error> {
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let made = api(client, kind, &namespace)
        .create(&PostParams::default(), &object)
        .await?;
    serde_json::to_value(made).map_err(kube::Error::SerdeError)
}

/// A client from the `kubeconfig` key of a Secret, once it is there.
pub async fn kubeconfig_client(from: &Client, namespace: &str, secret: &str) -> Result<Client> {
    let secrets = api(from, &kinds::secret(), namespace);
    let live = wait::until(&secrets, secret, "a kubeconfig in it", |o| {
        o.is_some_and(|o| o["data"]["kubeconfig"].is_string())
    })
    .await?;
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(live)?;
    let kubeconfig = secret
        .data
        .and_then(|mut data| data.remove("kubeconfig"))
        .context("no kubeconfig in it")?;
    client(&kubeconfig.0).await
}

/// A client from the bytes of a kubeconfig.
pub async fn client(kubeconfig: &[u8]) -> Result<Client> {
    let kubeconfig: Kubeconfig = serde_yaml::from_slice(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.read_timeout = Some(SILENCE);
    // What a pooled connection was idle for does not count.
    config.reset_reader_on_write = true;
    Ok(Client::try_from(config)?)
}
