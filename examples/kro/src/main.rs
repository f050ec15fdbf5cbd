//! Gives tenants [kro](https://kro.run): its definitions on the tenant's ControlPlane, its controller on the workload
//! cluster with access to that ControlPlane only.
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_provider_runtime::{
    Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, WorkloadIdentity, rules,
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

const SYSTEM: &str = "kro-system";
const CONTROLLER: &str = "kro:controller";
const STATIC: &str = "kro:controller:static";
/// A tenant gives kro rights by ClusterRoles with this label: they are added to the controller's own.
const AGGREGATE: &str = "rbac.kro.run/aggregate-to-controller";

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
        let mcp = mcp
            .into_iter()
            .chain(rules::identity())
            .chain(rules::grant(&[CONTROLLER, STATIC]));
        Access::mcp(mcp).workload([
            rules::manage("", &["namespaces", "secrets"]),
            rules::manage("apps", &["deployments"]),
        ])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let version = ordered(&cx.object().spec.version, &cx.config().spec.versions)?;
        let identity = cx.workload_identity(SYSTEM, "kro").bound_to(CONTROLLER);
        let mut desired = Desired::new();
        desired.mcp_all(cx.bundle(&version.bundle.name)?)?;
        desired.mcp(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}))?;
        desired.mcp_all(cluster_roles())?;
        desired.identity(&identity);
        desired.workload(deployment(cx.workload_namespace(), &version.image, &identity))?;
        Ok(desired)
    }
}

/// The version that was ordered, if it is offered.
fn ordered<'a>(wanted: &str, offered: &'a [Version]) -> Result<&'a Version, Invalid> {
    offered
        .iter()
        .find(|offer| offer.version == wanted)
        .ok_or_else(|| {
            let known: Vec<&str> = offered.iter().map(|offer| offer.version.as_str()).collect();
            let message = format!(
                "spec.version: {wanted} is not offered; choose one of: {}",
                known.join(", ")
            );
            Invalid::new("UnknownVersion", message)
        })
}

/// What kro needs for its own kinds, and whatever tenants add to it. It makes a definition for each
/// ResourceGraphDefinition and deletes none: see its flag `--allow-crd-deletion`.
fn cluster_roles() -> [Value; 2] {
    let rules: Vec<PolicyRule> = [
        own("kro.run", "resourcegraphdefinitions"),
        own("internal.kro.run", "graphrevisions"),
        [
            rules::allow(
                "apiextensions.k8s.io",
                &["customresourcedefinitions"],
                &["create", "get", "list", "patch", "update", "watch"],
            ),
            rules::allow("", &["events"], &["create", "patch"]),
        ],
    ]
    .concat();
    let role = |name: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}});
    let (mut fixed, mut aggregated) = (role(STATIC), role(CONTROLLER));
    fixed["metadata"]["labels"] = json!({AGGREGATE: "true"});
    fixed["rules"] = json!(rules);
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {AGGREGATE: "true"}}]});
    [fixed, aggregated]
}

fn own(group: &str, plural: &str) -> [PolicyRule; 2] {
    let (status, finalizers) = (format!("{plural}/status"), format!("{plural}/finalizers"));
    let all = ["create", "delete", "get", "list", "patch", "update", "watch"];
    [
        rules::allow(group, &[plural], &all),
        rules::allow(group, &[&status, &finalizers], &["get", "patch", "update"]),
    ]
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
