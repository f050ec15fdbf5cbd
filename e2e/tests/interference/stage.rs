//! The stage of the scenes: one ControlPlane, its tenant, the platform's owner, and what they can do.
use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use openmcp_e2e::{
    Platform, Tenant,
    kinds::{self, api},
    kro, people, snapshot, wait,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tenant, ControlPlane and service bear it.
pub(crate) const NAME: &str = "meddled";
/// A child on the ControlPlane that nothing but the provider writes.
pub(crate) const ROLE: &str = "kro:controller:static";
pub(crate) const PROVIDER_LABEL: &str = "runtime.openmcp.cloud/provider";
const OWNER_LABEL: &str = "runtime.openmcp.cloud/owner";
const OPERATION: &str = "openmcp.cloud/operation";

/// What the scenes share.
pub(crate) struct Stage {
    pub(crate) platform: Platform,
    pub(crate) tenant: Tenant,
    pub(crate) mcp: Client,
    /// Everything on the ControlPlane and on the platform, without the service.
    empty: [BTreeSet<String>; 2],
}

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        let platform = Platform::from_env().await?;
        platform.install_kro().await?;
        let tenant = platform.tenant(NAME).await?;
        let mcp = tenant.control_plane(NAME).await?;
        let mut stage = Self {
            platform,
            tenant,
            mcp,
            empty: Default::default(),
        };
        // What an earlier run that failed may have left.
        stage.resume().await?;
        stage.empty = stage.everything().await?;
        Ok(stage)
    }

    pub(crate) async fn strike(&self) -> Result<()> {
        let control_planes = self.tenant.api(&kinds::control_plane());
        control_planes.delete(NAME, &DeleteParams::default()).await?;
        wait::gone(&control_planes, NAME).await
    }

    pub(crate) async fn everything(&self) -> Result<[BTreeSet<String>; 2]> {
        Ok([
            snapshot::everything(&self.mcp).await?,
            snapshot::everything(&self.platform.client).await?,
        ])
    }

    pub(crate) fn kros(&self) -> Api<DynamicObject> {
        self.tenant.api(&kinds::kro())
    }

    pub(crate) fn roles(&self) -> Api<DynamicObject> {
        api(&self.mcp, &kinds::cluster_role(), "")
    }

    pub(crate) async fn order(&self) -> Result<()> {
        self.tenant.order_kro(NAME, kro::VERSION).await?;
        self.ready().await
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        wait::condition(&self.kros(), NAME, "Ready", "True", "")
            .await
            .map(drop)
    }

    pub(crate) async fn delete(&self) -> Result<()> {
        self.kros().delete(NAME, &DeleteParams::default()).await?;
        wait::gone(&self.kros(), NAME).await
    }

    /// Deletes the service. Nothing stays.
    pub(crate) async fn leave(&self) -> Result<()> {
        self.delete().await?;
        self.nothing_but(&[]).await
    }

    /// What is on the ControlPlane and on the platform is what was there without the service, and `expected`.
    pub(crate) async fn nothing_but(&self, expected: &[&str]) -> Result<()> {
        for (now, before) in self.everything().await?.iter().zip(&self.empty) {
            let left: Vec<_> = now
                .difference(before)
                .filter(|it| !expected.contains(&it.as_str()))
                .collect();
            ensure!(left.is_empty(), "left behind: {left:?}");
        }
        Ok(())
    }

    pub(crate) async fn told(&self, texts: &[&str]) -> Result<()> {
        let (client, namespace) = (&self.tenant.client, &self.tenant.namespace);
        wait::event(client, namespace, NAME, texts).await.map(drop)
    }

    pub(crate) async fn role(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.roles().get(ROLE).await?)?)
    }

    pub(crate) async fn edit_role(&self, manager: &str, patch: Value) -> Result<()> {
        edit(&self.roles(), ROLE, manager, patch).await
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

    /// The ControlPlane's namespace on the platform.
    pub(crate) async fn home(&self) -> Result<String> {
        let requests = self.access_requests().await?;
        let own = requests.into_iter().find(|(_, name)| *name == access_request());
        Ok(own.context("no AccessRequest for the ControlPlane")?.0)
    }

    /// The provider's accesses to ControlPlane and workload cluster, as (namespace, name).
    pub(crate) async fn access_requests(&self) -> Result<Vec<(String, String)>> {
        let by_kro = ListParams::default().labels("openmcp.cloud/managed-by=kro");
        let all = api(&self.platform.client, &kinds::access_request(), "");
        let of = |it: DynamicObject| Some((it.metadata.namespace?, it.metadata.name?));
        let found: Vec<_> = all
            .list(&by_kro)
            .await?
            .items
            .into_iter()
            .filter_map(of)
            .collect();
        // The provider's own access to onboarding is not the service's.
        Ok(found
            .into_iter()
            .filter(|(_, name)| !name.contains("onboarding"))
            .collect())
    }

    /// The ServiceAccount on the ControlPlane by which the provider works there.
    pub(crate) async fn delete_provider_account(&self) -> Result<()> {
        let request = format!("{}/{}", self.home().await?, access_request());
        let accounts = api(&self.mcp, &kinds::service_account(), people::SYSTEM);
        let all = accounts.list(&ListParams::default()).await?.items;
        let annotation = "hosted.clusters.openmcp.cloud/access-request";
        let named = |it: &&DynamicObject| {
            let annotations = it.metadata.annotations.as_ref();
            annotations.and_then(|them| them.get(annotation)) == Some(&request)
        };
        let account = all
            .iter()
            .find(named)
            .context("no ServiceAccount of the provider")?;
        let name = account.metadata.name.as_deref().unwrap_or_default();
        accounts.delete(name, &DeleteParams::default()).await?;
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

/// The provider's AccessRequest for the ControlPlane.
pub(crate) fn access_request() -> String {
    format!("kro--{NAME}--mcp")
}

pub(crate) async fn edit(
    objects: &Api<DynamicObject>,
    name: &str,
    manager: &str,
    patch: Value,
) -> Result<()> {
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    match objects.patch(name, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        // What is to be forced may be gone by itself already.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
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

pub(crate) fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}

pub(crate) fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
