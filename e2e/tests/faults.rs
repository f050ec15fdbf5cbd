//! Known faults of other stacks that only a whole platform can show: none of them comes back.
//! `docs/known-faults.md` says which test stands for which.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use openmcp_e2e::{
    Platform, Service, Tenant,
    kinds::{self, api},
    kro, people, scenes,
    service::edit,
    wait,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Each has a ControlPlane of its own, and mostly waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenants_objects_rest_on_is_denied_lost_dead_or_renewed_and_they_say_so_and_go_on()
-> Result<()> {
    scenes! {
        a_service_whose_cluster_is_denied_says_so_and_can_be_deleted
        a_service_whose_cluster_is_lost_moves_to_the_next_one_and_can_be_deleted_after_another_loss
        a_control_plane_whose_api_server_is_dead_says_what_helps_and_can_be_deleted
        a_users_kubeconfig_is_renewed_when_its_source_is
    };
    Ok(())
}

/// Known fault 1.
async fn a_service_whose_cluster_is_denied_says_so_and_can_be_deleted() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("denied").await?;
    let control_plane = json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"name": "denied", "namespace": tenant.namespace,
            "labels": {"core.openmcp.cloud/purpose": "mcp-espresso"}},
        "spec": {"iam": {}},
    });
    people::apply(&tenant.client, &kinds::control_plane(), control_plane).await?;
    tenant.order_kro("denied", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    let ready = wait::condition(&kros, "denied", "Ready", "False", "mcp-espresso").await?;
    ensure!(ready["reason"] == "ClusterDenied", "{ready}");
    tenant.leave("denied").await
}

/// Known fault 1. The scheduler makes the cluster again, under its name; what was on the lost one is gone with it.
async fn a_service_whose_cluster_is_lost_moves_to_the_next_one_and_can_be_deleted_after_another_loss()
-> Result<()> {
    let Service { platform, tenant, .. } = Service::ordered("lost").await?;
    let kros = tenant.api(&kinds::kro());
    let inventory = own(&platform, &kinds::inventory(), "kro--kro--lost").await?;
    let namespace = inventory.namespace().unwrap_or_default();
    let before = serde_json::to_value(&inventory)?;

    lose_cluster(&platform, "lost").await?;
    let inventories = api(&platform.client, &kinds::inventory(), &namespace);
    let moved = |live: &Value| entry(live).is_some_and(|uid| Some(uid) != entry(&before));
    wait::until(&inventories, "kro--kro--lost", "new UIDs", |live| {
        live.is_some_and(moved)
    })
    .await?;
    wait::condition(&kros, "lost", "Ready", "True", "").await?;

    lose_cluster(&platform, "lost").await?;
    kros.delete("lost", &DeleteParams::default()).await?;
    wait::gone(&kros, "lost").await?;
    tenant.leave("lost").await
}

/// The recorded UID of what is on the ControlPlane.
fn entry(inventory: &Value) -> Option<&Value> {
    let mut entries = inventory["spec"]["entries"].as_array()?.iter();
    entries
        .find(|entry| entry["kind"] == "ServiceAccount")
        .map(|entry| &entry["uid"])
        .filter(|uid| uid.is_string())
}

/// Known fault 1. No pod may run beside its Cluster: what ended stays dead.
async fn a_control_plane_whose_api_server_is_dead_says_what_helps_and_can_be_deleted() -> Result<()> {
    let Service { platform, tenant, .. } = Service::ordered("dead").await?;
    let kros = tenant.api(&kinds::kro());
    let request = own(&platform, &kinds::cluster_request(), "dead").await?;
    let at = &request.data["status"]["cluster"];
    let (namespace, name) = (text(&at["namespace"]), text(&at["name"]));
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "dead", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    });
    people::apply(&platform.client, &kinds::resource_quota(), quota).await?;
    let quotas = api(&platform.client, &kinds::resource_quota(), namespace);
    wait::until(&quotas, "dead", "counted", |live| {
        live.is_some_and(|live| live["status"]["used"]["pods"].is_string())
    })
    .await?;
    let pods = api(&platform.client, &kinds::pod(), namespace);
    for pod in pods.list(&ListParams::default()).await?.items {
        let pod = pod.name_any();
        if pod.starts_with(&format!("{name}-control-plane-")) {
            pods.delete(&pod, &DeleteParams::default()).await?;
            wait::gone(&pods, &pod).await?;
        }
    }

    // The platform owner gives up what is on it.
    let inventories = api(&platform.client, &kinds::inventory(), namespace);
    let force = json!({"metadata": {"annotations": {"runtime.openmcp.cloud/deletion-policy": "Force"}}});
    edit(&inventories, "kro--kro--dead", "the-owner", force).await?;
    kros.delete("dead", &DeleteParams::default()).await?;
    wait::condition(
        &api(&platform.client, &kinds::access_request(), namespace),
        "kro--dead--mcp",
        "Ready",
        "False",
        "repair the cluster, or delete the Cluster object",
    )
    .await?;
    let clusters = api(&platform.client, &kinds::cluster(), namespace);
    clusters.delete(name, &DeleteParams::default()).await?;
    wait::gone(&kros, "dead").await?;
    tenant.leave("dead").await?;
    wait::gone(&clusters, name).await?;
    let receipts = api(&platform.client, &kinds::inventory(), people::SYSTEM);
    let forced = ListParams::default().labels("runtime.openmcp.cloud/receipt=Force");
    receipts
        .delete_collection(&DeleteParams::default(), &forced)
        .await?;
    Ok(())
}

