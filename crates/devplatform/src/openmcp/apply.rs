//! Manifests: YAML with `${…}` parts, applied on the server's side under one field manager.
use anyhow::{Context, bail};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the platform itself applies carries this field manager.
const MANAGER: &str = "openmcp-dev";

/// Objects in the order in which they are applied.
#[derive(Debug)]
pub(super) struct Manifest(Vec<Value>);

impl Manifest {
    /// Reads all documents of a YAML text; a `${NAME}` that has no value is an error that names it.
    pub(super) fn read(text: &str, values: &BTreeMap<&'static str, String>) -> anyhow::Result<Self> {
        let mut text = text.to_owned();
        for (name, value) in values {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        let plain = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        if let Some(line) = plain.into_iter().find(|line| line.contains("${")) {
            bail!("the manifest has a part without a value: {}", line.trim());
        }
        let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(&text)
            .map(Value::deserialize)
            .collect();
        Ok(Self(documents.context("the manifest is not YAML")?))
    }

    /// One object.
    pub(super) fn object(object: Value) -> Self {
        Self(vec![object])
    }

    /// Applies every object. What is already so is not changed.
    pub(super) async fn apply(self, client: &Client) -> anyhow::Result<()> {
        for object in self.0 {
            let object: DynamicObject =
                serde_json::from_value(object).context("an object without apiVersion and kind")?;
            let types = object
                .types
                .clone()
                .context("an object without apiVersion and kind")?;
            let name = object.name_any();
            apply_one(client, object)
                .await
                .with_context(|| format!("cannot apply {} {name}", types.kind))?;
        }
        Ok(())
    }
}

async fn apply_one(client: &Client, object: DynamicObject) -> anyhow::Result<()> {
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => bail!("it has no namespace"),
    };
    api.patch(
        &object.name_any(),
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&object),
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_platforms_manifests_are_whole_once_their_values_are_given() {
        let values = BTreeMap::from([
            ("OPERATOR_BUILD", "1".to_owned()),
            ("CLUSTER_PROVIDER_BUILD", "1".to_owned()),
            ("HOSTED_ADDRESS_RANGE", "127.100.128.0/17".to_owned()),
            ("KUBERNETES_VERSION", "v1.36.3".to_owned()),
        ]);
        for text in [
            super::super::PLATFORM_OWNER,
            super::super::OPERATOR_INIT_YAML,
            super::super::OPERATOR_YAML,
            super::super::CLUSTER_PROVIDER_RBAC,
        ] {
            Manifest::read(text, &values).unwrap();
        }
        let provider = Manifest::read(super::super::CLUSTER_PROVIDER_YAML, &values).unwrap();
        let env = &provider.0.last().unwrap()["spec"]["env"];
        assert_eq!(env[0]["value"], "127.100.128.0/17");
        assert_eq!(env[2]["value"], "openmcp/kube-apiserver:v1.36.3");
    }

    #[test]
    fn a_part_without_a_value_is_named() {
        let message = Manifest::read("a: ${WHO}", &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert!(message.contains("${WHO}"), "{message}");
    }
}
