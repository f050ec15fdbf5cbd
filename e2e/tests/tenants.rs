//! Two unprivileged tenants at once: neither sees, delays or can name the other's objects.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use openmcp_e2e::{
    Platform, etcd,
    kinds::{self, api},
    kro, people, wait,
};
use serde_json::json;

/// A tenant's object in etcd, and what comes and goes there by itself.
const MINE: &str = "configmaps/default/mine";
const PASSING: [&str; 2] = ["events/", "leases/"];

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("had to be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_whose_names_are_prefixes_do_not_touch_each_other() -> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let (a, b) = tokio::try_join!(platform.tenant("north"), platform.tenant("north-1"))?;
    // One tenant has two ControlPlanes, one's name a prefix of the other's; its neighbour has one of the same name.
    let (mcp_a, mcp_a1, mcp_b) = tokio::try_join!(
        a.control_plane("cp"),
        a.control_plane("cp-1"),
        b.control_plane("cp-1")
    )?;
    let all = [(&a, "cp"), (&a, "cp-1"), (&b, "cp-1")];
    for (tenant, name) in all {
        tenant.order_kro(name, kro::VERSION).await?;
    }
    for (tenant, name) in all {
        wait::phase(&tenant.api(&kinds::kro()), name, "Ready").await?;
    }
    let stay = [(&a, "cp-1", &mcp_a1), (&b, "cp-1", &mcp_b)];

    // Neither sees or can name the other's objects on onboarding.
    let all = ListParams::default();
    for kind in [kinds::kro(), kinds::control_plane(), kinds::secret()] {
        assert_eq!(
            code(api(&b.client, &kind, &a.namespace).list(&all).await),
            403,
            "{}",
            kind.kind
        );
        assert_eq!(
            code(api(&b.client, &kind, "").list(&all).await),
            403,
            "{}",
            kind.kind
        );
        let delete = DeleteParams::default();
        assert_eq!(
            code(api(&b.client, &kind, &a.namespace).delete("cp", &delete).await),
            403,
            "{}",
            kind.kind
        );
    }
    // One's token is nobody on the other's control plane.
    let crossed = foreign_token(&a, "cp", &b, "cp-1").await?;
    assert_eq!(code(api(&crossed, &kinds::namespace(), "").list(&all).await), 401);

    // Something of each that must stay or go with its control plane only.
    for mcp in [&mcp_a, &mcp_a1, &mcp_b] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default"}});
        people::apply(mcp, &kinds::config_map(), object).await?;
    }

    // Deleting one leaves the others untouched, and of it nothing.
    let gone = cluster_uid(&platform, &a, "cp").await?;
    let mut before = Vec::new();
    for (tenant, name, _) in stay {
        before.push((
            tenant.api(&kinds::kro()).get(name).await?,
            cluster_uid(&platform, tenant, name).await?,
        ));
    }
    let stored = etcd::keys(&platform).await?;
    ensure!(
        stored.get(&gone).is_some_and(|it| it.contains(MINE)),
        "{:?}",
        stored.keys()
    );
    a.leave("cp").await?;
    let still = etcd::keys(&platform).await?;
    ensure!(!still.contains_key(&gone), "in etcd: {:?}", still.get(&gone));
    for ((tenant, name, mcp), (kro, cluster)) in stay.into_iter().zip(&before) {
        api(mcp, &kinds::config_map(), "default").get("mine").await?;
        let now = tenant.api(&kinds::kro()).get(name).await?;
        // Its status may tell how kro fares meanwhile.
        let wish = |kro: &DynamicObject| {
            let DynamicObject { metadata, data, .. } = kro;
            (metadata.uid.clone(), metadata.generation, data["spec"].clone())
        };
        ensure!(
            wish(&now) == wish(kro) && now.metadata.deletion_timestamp.is_none(),
            "{name} was changed: {kro:?} became {now:?}"
        );
        wait::phase(&tenant.api(&kinds::kro()), name, "Ready").await?;
        wait::phase(&tenant.api(&kinds::control_plane()), name, "Ready").await?;
        let (stored, still) = (&stored[cluster], still.get(cluster).context("no key is left")?);
        let lost: Vec<_> = stored
            .difference(still)
            .filter(|key| !PASSING.iter().any(|kind| key.contains(kind)))
            .collect();
        ensure!(lost.is_empty(), "lost in etcd: {lost:?}");
    }
    a.leave("cp-1").await?;
    b.leave("cp-1").await
}

