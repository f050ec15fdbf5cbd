//! Gives tenants ConfigMaps on their ControlPlane: a service that costs nothing itself, so that `openmcp bench`
//! measures what the runtime costs.
//!
//! Many service objects may share one API server: their ConfigMaps lie in one namespace, each under the name of its
//! service object.
use kube::{CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, rules};
use std::process::ExitCode;

/// Watches decode many short-lived objects: the usual allocator would keep their memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a tenant orders.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "configset.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "ConfigSet",
    namespaced,
    status = "ServiceStatus",
    doc = "ConfigSet is a set of ConfigMaps on the ControlPlane of the same name.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
struct ConfigSetSpec {
    /// Is in every ConfigMap.
    #[schemars(length(max = 100))]
    text: String,
    /// Is in the first ConfigMap only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    first: Option<String>,
}

/// What all sets have in common.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "configset.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "ProviderConfig",
    doc = "ProviderConfig says what all ConfigSets have in common."
)]
#[serde(rename_all = "camelCase")]
struct ProviderConfigSpec {
    /// How many ConfigMaps a set has.
    #[schemars(range(min = 1, max = 1000))]
    children: i32,
    /// The namespace on the ControlPlane that holds them. It must exist.
    #[schemars(length(min = 1, max = 63))]
    namespace: String,
    /// Is in every ConfigMap of every set.
    #[schemars(length(max = 100))]
    text: String,
    /// Accepted from configurations of Go providers, without effect: watches find drift as it happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    poll_interval: Option<String>,
}

impl service_provider_runtime::ProviderConfig for ProviderConfig {}

struct ConfigMaps;

impl ServiceProvider for ConfigMaps {
    type Api = ConfigSet;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let (set, config) = (cx.object(), &cx.config().spec);
        let owner = format!("{}.{}", set.namespace().unwrap_or_default(), set.name_any());
        let mut desired = Desired::new();
        for index in 0..config.children {
            let mut data = json!({"config": config.text, "text": set.spec.text});
            if let (0, Some(first)) = (index, &set.spec.first) {
                data["first"] = json!(first);
            }
            desired.mcp(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": format!("{owner}.{index}"), "namespace": config.namespace},
                "data": data,
            }))?;
        }
        Ok(desired)
    }
}

fn main() -> ExitCode {
    service_provider_runtime::main(ConfigMaps)
}
