//! Bad input gets a clear message on the object that names it, and nothing is half done.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use openmcp_e2e::{
    Platform, Service,
    kinds::{self, api},
    kro, people, scenes, snapshot, wait,
};
use serde_json::json;

/// Each has a ControlPlane of its own, and mostly waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_orders_wrongly_is_said_and_half_of_it_is_never_done() -> Result<()> {
    scenes! {
        an_unknown_version_is_named_with_those_that_exist_and_makes_nothing
        a_service_whose_version_became_unknown_keeps_what_it_has_and_leaves_nothing_when_deleted
        a_service_object_of_the_wrong_name_says_which_names_there_are_and_makes_nothing
        a_tenant_can_neither_label_its_control_plane_as_a_platform_cluster_nor_pause_the_platform
        a_control_plane_with_a_name_or_a_token_that_cannot_be_served_says_so
    };
    Ok(())
}

async fn an_unknown_version_is_named_with_those_that_exist_and_makes_nothing() -> Result<()> {
    let Service { tenant, mcp, .. } = Service::set("version").await?;
    tenant.order_kro("version", "9.9.9").await?;
    let kros = tenant.api(&kinds::kro());
    let condition = wait::condition(&kros, "version", "Ready", "False", "9.9.9").await?;
    assert!(
        condition["message"].as_str().unwrap().contains(kro::VERSION),
        "{condition}"
    );
    let crds = api(&mcp, &kinds::crd(), "").list(&ListParams::default()).await?;
    assert!(crds.items.is_empty(), "an invalid order made CRDs");
    // The order is mended, not made anew.
    tenant.order_kro("version", kro::VERSION).await?;
    wait::phase(&kros, "version", "Ready").await?;
    tenant.leave("version").await
}

async fn a_service_whose_version_became_unknown_keeps_what_it_has_and_leaves_nothing_when_deleted()
-> Result<()> {
    let Service { tenant, mcp, .. } = Service::set("outdated").await?;
    let before = snapshot::everything(&mcp).await?;
    tenant.order_kro("outdated", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    wait::phase(&kros, "outdated", "Ready").await?;
    let with = snapshot::everything(&mcp).await?;
    // Known fault 2: an error on the way is not the end of a deletion.
    tenant.order_kro("outdated", "9.9.9").await?;
    wait::condition(&kros, "outdated", "Ready", "False", "9.9.9").await?;
    let missing: Vec<_> = with
        .difference(&snapshot::everything(&mcp).await?)
        .cloned()
        .collect();
    assert!(missing.is_empty(), "an unknown version removed {missing:?}");
    kros.delete("outdated", &DeleteParams::default()).await?;
    wait::gone(&kros, "outdated").await?;
    let left: Vec<_> = snapshot::everything(&mcp)
        .await?
        .difference(&before)
        .cloned()
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    tenant.leave("outdated").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_object_without_its_control_plane_says_so_and_can_be_deleted() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("lonely").await?;
    tenant.order_kro("nobody", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    // Known faults 1, 4 and 15: never silent, never undeletable.
    wait::condition(
        &kros,
        "nobody",
        "Ready",
        "False",
        "ControlPlane project-lonely/nobody",
    )
    .await?;
    tenant.leave("nobody").await
}

async fn a_service_object_of_the_wrong_name_says_which_names_there_are_and_makes_nothing() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("misnamed").await?;
    let mcp = tenant.control_plane("right").await?;
    tenant.order_kro("wrong", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    // Known fault 15.
    let condition = wait::condition(&kros, "wrong", "Ready", "False", "project-misnamed/wrong").await?;
    assert_eq!(condition["reason"], "ControlPlaneMissing");
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains("must bear the name of the ControlPlane"),
        "{message}"
    );
    assert!(message.contains("its namespace has right"), "{message}");
    let (client, namespace) = (&tenant.client, &tenant.namespace);
    wait::event(
        client,
        namespace,
        "wrong",
        &["ControlPlaneMissing", "its namespace has right"],
    )
    .await?;
    let crds = api(&mcp, &kinds::crd(), "").list(&ListParams::default()).await?;
    assert!(
        crds.items.is_empty(),
        "something was made on another ControlPlane"
    );
    tenant.leave("wrong").await?;
    tenant.leave("right").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_purpose_is_denied_with_a_reason() -> Result<()> {
    let platform = Platform::from_env().await?;
    let request = json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest",
        "metadata": {"name": "unknown-purpose", "namespace": people::SYSTEM}, "spec": {"purpose": "espresso"},
    });
    people::apply(&platform.client, &kinds::cluster_request(), request).await?;
    let requests = api(&platform.client, &kinds::cluster_request(), people::SYSTEM);
    wait::phase(&requests, "unknown-purpose", "Denied").await?;
    wait::event(&platform.client, people::SYSTEM, "unknown-purpose", &["espresso"]).await?;
    requests
        .delete("unknown-purpose", &DeleteParams::default())
        .await?;
    wait::gone(&requests, "unknown-purpose").await
}

async fn provider(platform: &Platform, name: &str, spec: serde_json::Value) -> Result<()> {
    let object = json!({
        "apiVersion": "openmcp.cloud/v1alpha1", "kind": "PlatformService",
        "metadata": {"name": name}, "spec": spec,
    });
    people::apply(&platform.client, &kinds::platform_service(), object)
        .await
        .map(drop)
}