/// The UID of the Cluster of a ControlPlane.
async fn cluster_uid(platform: &Platform, tenant: &people::Tenant, name: &str) -> Result<String> {
    let of = format!(
        "core.openmcp.cloud/mcp-name={name},core.openmcp.cloud/mcp-namespace={}",
        tenant.namespace
    );
    let requests = api(&platform.client, &kinds::cluster_request(), "");
    let requests = requests.list(&ListParams::default().labels(&of)).await?;
    let request = requests.items.first().context("no ClusterRequest")?;
    let at = &request.data["status"]["cluster"];
    let text = |field: &str| at[field].as_str().unwrap_or_default();
    let clusters = api(&platform.client, &kinds::cluster(), text("namespace"));
    let cluster = clusters.get(text("name")).await?;
    cluster.metadata.uid.context("no UID")
}

/// A client for the control plane of `to` that bears the token of `from`.
async fn foreign_token(
    from: &people::Tenant,
    cp: &str,
    to: &people::Tenant,
    other: &str,
) -> Result<kube::Client> {
    let read = async |tenant: &people::Tenant, cp: &str| -> Result<serde_json::Value> {
        let secret = tenant
            .api(&kinds::secret())
            .get(&format!("token-admin.{cp}.kubeconfig"))
            .await?;
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(serde_json::to_value(secret)?)?;
        Ok(serde_yaml::from_slice(
            &secret.data.unwrap_or_default()["kubeconfig"].0,
        )?)
    };
    let (mine, mut theirs) = (read(from, cp).await?, read(to, other).await?);
    theirs["users"][0]["user"] = mine["users"][0]["user"].clone();
    people::client(serde_yaml::to_string(&theirs)?.as_bytes()).await
}

/// A tenant writes its objects: what may be deleted, and what must, does not depend on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_whose_finalizers_are_taken_off_goes_with_its_cluster_and_a_new_one_gets_its_own()
-> Result<()> {
    let platform = Platform::from_env().await?;
    platform.install_kro().await?;
    let tenant = platform.tenant("stripped").await?;
    tenant.control_plane("stripped").await?;
    tenant.order_kro("stripped", kro::VERSION).await?;
    let (kros, control_planes) = (tenant.api(&kinds::kro()), tenant.api(&kinds::control_plane()));
    wait::phase(&kros, "stripped", "Ready").await?;
    let requests = api(&platform.client, &kinds::cluster_request(), "");
    let made = |name: &str| {
        let (requests, name) = (requests.clone(), name.to_owned());
        async move {
            let all = requests.list(&ListParams::default()).await?.items;
            Ok::<_, kube::Error>(all.into_iter().find(|it| it.name_any() == name))
        }
    };
    let before = made("stripped").await?.context("no ClusterRequest")?;
    let cluster = before.data["status"]["cluster"].clone();

    // As `kubectl delete --wait=false` and `kubectl patch` do it.
    control_planes
        .delete("stripped", &DeleteParams::default())
        .await?;
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    control_planes
        .patch("stripped", &PatchParams::default(), &bare)
        .await?;
    tenant.order_control_plane("stripped").await?;
    wait::phase(&control_planes, "stripped", "Ready").await?;
    wait::gone(&kros, "stripped").await?;
    let now = made("stripped").await?.context("no ClusterRequest")?;
    ensure!(before.uid() != now.uid(), "the cluster of another was adopted");

    tenant.leave("stripped").await?;
    let namespace = cluster["namespace"].as_str().unwrap_or_default();
    wait::gone(
        &api(&platform.client, &kinds::cluster(), namespace),
        cluster["name"].as_str().unwrap_or_default(),
    )
    .await
}
