//! A small provider in two releases: notes in ConfigMaps, all in one namespace under the name of their order.
use kube::{CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, rules};

pub(crate) const GROUP: &str = "notes.services.open-control-plane.io";

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "notes.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "NoteSet",
    namespaced,
    status = "ServiceStatus"
)]
pub(crate) struct NoteSetSpec {
    pub(crate) count: i32,
    pub(crate) text: String,
}

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "notes.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "ProviderConfig"
)]
pub(crate) struct ProviderConfigSpec {}

impl service_provider_runtime::ProviderConfig for ProviderConfig {}

/// The first release.
pub(crate) struct Notes;

impl ServiceProvider for Notes {
    type Api = NoteSet;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let (set, mut desired) = (cx.object(), Desired::new());
        for number in 0..set.spec.count {
            desired.mcp(note(&set.name_any(), number, &set.spec.text))?;
        }
        Ok(desired)
    }
}

pub(crate) fn note(order: &str, number: i32, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("{order}-{number}"), "namespace": "default"}, "data": {"text": text},
    })
}

/// The next release: orders have a field more, and who does not use it gets what he had.
pub(crate) mod next {
    use super::{Access, CustomResource, Deserialize, Desired, Inputs, Invalid, JsonSchema, ResourceExt};
    use super::{ProviderConfig, Serialize, ServiceProvider, ServiceStatus, note, rules};

    #[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
    #[kube(
        group = "notes.services.open-control-plane.io",
        version = "v1alpha1",
        kind = "NoteSet",
        namespaced,
        status = "ServiceStatus"
    )]
    pub(crate) struct NoteSetSpec {
        pub(crate) count: i32,
        pub(crate) text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(crate) suffix: Option<String>,
    }

    pub(crate) struct Notes;

    impl ServiceProvider for Notes {
        type Api = NoteSet;
        type Config = ProviderConfig;

        fn access(&self) -> Access {
            Access::mcp([rules::manage("", &["configmaps"])])
        }

        fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
            let (set, mut desired) = (cx.object(), Desired::new());
            let text = format!(
                "{}{}",
                set.spec.text,
                set.spec.suffix.as_deref().unwrap_or_default()
            );
            for number in 0..set.spec.count {
                desired.mcp(note(&set.name_any(), number, &text))?;
            }
            Ok(desired)
        }
    }
}