/// Known fault 21.
async fn a_users_kubeconfig_is_renewed_when_its_source_is() -> Result<()> {
    let platform = Platform::from_env().await?;
    let tenant = platform.tenant("renewed").await?;
    tenant.control_plane("renewed").await?;
    let (copies, copy) = (tenant.api(&kinds::secret()), "token-admin.renewed.kubeconfig");
    let before = serde_json::to_value(copies.get(copy).await?)?;
    let all: Api<DynamicObject> = Api::all_with(platform.client.clone(), &kinds::access_request());
    let made_for = "core.openmcp.cloud/mcp-name=renewed,core.openmcp.cloud/token-provider=admin";
    let requests = all.list(&ListParams::default().labels(made_for)).await?.items;
    let request = requests.first().context("no AccessRequest of the ControlPlane")?;
    let sources = api(
        &platform.client,
        &kinds::secret(),
        &request.namespace().unwrap_or_default(),
    );
    let source = text(&request.data["status"]["secretRef"]["name"]);

    // Without it the cluster provider issues another token, as it does before one expires.
    sources.delete(source, &DeleteParams::default()).await?;
    let is_new = |live: &Value| {
        let kubeconfig = &live["data"]["kubeconfig"];
        kubeconfig.is_string() && *kubeconfig != before["data"]["kubeconfig"]
    };
    let renewed = wait::until(&sources, source, "another token", |live| live.is_some_and(is_new)).await?;
    wait::until(&copies, copy, "its source's kubeconfig", |live| {
        live.is_some_and(|live| live["data"]["kubeconfig"] == renewed["data"]["kubeconfig"])
    })
    .await?;
    let mcp = people::kubeconfig_client(&tenant.client, &tenant.namespace, copy).await?;
    mcp.apiserver_version().await.context("with the new kubeconfig")?;
    tenant.leave("renewed").await
}

/// Known faults 6 and 26.
#[tokio::test(flavor = "multi_thread")]
async fn a_settled_service_is_written_to_no_more() -> Result<()> {
    let Service { platform, tenant, .. } = Service::ordered("settled").await?;
    let patience = Instant::now() + wait::PATIENCE;
    let mut before = versions(&platform, &tenant).await?;
    loop {
        // Long enough for many rounds of a loop that feeds itself.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = versions(&platform, &tenant).await?;
        if now == before {
            break;
        }
        let changed: Vec<_> = now
            .iter()
            .filter(|(name, it)| before.get(*name) != Some(it))
            .collect();
        ensure!(Instant::now() < patience, "still being written: {changed:?}");
        before = now;
    }
    tenant.leave("settled").await
}

/// Known fault 23.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_deletion_asks_for_nothing_again() -> Result<()> {
    let Service { platform, tenant, .. } = Service::ordered("restart").await?;
    let kros = tenant.api(&kinds::kro());
    let name = "kro--restart--mcp";
    let namespace = own(&platform, &kinds::access_request(), name)
        .await?
        .namespace()
        .unwrap_or_default();
    let requests = api(&platform.client, &kinds::access_request(), &namespace);
    let held: Vec<String> = requests.get(name).await?.finalizers().to_vec();
    set_finalizers(
        &requests,
        name,
        held.iter().map(String::as_str).chain(["e2e.test/hold"]),
    )
    .await?;
    let made = Made::watch(&platform, &namespace, name).await?;

    kros.delete("restart", &DeleteParams::default()).await?;
    wait::condition(
        &kros,
        "restart",
        "Ready",
        "False",
        &format!("AccessRequest {namespace}/{name} is gone"),
    )
    .await?;
    restart_provider(&platform).await?;
    wait::condition(
        &kros,
        "restart",
        "Ready",
        "False",
        &format!("AccessRequest {namespace}/{name} is gone"),
    )
    .await?;
    set_finalizers(&requests, name, []).await?;
    wait::gone(&kros, "restart").await?;
    ensure!(made.uids().len() <= 2, "made again: {:?}", made.uids());
    ensure!(
        requests.get_opt(name).await?.is_none(),
        "the AccessRequest is there again"
    );
    tenant.leave("restart").await
}

