//! Kubeconfigs of certificate identities: everything inline, so that a file can be taken elsewhere on the machine.
use crate::{pki::Pki, state::write_private};
use anyhow::Context;
use k8s_openapi::ByteString;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A kubeconfig for `server`, trusted by `ca`, as whoever the certificate `identity` names.
pub(crate) fn build(name: &str, server: &str, ca: &Path, pki: &Pki, identity: &str) -> anyhow::Result<Value> {
    let read = |path: &Path| -> anyhow::Result<ByteString> {
        Ok(ByteString(
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        ))
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": read(ca)?}}],
        "users": [{"name": identity, "user": {
            "client-certificate-data": read(&pki.cert(identity))?,
            "client-key-data": read(&pki.key(identity))?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": identity}}],
        "current-context": name,
    }))
}

/// Writes a kubeconfig as YAML, mode 0600.
pub(crate) fn write(path: &Path, kubeconfig: &Value) -> anyhow::Result<()> {
    write_private(path, serde_yaml::to_string(kubeconfig)?.as_bytes())
}

/// A client for a kubeconfig that was built here.
pub(crate) async fn client(kubeconfig: Value) -> anyhow::Result<Client> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    connect(kubeconfig).await
}

/// A client for a kubeconfig file.
pub(crate) async fn client_from(path: &Path) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
    connect(kubeconfig).await
}

async fn connect(kubeconfig: Kubeconfig) -> anyhow::Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
