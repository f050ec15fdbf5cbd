//! The validation flow of seed 001, steps 0 to 5, for examples/kro on a real platform.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DeleteParams, ListParams};
use openmcp_e2e::{
    Platform,
    kinds::{self, api},
    kro, people,
    service::edit,
    snapshot, wait,
};
use serde_json::{Value, json};

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
            apply_instance(&mcp, object).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_deleted_at_any_moment_of_its_init_leaves_nothing_behind() -> Result<()> {
    let platform = Platform::from_env().await?;
    let onboarding = platform.onboarding().await?;
    let providers = api(&platform.client, &kinds::service_provider(), "");
    if providers.get_opt("kro").await?.is_some() {
        providers.delete("kro", &DeleteParams::default()).await?;
        wait::gone(&providers, "kro").await?;
    }
    let group = kinds::kro().group;
    let (request, configuration, service) = (
        format!("{group}--onboarding-init"),
        format!("providerconfigs.{group}"),
        format!("kros.{group}"),
    );
    let of_system = |kind| api(&platform.client, &kind, people::SYSTEM);
    let definitions = [&platform.client, &onboarding].map(|client| api(client, &kinds::crd(), ""));
    let is_there: fn(&Value) -> bool = |_| true;
    let is_granted: fn(&Value) -> bool = |live| live["status"]["phase"] == "Granted";
    let has_registered: fn(&Value) -> bool = |live| live["status"]["resources"].is_array();
    let moments = [
        (providers.clone(), "kro", is_there),
        (of_system(kinds::job()), "sp-kro-init", is_there),
        (definitions[0].clone(), &configuration, is_there),
        (of_system(kinds::access_request()), &request, is_there),
        (of_system(kinds::access_request()), &request, is_granted),
        (definitions[1].clone(), &service, is_there),
        (providers.clone(), "kro", has_registered),
    ];
    platform
        .apply_file(&kro::examples().join("kro/rbac.yaml"))
        .await?;
    for (number, (objects, name, holds)) in moments.into_iter().enumerate() {
        let scene = async {
            platform
                .apply_file(&kro::examples().join("kro/serviceprovider.yaml"))
                .await?;
            wait::until(&objects, name, "the moment", |live| live.is_some_and(holds)).await?;
            providers.delete("kro", &DeleteParams::default()).await?;
            wait::gone(&providers, "kro").await?;
            platform.nothing_of_kro().await
        };
        scene
            .await
            .with_context(|| format!("moment {number}, of {name}"))?;
    }
    Ok(())
}

/// Between the two there is less than a moment: the definition is applied in init's place.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_init_installed_and_did_not_register_is_served_while_it_is_ordered_and_then_removed()
-> Result<()> {
    let platform = Platform::from_env().await?;
    let onboarding = platform.onboarding().await?;
    let waits = ["-c", "trap 'exit 0' TERM; sleep 100000 & wait"];
    let provider = json!({
        "apiVersion": "openmcp.cloud/v1alpha1", "kind": "ServiceProvider", "metadata": {"name": "stopped"},
        "spec": {"image": "openmcp/shell:dev", "initCommand": waits, "runCommand": waits},
    });
    people::apply(&platform.client, &kinds::service_provider(), provider).await?;
    let providers = api(&platform.client, &kinds::service_provider(), "");
    wait::condition(&providers, "stopped", "Initialized", "False", "is running").await?;

    let kind = kinds::resource("stopped.e2e.test", "v1", "Stopped", "stoppeds");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "stoppeds.stopped.e2e.test", "labels": {
            "openmcp.cloud/cluster": "onboarding", "runtime.openmcp.cloud/provider": "stopped",
        }},
        "spec": {
            "group": kind.group, "scope": "Namespaced", "names": {"kind": kind.kind, "plural": kind.plural},
            "versions": [{"name": kind.version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    people::apply(&onboarding, &kinds::crd(), definition).await?;
    let order = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": "quick", "namespace": "default"},
    });
    apply_when_served(&onboarding, &kind, order).await?;

    providers.delete("stopped", &DeleteParams::default()).await?;
    wait::condition(
        &providers,
        "stopped",
        "Uninstalled",
        "False",
        "still needed by 1 object: Stopped default/quick",
    )
    .await?;
    let resources = &providers.get("stopped").await?.data["status"]["resources"];
    ensure!(resources[0]["kind"] == "Stopped", "{resources}");
    api(&onboarding, &kind, "default")
        .delete("quick", &DeleteParams::default())
        .await?;
    wait::gone(&providers, "stopped").await?;
    for client in [&platform.client, &onboarding] {
        snapshot::none(client, |it| it.contains("stopped")).await?;
    }
    Ok(())
}

/// The CRD of an instance appears when kro has made it: a 404 before that is not an error.
async fn apply_instance(client: &kube::Client, object: Value) -> Result<()> {
    let kind = kro::kind_of(&object)?;
    if kind.group.contains("kro.run") && kind.kind != "ResourceGraphDefinition" {
        return apply_when_served(client, &kind, object).await;
    }
    people::apply(client, &kind, object).await.map(drop)
}

async fn apply_when_served(client: &kube::Client, kind: &ApiResource, object: Value) -> Result<()> {
    let name = format!("{}.{}", kind.plural, kind.group);
    wait::condition(&api(client, &kinds::crd(), ""), &name, "Established", "True", "").await?;
    people::apply(client, kind, object).await.map(drop)
}
