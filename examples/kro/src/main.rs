//! Gives tenants [kro](https://kro.run): its definitions on the tenant's ControlPlane, its controller on the workload
//! cluster with access to that ControlPlane only.
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_provider_runtime::{
    Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, WorkloadIdentity, manifests, offered,
    rules,
};
use std::process::ExitCode;

/// Memory goes back: definitions and their events are big and short-lived.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a tenant orders: kro on the ControlPlane of the same name and namespace.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kro.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "Kro",
    namespaced,
    status = "ServiceStatus",
    doc = "Kro is kro on the ControlPlane of the same name.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
struct KroSpec {
    /// A version that the platform offers.
    #[schemars(length(min = 1, max = 63))]
    version: String,
}

/// What the platform offers.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kro.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "ProviderConfig",
    doc = "ProviderConfig says which versions of kro tenants may order."
)]
#[serde(rename_all = "camelCase")]
struct ProviderConfigSpec {
    /// The versions that tenants may order.
    #[schemars(length(max = 100))]
    versions: Vec<Version>,
    /// Whether tenants may pause the repairs of their own kro by annotation.
    #[serde(default)]
    tenants_may_pause: bool,
    /// Accepted from configurations of Go providers, without effect: watches find drift as it happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    poll_interval: Option<String>,
}

/// One version, and what it consists of.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Version {
    /// How tenants call it.
    version: String,
    /// kro's controller.
    image: String,
    /// A ConfigMap in the provider's namespace whose values are the manifests of kro's definitions.
    bundle: Bundle,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Bundle {
    /// Its name.
    name: String,
}

impl service_provider_runtime::ProviderConfig for ProviderConfig {
    fn tenants_may_pause(&self) -> bool {
        self.spec.tenants_may_pause
    }
}

/// The ClusterRoles of `control_plane.yaml`; the controller has the first one, which the second one is added to.
const ROLES: [&str; 2] = ["kro:controller", "kro:controller:static"];

struct KroProvider;

impl ServiceProvider for KroProvider {
    type Api = Kro;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        let mcp = [
            rules::manage("", &["namespaces"]),
            rules::manage("apiextensions.k8s.io", &["customresourcedefinitions"]),
            rules::domain("kro.run"),
            rules::domain("internal.kro.run"),
        ];
        let workload = [
            rules::manage("", &["namespaces", "secrets"]),
            rules::manage("apps", &["deployments"]),
        ];
        Access::mcp([&mcp[..], &rules::identity(), &rules::grant(&ROLES)].concat()).workload(workload)
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let versions = &cx.config().spec.versions;
        let version = offered(&cx.object().spec.version, versions, |it| &it.version)?;
        let identity = cx.workload_identity("kro-system", "kro").bound_to(ROLES[0]);
        let mut desired = Desired::new();
        desired.mcp_all(cx.bundle(&version.bundle.name)?)?;
        desired.mcp_all(manifests(include_str!("control_plane.yaml"))?)?;
        desired.identity(&identity);
        desired.workload(deployment(cx.workload_namespace(), &version.image, &identity))?;
        Ok(desired)
    }
}

/// One controller at a time: it elects no leader, and takes its rights from its volume only.
fn deployment(namespace: &str, image: &str, identity: &WorkloadIdentity) -> Value {
    let labels = json!({"app.kubernetes.io/name": "kro"});
    let container = json!({
        "name": "kro",
        "image": image,
        "args": [
            "-kubeconfig", identity.kubeconfig(),
            "-metrics-bind-address", "$(POD_IP):8078",
            "-health-probe-bind-address", "$(POD_IP):8079",
        ],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8079}, "periodSeconds": 1},
        "volumeMounts": [identity.mount("mcp")],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kro", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false,
                // It keeps no state, and would take all the time that it gets.
                "terminationGracePeriodSeconds": 3,
                "containers": [container],
                "volumes": [identity.volume("mcp")],
            }},
        },
    })
}

fn main() -> ExitCode {
    service_provider_runtime::main(KroProvider)
}

#[cfg(test)]
mod tests;
