//! A platform owner's access to the onboarding cluster: an AccessRequest like everybody's.
use super::{ONBOARDING_CLUSTER, SYSTEM_NAMESPACE, apply::Manifest, wait::wait_for};
use crate::{
    kubeconfig,
    state::{Platform, write_private},
};
use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use openmcp_api::{AccessRequest, keys};
use serde_json::json;
use std::path::PathBuf;

/// The AccessRequest.
const REQUEST: &str = "platform-owner--onboarding";

/// Writes the platform owner's kubeconfig for onboarding and returns its path. Its token is renewed by the cluster
/// provider; asking again writes the current one.
pub(crate) async fn onboarding_kubeconfig(platform: &Platform) -> anyhow::Result<PathBuf> {
    let client = kubeconfig::client_from(&platform.kubeconfig_path("platform-owner")).await?;
    let request = Manifest::object(json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1",
        "kind": "AccessRequest",
        "metadata": {"name": REQUEST, "namespace": SYSTEM_NAMESPACE},
        "spec": {
            "clusterRef": {"name": ONBOARDING_CLUSTER, "namespace": SYSTEM_NAMESPACE},
            "token": {"roleRefs": [{"kind": "ClusterRole", "name": "cluster-admin"}]},
        },
    }));
    request
        .apply(&client)
        .await
        .context("openMCP is not installed on this platform: `openmcp dev up` installs it")?;
    let requests: Api<AccessRequest> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let ended = |it: &AccessRequest| it.granted_secret().is_some() || it.is_denied();
    let request = wait_for(&requests, REQUEST, ended).await?;
    let Some(secret) = request.granted_secret() else {
        bail!("the AccessRequest {SYSTEM_NAMESPACE}/{REQUEST} was denied: its conditions say why");
    };
    let secret = Api::<Secret>::namespaced(client, SYSTEM_NAMESPACE)
        .get(secret)
        .await?;
    let content = secret
        .data
        .and_then(|mut data| data.remove(keys::secrets::KUBECONFIG));
    let content = content.context("the granted Secret has no kubeconfig")?;
    let path = platform.kubeconfig_path("onboarding");
    write_private(&path, &content.0)?;
    Ok(path)
}
