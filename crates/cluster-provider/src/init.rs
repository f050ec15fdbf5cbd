//! `init`: publishes the ClusterProfiles. Idempotent; anything that fails ends the process non-zero.
use crate::{
    cli::Common,
    names::{KUBERNETES_VERSION, LABEL_MANAGED_BY, MANAGER, PROFILE_HOST, PROFILE_HOSTED},
};
use anyhow::Context;
use openmcp_reconcile::{
    apply::{self, Mark},
    cluster::Connection,
};
use serde_json::{Value, json};

/// Publishes the profiles. A profile of the same name that belongs to another provider is left alone and an error.
pub(crate) async fn init(common: &Common) -> anyhow::Result<()> {
    let client = Connection::infer(MANAGER)
        .await
        .context("no access to the platform cluster")?
        .client();
    let mark = Mark {
        label: LABEL_MANAGED_BY,
        value: common.provider_name.clone(),
    };
    for name in [PROFILE_HOSTED, PROFILE_HOST] {
        apply::upsert(&client, MANAGER, &mark, profile(name, &common.provider_name))
            .await
            .with_context(|| format!("cannot publish ClusterProfile {name}"))?;
        tracing::info!("ClusterProfile {name} is published");
    }
    Ok(())
}

fn profile(name: &str, provider: &str) -> Value {
    json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1",
        "kind": "ClusterProfile",
        "metadata": {"name": name},
        "spec": {
            "providerRef": {"name": provider},
            "providerConfigRef": {"name": provider},
            "supportedVersions": [{"version": KUBERNETES_VERSION}],
        },
    })
}