async fn remove_provider(platform: &Platform, name: &str) -> Result<()> {
    let providers = api(&platform.client, &kinds::platform_service(), "");
    providers.delete(name, &DeleteParams::default()).await?;
    wait::gone(&providers, name).await?;
    let left = api(&platform.client, &kinds::job(), people::SYSTEM)
        .list(&ListParams::default())
        .await?;
    assert!(
        !left
            .items
            .iter()
            .any(|j| j.metadata.name.as_deref().is_some_and(|n| n.contains(name)))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_env_name_is_refused_before_anything_is_made() -> Result<()> {
    let platform = Platform::from_env().await?;
    let env = json!([{"name": "POD_NAME", "value": "x"}]);
    provider(
        &platform,
        "double-env",
        json!({"image": "openmcp/shell:dev", "env": env}),
    )
    .await?;
    let providers = api(&platform.client, &kinds::platform_service(), "");
    wait::condition(&providers, "double-env", "Initialized", "False", "POD_NAME").await?;
    let jobs = api(&platform.client, &kinds::job(), people::SYSTEM);
    assert!(jobs.get_opt("ps-double-env-init").await?.is_none());
    remove_provider(&platform, "double-env").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_node_does_not_know_is_named_on_the_provider() -> Result<()> {
    let platform = Platform::from_env().await?;
    provider(&platform, "no-image", json!({"image": "nobody/knows:this"})).await?;
    let providers = api(&platform.client, &kinds::platform_service(), "");
    wait::condition(
        &providers,
        "no-image",
        "Initialized",
        "False",
        "nobody/knows:this",
    )
    .await?;
    remove_provider(&platform, "no-image").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_fails_is_a_condition_with_its_exit_code() -> Result<()> {
    let platform = Platform::from_env().await?;
    let spec = json!({"image": "openmcp/shell:dev", "initCommand": ["-c", "echo no; exit 7"]});
    provider(&platform, "init-fails", spec).await?;
    let providers = api(&platform.client, &kinds::platform_service(), "");
    wait::condition(&providers, "init-fails", "Initialized", "False", "7").await?;
    remove_provider(&platform, "init-fails").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_provider_config_is_named_and_never_wedges_a_deletion() -> Result<()> {
    let Service { platform, tenant, .. } = Service::ordered("config").await?;
    let kros = tenant.api(&kinds::kro());
    // Known fault 5: the ProviderConfig goes first.
    let configs = api(&platform.client, &kinds::kro_config(), "");
    configs.delete("kro", &DeleteParams::default()).await?;
    wait::condition(&kros, "config", "Ready", "False", "ProviderConfig kro").await?;
    kros.delete("config", &DeleteParams::default()).await?;
    wait::gone(&kros, "config").await?;
    // And an order that never had one.
    tenant.order_kro("config", kro::VERSION).await?;
    wait::condition(&kros, "config", "Ready", "False", "ProviderConfig kro").await?;
    kros.delete("config", &DeleteParams::default()).await?;
    wait::gone(&kros, "config").await?;
    platform.install_kro().await?;
    tenant.leave("config").await
}

async fn a_tenant_can_neither_label_its_control_plane_as_a_platform_cluster_nor_pause_the_platform()
-> Result<()> {
    let platform = Platform::from_env().await?;
    let tenant = platform.tenant("sly").await?;
    // Known fault 19, on the real API server.
    let labelled = json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"name": "sly", "namespace": tenant.namespace, "labels": {"core.openmcp.cloud/purpose": "platform"}},
        "spec": {"iam": {}},
    });
    let refused = people::create(&tenant.client, &kinds::control_plane(), labelled).await;
    let Err(kube::Error::Api(status)) = refused else {
        panic!("had to be denied: {refused:?}")
    };
    assert!(
        status.message.contains("core.openmcp.cloud/purpose"),
        "{}",
        status.message
    );

    // Known fault 13: `ignore` by a tenant freezes neither drift control nor deletion.
    platform.install_kro().await?;
    let mcp = tenant.control_plane("sly").await?;
    tenant.order_kro("sly", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    wait::phase(&kros, "sly", "Ready").await?;
    let ignore = json!({"metadata": {"annotations": {"openmcp.cloud/operation": "ignore"}}});
    kros.patch("sly", &PatchParams::default(), &Patch::Merge(ignore))
        .await?;
    let roles = api(&mcp, &kinds::cluster_role(), "");
    roles
        .delete("kro:controller:static", &DeleteParams::default())
        .await?;
    wait::until(&roles, "kro:controller:static", "repaired", |live| live.is_some()).await?;
    kros.delete("sly", &DeleteParams::default()).await?;
    wait::gone(&kros, "sly").await?;
    tenant.leave("sly").await
}

async fn a_control_plane_with_a_name_or_a_token_that_cannot_be_served_says_so() -> Result<()> {
    let platform = Platform::from_env().await?;
    let tenant = platform.tenant("names").await?;
    let (control_planes, long) = (tenant.api(&kinds::control_plane()), "a".repeat(64));
    let view = json!([{"kind": "ClusterRole", "name": "view"}]);
    for (name, token, condition, says) in [
        ("names", "CI pipeline", "AllAccessReady", "\"CI pipeline\""),
        (&long, "ci", "Meta", "63 characters"),
    ] {
        let control_plane = json!({
            "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
            "metadata": {"name": name, "namespace": tenant.namespace},
            "spec": {"iam": {"tokens": [{"name": token, "roleRefs": view}]}},
        });
        people::apply(&tenant.client, &kinds::control_plane(), control_plane).await?;
        wait::condition(&control_planes, name, condition, "False", says).await?;
        tenant.leave(name).await?;
    }
    Ok(())
}
