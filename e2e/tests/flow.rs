//! The validation flow of seed 001, steps 0 to 5, for examples/kro on a real platform.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    Platform,
    kinds::{self, api},
    kro, people,
    service::edit,
    wait,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_orders_kro_uses_it_and_leaves_nothing_behind() -> Result<()> {
    // 0 setup, 1 request the ServiceProvider
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("flow").await?;
    let mcp = tenant.control_plane("flow").await?;

    // 2 consume the ServiceAPI
    tenant.order_kro("flow", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    wait::condition(&kros, "flow", "Ready", "True", "").await?;
    wait::phase(&kros, "flow", "Ready").await?;

    // 3 consume the DomainServiceAPI
    for file in ["rgd.yaml", "instance.yaml"] {
        for object in kro::documents(&kro::examples().join("kro").join(file))? {
            apply_when_served(&mcp, object).await?;
        }
    }
    let rgds = api(&mcp, &kinds::resource_graph_definition(), "");
    let rgd = rgds.list(&ListParams::default()).await?.items[0]
        .metadata
        .name
        .clone()
        .unwrap();
    wait::until(&rgds, &rgd, "state Active", |o| {
        o.is_some_and(|o| o["status"]["state"] == "Active")
    })
    .await?;

    // The service stays while the tenant uses it, and says what is in the way.
    kros.delete("flow", &DeleteParams::default()).await?;
    wait::condition(&kros, "flow", "Ready", "False", &rgd).await?;
    wait::phase(&kros, "flow", "Terminating").await?;

    // 4 with a live service object: uninstalling waits and lists it.
    let providers = api(&platform.client, &kinds::service_provider(), "");
    providers.delete("kro", &DeleteParams::default()).await?;
    wait::condition(&providers, "kro", "Uninstalled", "False", "project-flow/flow").await?;
    wait::phase(&providers, "kro", "Uninstalling").await?;

    // The tenant cleans up: service, ControlPlane and provider end by themselves.
    for object in kro::documents(&kro::examples().join("kro/instance.yaml"))? {
        let name = object["metadata"]["name"].as_str().unwrap().to_string();
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        let instances = api(&mcp, &kro::kind_of(&object)?, &namespace);
        instances.delete(&name, &DeleteParams::default()).await?;
        wait::gone(&instances, &name).await?;
    }
    rgds.delete(&rgd, &DeleteParams::default()).await?;
    wait::gone(&kros, "flow").await?;
    wait::gone(&providers, "kro").await?;

    // 5 teardown: nothing that was installed stays.
    let control_planes = tenant.api(&kinds::control_plane());
    control_planes.delete("flow", &DeleteParams::default()).await?;
    wait::gone(&control_planes, "flow").await?;
    platform.nothing_of_kro().await
}

/// Step 4 as the flow has it: the service object is deleted before. Of two replicas one holds a Lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_serves_nobody_any_more_is_uninstalled_and_leaves_nothing_behind() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let providers = api(&platform.client, &kinds::service_provider(), "");
    edit(&providers, "kro", "owner", json!({"spec": {"runReplicas": 2}})).await?;
    let leases = api(&platform.client, &kinds::lease(), people::SYSTEM);
    wait::until(&leases, "sp-kro", "held", |live| {
        live.is_some_and(|live| live["spec"]["holderIdentity"].is_string())
    })
    .await?;
    let tenant = platform.tenant("plain").await?;
    tenant.control_plane("plain").await?;
    tenant.order_kro("plain", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    wait::phase(&kros, "plain", "Ready").await?;
    kros.delete("plain", &DeleteParams::default()).await?;
    wait::gone(&kros, "plain").await?;

    providers.delete("kro", &DeleteParams::default()).await?;
    wait::gone(&providers, "kro").await?;
    let control_planes = tenant.api(&kinds::control_plane());
    control_planes.delete("plain", &DeleteParams::default()).await?;
    wait::gone(&control_planes, "plain").await?;
    platform.nothing_of_kro().await
}

/// The CRD of an instance appears when kro has made it: a 404 before that is not an error.
async fn apply_when_served(client: &kube::Client, object: serde_json::Value) -> Result<()> {
    let kind = kro::kind_of(&object)?;
    if !kind.group.is_empty() && kind.group.contains("kro.run") && kind.kind != "ResourceGraphDefinition" {
        let crds = api(client, &kinds::crd(), "");
        wait::until(
            &crds,
            &format!("{}.{}", kind.plural, kind.group),
            "Established",
            |o| {
                o.and_then(|o| wait::find(o, "Established"))
                    .is_some_and(|c| c["status"] == "True")
            },
        )
        .await?;
    }
    people::apply(client, &kind, object).await.map(drop)
}
