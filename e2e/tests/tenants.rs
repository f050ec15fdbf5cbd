//! Two unprivileged tenants at once: neither sees, delays or can name the other's objects.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    Platform,
    kinds::{self, api},
    kro, people, wait,
};
use serde_json::json;

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
    // The same tenant has two ControlPlanes, one's name a prefix of the other's, and so has its neighbour.
    let (mcp_a, mcp_b) = tokio::try_join!(a.control_plane("cp"), b.control_plane("cp-1"))?;
    tokio::try_join!(a.order_kro("cp", kro::VERSION), b.order_kro("cp-1", kro::VERSION))?;
    tokio::try_join!(
        async { wait::phase(&a.api(&kinds::kro()), "cp", "Ready").await },
        async { wait::phase(&b.api(&kinds::kro()), "cp-1", "Ready").await },
    )?;

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
    for mcp in [&mcp_a, &mcp_b] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default"}});
        people::apply(mcp, &kinds::config_map(), object).await?;
    }

    // Deleting one leaves the other untouched.
    let kro_b = serde_json::to_value(b.api(&kinds::kro()).get("cp-1").await?)?;
    a.api(&kinds::kro())
        .delete("cp", &DeleteParams::default())
        .await?;
    wait::gone(&a.api(&kinds::kro()), "cp").await?;
    a.api(&kinds::control_plane())
        .delete("cp", &DeleteParams::default())
        .await?;
    wait::gone(&a.api(&kinds::control_plane()), "cp").await?;
    api(&mcp_b, &kinds::config_map(), "default").get("mine").await?;
    let still = serde_json::to_value(b.api(&kinds::kro()).get("cp-1").await?)?;
    assert_eq!(
        kro_b["metadata"]["resourceVersion"],
        still["metadata"]["resourceVersion"]
    );
    wait::phase(&b.api(&kinds::control_plane()), "cp-1", "Ready").await?;

    b.api(&kinds::kro())
        .delete("cp-1", &DeleteParams::default())
        .await?;
    wait::gone(&b.api(&kinds::kro()), "cp-1").await?;
    b.api(&kinds::control_plane())
        .delete("cp-1", &DeleteParams::default())
        .await?;
    wait::gone(&b.api(&kinds::control_plane()), "cp-1").await
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
