//! The next version of the provider: its kind has a field more, which must be there.
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, rules};

#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "greeter.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "Greeter",
    namespaced,
    status = "ServiceStatus"
)]
pub(crate) struct GreeterSpec {
    pub count: i32,
    pub language: String,
}

pub(crate) struct Provider;

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = crate::common::ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps", "namespaces"])])
            .workload([rules::manage("apps", &["deployments"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        desired.mcp(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "language", "namespace": "default"},
            "data": {"text": cx.object().spec.language},
        }))?;
        Ok(desired)
    }
}
