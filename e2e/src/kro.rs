//! examples/kro as the platform owner installs it, from the same files that the README names.
use crate::{
    Platform,
    kinds::{self, api},
    people::{SYSTEM, apply},
    snapshot, wait,
};
use anyhow::{Context, Result};
use kube::{api::ApiResource, core::GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The version that examples/kro/providerconfig.yaml offers.
pub const VERSION: &str = "0.9.4";

impl Platform {
    /// Installs the kro provider, if it is not there yet, and waits until it is ready.
    pub async fn install_kro(&self) -> Result<()> {
        apply(&self.client, &kinds::config_map(), bundle()?).await?;
        for file in ["rbac.yaml", "serviceprovider.yaml"] {
            self.apply_file(&examples().join("kro").join(file)).await?;
        }
        wait::phase(&api(&self.client, &kinds::service_provider(), ""), "kro", "Ready").await?;
        self.apply_file(&examples().join("kro/providerconfig.yaml")).await
    }

    /// Waits until there is nothing on the platform or on onboarding that the provider or its installation made (known
    /// fault 20); what the platform owner applied beside it is the owner's.
    pub async fn nothing_of_kro(&self) -> Result<()> {
        let owners = [
            "ClusterRole /openmcp.cloud:sp-kro",
            "ClusterRole /openmcp.cloud:sp-kro-init",
            "ConfigMap openmcp-system/kro-0.9.4",
        ];
        for client in [&self.client, &self.onboarding().await?] {
            let of_kro = |it: &str| it.contains("kro") && !owners.contains(&it);
            snapshot::none(client, of_kro).await?;
        }
        Ok(())
    }

    /// Applies every document of a YAML file of well-known kinds.
    pub async fn apply_file(&self, path: &Path) -> Result<()> {
        for object in documents(path)? {
            apply(&self.client, &kind_of(&object)?, object).await?;
        }
        Ok(())
    }
}

/// The folder `examples/` of this checkout.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The documents of a YAML file.
pub fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).with_context(|| format!("parsing {}", path.display())))
        .filter(|object| !matches!(object, Ok(Value::Null)))
        .collect()
}

/// The resource of an object, its plural guessed as the API server's conventions have it.
pub fn kind_of(object: &Value) -> Result<ApiResource> {
    let version = object["apiVersion"]
        .as_str()
        .context("an object without apiVersion")?;
    let kind = object["kind"].as_str().context("an object without kind")?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Ok(ApiResource::from_gvk(&GroupVersionKind::gvk(
        group, version, kind,
    )))
}

/// The manifest bundle: kro's own CRDs, as its Go module ships them.
fn bundle() -> Result<Value> {
    let folder = std::env::var("OPENMCP_KRO_CRDS")
        .context("OPENMCP_KRO_CRDS is not set: run the suites by `cargo verify`")?;
    let mut data = serde_json::Map::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        data.insert(name, Value::String(std::fs::read_to_string(&path)?));
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kro-0.9.4", "namespace": SYSTEM}, "data": data,
    }))
}