/// Requests of a service that were seen in a namespace, by their UIDs.
struct Made(Arc<Mutex<BTreeSet<String>>>);

impl Made {
    /// The accesses and cluster requests that begin like `name`, from now on.
    async fn watch(platform: &Platform, namespace: &str, name: &str) -> Result<Self> {
        let seen = Arc::<Mutex<BTreeSet<String>>>::default();
        for kind in [kinds::access_request(), kinds::cluster_request()] {
            let objects = api(&platform.client, &kind, namespace);
            let (seen, prefix) = (seen.clone(), name.trim_end_matches("mcp").to_owned());
            let mut stream = Box::pin(
                watcher(objects, watcher::Config::default())
                    .default_backoff()
                    .touched_objects(),
            );
            tokio::spawn(async move {
                while let Some(object) = stream.next().await {
                    let Ok(object) = object else { continue };
                    if object.name_any().starts_with(&prefix) {
                        seen.lock().unwrap().extend(object.uid());
                    }
                }
            });
        }
        Ok(Self(seen))
    }

    fn uids(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Ends the provider's pod and waits for the next one.
async fn restart_provider(platform: &Platform) -> Result<()> {
    let pods = api(&platform.client, &kinds::pod(), people::SYSTEM);
    let all = pods.list(&ListParams::default()).await?;
    let old = all
        .items
        .iter()
        .map(ResourceExt::name_any)
        .find(|name| name.starts_with("sp-kro-") && !name.starts_with("sp-kro-init"));
    let old = old.context("the provider has no pod")?;
    pods.delete(&old, &DeleteParams::default()).await?;
    wait::gone(&pods, &old).await?;
    let deployments = api(&platform.client, &kinds::deployment(), people::SYSTEM);
    wait::until(&deployments, "sp-kro", "available", |live| {
        live.is_some_and(|live| live["status"]["availableReplicas"] == 1)
    })
    .await
    .map(drop)
}

async fn set_finalizers<'a>(
    objects: &Api<DynamicObject>,
    name: &str,
    finalizers: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let finalizers: Vec<&str> = finalizers.into_iter().collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    objects.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The resourceVersions of what is written for the tenant's service, on onboarding and on the platform.
async fn versions(platform: &Platform, tenant: &Tenant) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for kind in [kinds::kro(), kinds::control_plane()] {
        note(&mut found, &tenant.api(&kind)).await?;
    }
    for kind in [
        kinds::inventory(),
        kinds::cluster(),
        kinds::cluster_request(),
        kinds::access_request(),
    ] {
        note(&mut found, &api(&platform.client, &kind, "")).await?;
    }
    Ok(found)
}

async fn note(found: &mut BTreeMap<String, Option<String>>, objects: &Api<DynamicObject>) -> Result<()> {
    for object in objects.list(&ListParams::default()).await? {
        let kind = object
            .types
            .as_ref()
            .map(|types| types.kind.clone())
            .unwrap_or_default();
        found.insert(
            format!(
                "{kind} {}/{}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            ),
            object.resource_version(),
        );
    }
    Ok(())
}

/// The Cluster of a ControlPlane goes without anybody letting it go.
async fn lose_cluster(platform: &Platform, control_plane: &str) -> Result<()> {
    let request = own(platform, &kinds::cluster_request(), control_plane).await?;
    let at = &request.data["status"]["cluster"];
    let (namespace, name) = (text(&at["namespace"]), text(&at["name"]));
    let clusters = api(&platform.client, &kinds::cluster(), namespace);
    clusters.delete(name, &DeleteParams::default()).await?;
    set_finalizers(&clusters, name, []).await
}

/// The request of that name on the platform; the suites give each tenant names of its own.
async fn own(platform: &Platform, kind: &kube::api::ApiResource, name: &str) -> Result<DynamicObject> {
    let all = api(&platform.client, kind, "")
        .list(&ListParams::default())
        .await?;
    let found = all.items.into_iter().find(|it| it.name_any() == name);
    found.with_context(|| format!("no {} {name}", kind.kind))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
