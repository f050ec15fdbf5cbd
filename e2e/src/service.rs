//! One kro on a ControlPlane of its own: what a suite looks at there, and what it does to it.
use crate::{
    Platform, Tenant,
    kinds::{self, api},
    kro, people, snapshot, wait,
};
use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::pinned_kind,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A child on the ControlPlane that nothing but the provider writes.
pub const ROLE: &str = "kro:controller:static";

/// A tenant, its ControlPlane and its kro, all of one name.
pub struct Service {
    pub platform: Platform,
    pub tenant: Tenant,
    pub mcp: Client,
    pub name: String,
    /// Everything on the ControlPlane and on the platform, without the service.
    empty: [BTreeSet<String>; 2],
}

impl Service {
    /// Tenant and ControlPlane; nothing is ordered yet.
    pub async fn set(name: &str) -> Result<Self> {
        let platform = Platform::from_env().await?;
        platform.install_kro().await?;
        let tenant = platform.tenant(name).await?;
        let mcp = tenant.control_plane(name).await?;
        Ok(Self {
            platform,
            tenant,
            mcp,
            name: name.to_owned(),
            empty: Default::default(),
        })
    }

    /// Tenant, ControlPlane and a kro that is ready.
    pub async fn ordered(name: &str) -> Result<Self> {
        let service = Self::set(name).await?;
        service.order().await?;
        Ok(service)
    }

    /// What there is now, [`Service::nothing_but`] expects at the end.
    pub async fn remember(&mut self) -> Result<()> {
        self.empty = self.everything().await?;
        Ok(())
    }

    /// Takes the ControlPlane away.
    pub async fn strike(&self) -> Result<()> {
        let control_planes = self.tenant.api(&kinds::control_plane());
        control_planes
            .delete(&self.name, &DeleteParams::default())
            .await?;
        wait::gone(&control_planes, &self.name).await
    }

    async fn everything(&self) -> Result<[BTreeSet<String>; 2]> {
        Ok([
            snapshot::everything(&self.mcp).await?,
            snapshot::everything(&self.platform.client).await?,
        ])
    }

    /// The tenant's Kro objects.
    pub fn kros(&self) -> Api<DynamicObject> {
        self.tenant.api(&kinds::kro())
    }

    /// The ClusterRoles of the ControlPlane.
    pub fn roles(&self) -> Api<DynamicObject> {
        api(&self.mcp, &kinds::cluster_role(), "")
    }

    /// Orders kro and waits until it is ready.
    pub async fn order(&self) -> Result<()> {
        self.tenant.order_kro(&self.name, kro::VERSION).await?;
        self.ready().await
    }

    pub async fn ready(&self) -> Result<()> {
        wait::condition(&self.kros(), &self.name, "Ready", "True", "")
            .await
            .map(drop)
    }

    /// Waits until it is not ready and says all of `texts`; returns the condition.
    pub async fn unready(&self, texts: &[&str]) -> Result<Value> {
        let says = |live: &Value| {
            let ready = wait::find(live, "Ready").filter(|it| it["status"] == "False")?;
            let message = ready["message"].as_str()?;
            texts
                .iter()
                .all(|text| message.contains(text))
                .then(|| ready.clone())
        };
        let what = format!("not ready, with {texts:?}");
        let live = wait::until(&self.kros(), &self.name, &what, |live| {
            live.and_then(says).is_some()
        })
        .await?;
        says(&live).context("the condition went")
    }

    pub async fn delete(&self) -> Result<()> {
        self.kros().delete(&self.name, &DeleteParams::default()).await?;
        wait::gone(&self.kros(), &self.name).await
    }

    /// Deletes the service. Nothing stays.
    pub async fn leave(&self) -> Result<()> {
        self.delete().await?;
        self.nothing_but(&[]).await
    }

    /// What is on the ControlPlane and on the platform is what was there without the service, and what begins like one
    /// of `expected`.
    pub async fn nothing_but(&self, expected: &[&str]) -> Result<()> {
        for (now, before) in self.everything().await?.iter().zip(&self.empty) {
            let left: Vec<_> = now
                .difference(before)
                .filter(|it| !expected.iter().any(|begin| it.starts_with(begin)))
                .collect();
            ensure!(left.is_empty(), "left behind: {left:?}");
        }
        Ok(())
    }

