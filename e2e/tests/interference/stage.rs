//! The stage of the scenes: one ControlPlane with its service, and what people can do there.
use anyhow::{Result, ensure};
use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use openmcp_e2e::{
    Service,
    kinds::{self, api},
    people,
    service::{ROLE, edit},
    wait,
};
use serde_json::{Value, json};
use std::ops::Deref;

/// Tenant, ControlPlane and service bear it.
pub(crate) const NAME: &str = "meddled";
pub(crate) const PROVIDER_LABEL: &str = "runtime.openmcp.cloud/provider";
const OWNER_LABEL: &str = "runtime.openmcp.cloud/owner";
const OPERATION: &str = "openmcp.cloud/operation";

/// What the scenes share.
pub(crate) struct Stage(Service);

impl Deref for Stage {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        let mut stage = Self(Service::set(NAME).await?);
        // What an earlier run that failed may have left.
        stage.resume().await?;
        stage.0.remember().await?;
        Ok(stage)
    }

    pub(crate) async fn remove_role(&self) -> Result<()> {
        self.roles().delete(ROLE, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Somebody's own ClusterRole under the name of ours.
    pub(crate) async fn foreign_role(&self) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": ROLE}, "rules": [],
        });
        let params = PatchParams::apply("somebody");
        self.roles().patch(ROLE, &params, &Patch::Apply(role)).await?;
        Ok(())
    }

    /// Another manager takes over our fields, and says that the object is its own.
    pub(crate) async fn adopt(&self, manager: &str) -> Result<()> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": ROLE, "labels": {
                "app.kubernetes.io/managed-by": manager, OWNER_LABEL: manager,
            }},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        });
        let params = PatchParams::apply(manager).force();
        self.roles().patch(ROLE, &params, &Patch::Apply(role)).await?;
        Ok(())
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        self.operation(json!("ignore")).await?;
        let by = "paused by the platform owner";
        wait::condition(&self.kros(), NAME, "Synced", "False", by)
            .await
            .map(drop)
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        self.operation(Value::Null).await
    }

    pub(crate) async fn operation(&self, value: Value) -> Result<()> {
        let configs = api(&self.platform.client, &kinds::kro_config(), "");
        let patch = json!({"metadata": {"annotations": {OPERATION: value}}});
        edit(&configs, "kro", "owner", patch).await
    }

    /// The ServiceAccount on the ControlPlane by which the provider works there.
    pub(crate) async fn delete_provider_account(&self) -> Result<()> {
        let accounts = api(&self.mcp, &kinds::service_account(), people::SYSTEM);
        let name = self.provider_account().await?;
        accounts.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The Secret by which the workload reaches the ControlPlane.
    pub(crate) async fn workload_secret(&self) -> Result<Value> {
        let ours = ListParams::default().labels(&format!("{PROVIDER_LABEL}=kro"));
        let secrets = api(&self.platform.client, &kinds::secret(), "")
            .list(&ours)
            .await?;
        ensure!(secrets.items.len() == 1, "{} Secrets", secrets.items.len());
        Ok(serde_json::to_value(&secrets.items[0])?)
    }
}

/// A client with the token of a workload's Secret, as the workload would read it from its volume.
pub(crate) async fn as_workload(secret: Value) -> Result<Client> {
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret)?;
    let data = secret.data.unwrap_or_default();
    let mut kubeconfig: Value = serde_yaml::from_slice(&data["kubeconfig"].0)?;
    kubeconfig["users"][0]["user"] = json!({"token": std::str::from_utf8(&data["token"].0)?});
    people::client(kubeconfig.to_string().as_bytes()).await
}

pub(crate) fn strip_labels() -> Value {
    json!({"metadata": {"labels": {PROVIDER_LABEL: null, OWNER_LABEL: null}}})
}

pub(crate) fn owner(object: &Value) -> &Value {
    &object["metadata"]["labels"][OWNER_LABEL]
}

pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
