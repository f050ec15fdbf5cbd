//! A namespace of a test's own on the platform cluster.
use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

/// Makes one whose name begins so, and returns its name.
pub async fn make(client: &Client, prefix: &str) -> Result<String> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let new = serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}}))?;
    Ok(namespaces.create(&PostParams::default(), &new).await?.name_any())
}

/// Lets it go, with all that is in it; nobody waits for that.
pub async fn leave(client: &Client, name: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.delete(name, &DeleteParams::default()).await?;
    Ok(())
}