    /// Waits for an Event on the service that says all of `texts`; returns what it says.
    pub async fn told(&self, texts: &[&str]) -> Result<String> {
        let (client, namespace) = (&self.tenant.client, &self.tenant.namespace);
        wait::event(client, namespace, &self.name, texts).await
    }

    pub async fn role(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.roles().get(ROLE).await?)?)
    }

    pub async fn edit_role(&self, manager: &str, patch: Value) -> Result<()> {
        edit(&self.roles(), ROLE, manager, patch).await
    }

    /// The ControlPlane's namespace on the platform.
    pub async fn home(&self) -> Result<String> {
        let requests = self.access_requests().await?;
        let own = requests
            .into_iter()
            .find(|(_, name)| *name == self.access_request());
        Ok(own.context("no AccessRequest for the ControlPlane")?.0)
    }

    /// The provider's AccessRequest for the ControlPlane.
    pub fn access_request(&self) -> String {
        format!("kro--{}--mcp", self.name)
    }

    /// The provider's accesses to ControlPlanes and workload clusters, as (namespace, name).
    pub async fn access_requests(&self) -> Result<Vec<(String, String)>> {
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

    /// The name of the ServiceAccount on the ControlPlane by which the provider works there.
    pub async fn provider_account(&self) -> Result<String> {
        let request = format!("{}/{}", self.home().await?, self.access_request());
        let accounts = api(&self.mcp, &kinds::service_account(), people::SYSTEM);
        let all = accounts.list(&ListParams::default()).await?.items;
        let annotation = "hosted.clusters.openmcp.cloud/access-request";
        let named = |it: &&DynamicObject| {
            let annotations = it.metadata.annotations.as_ref();
            annotations.and_then(|them| them.get(annotation)) == Some(&request)
        };
        let account = all.iter().find(named);
        let name = account.and_then(|it| it.metadata.name.clone());
        name.context("no ServiceAccount of the provider")
    }

    /// The service's Inventory.
    pub async fn inventory(&self) -> Result<Value> {
        let inventories = api(&self.platform.client, &kinds::inventory(), &self.home().await?);
        let all = inventories.list(&ListParams::default()).await?.items;
        let ours = all.into_iter().next().context("there is no Inventory")?;
        Ok(serde_json::to_value(ours)?)
    }

    /// What the Inventory lists, as it is now: by what and where, the UIDs; and on the ControlPlane, where nobody else
    /// writes to it, the resourceVersions.
    pub async fn children(&self) -> Result<BTreeMap<String, (Value, Value)>> {
        let inventory = self.inventory().await?;
        let mut found = BTreeMap::new();
        for entry in inventory["spec"]["entries"].as_array().into_iter().flatten() {
            let (objects, name) = self.place(entry).await?;
            let live = objects.get(&name).await;
            let live = serde_json::to_value(live.with_context(|| format!("{entry} is gone"))?)?;
            let own = is_on_mcp(entry);
            let version = if own { version(&live).clone() } else { Value::Null };
            let what = format!("{} {} {}", entry["kind"], entry["namespace"], entry["name"]);
            found.insert(what, (uid(&live).clone(), version));
        }
        Ok(found)
    }

    /// Where an entry's object is.
    pub async fn place(&self, entry: &Value) -> Result<(Api<DynamicObject>, String)> {
        let field = |name: &str| entry[name].as_str().unwrap_or_default();
        let client = match is_on_mcp(entry) {
            true => &self.mcp,
            false => &self.platform.client,
        };
        let gvk = GroupVersionKind::gvk(field("group"), field("version"), field("kind"));
        let (kind, _) = pinned_kind(client, &gvk).await?;
        Ok((api(client, &kind, field("namespace")), field("name").to_owned()))
    }
}

fn is_on_mcp(entry: &Value) -> bool {
    entry["cluster"]
        .as_str()
        .is_some_and(|cluster| cluster.starts_with("mcp/"))
}

/// A merge patch by `manager`; what is not there any more is left so.
pub async fn edit(objects: &Api<DynamicObject>, name: &str, manager: &str, patch: Value) -> Result<()> {
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

pub fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}

pub fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}
