//! Gives tenants [kro](https://kro.run): its definitions on the tenant's ControlPlane, its controller on the workload
//! cluster with access to that ControlPlane only.
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
    core::v1::{
        Container, EnvVar, EnvVarSource, HTTPGetAction, Namespace, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe,
    },
    rbac::v1::{AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
};
use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, ObjectMeta},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_provider_runtime::{
    Access, Desired, Inputs, Invalid, ProviderConfig as Config, ServiceProvider, ServiceStatus, rules,
};
use std::{collections::BTreeMap, process::ExitCode};

/// Heap pages are given back: definitions and their events are big and short-lived.
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
#[kube(group = "kro.services.open-control-plane.io", version = "v1alpha1", kind = "ProviderConfig")]
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
    version: String,
    /// kro's controller.
    image: String,
    /// A ConfigMap in the provider's namespace whose values are the manifests of kro's definitions.
    bundle: Bundle,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Bundle {
    name: String,
}

impl Config for ProviderConfig {
    fn tenants_may_pause(&self) -> bool {
        self.spec.tenants_may_pause
    }
}

const SYSTEM: &str = "kro-system";
const CONTROLLER: &str = "kro:controller";
const STATIC: &str = "kro:controller:static";
/// A tenant gives kro rights by ClusterRoles with this label: they are added to the controller's own.
const AGGREGATE: &str = "rbac.kro.run/aggregate-to-controller";

struct Kro_;

impl ServiceProvider for Kro_ {
    type Api = Kro;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        let mcp = [
            rules::manage("", &["namespaces"]),
            rules::manage("apiextensions.k8s.io", &["customresourcedefinitions"]),
            rules::read("kro.run"),
            rules::read("internal.kro.run"),
        ];
        let workload = [
            rules::manage("", &["namespaces", "secrets"]),
            rules::manage("apps", &["deployments"]),
        ];
        Access::mcp(mcp.into_iter().chain(rules::identity()).chain(rules::grant(&[CONTROLLER, STATIC])))
            .workload(workload)
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let wanted = &cx.object().spec.version;
        let offered = &cx.config().spec.versions;
        let version = offered.iter().find(|offer| offer.version == *wanted).ok_or_else(|| {
            let known: Vec<&str> = offered.iter().map(|offer| offer.version.as_str()).collect();
            Invalid::new(
                "UnknownVersion",
                format!("spec.version: {wanted} is not offered; choose one of: {}", known.join(", ")),
            )
        })?;
        let mut desired = Desired::new();
        desired.mcp_all(cx.bundle(&version.bundle.name)?)?;
        desired.mcp(Namespace { metadata: named(SYSTEM), ..Namespace::default() })?;
        for role in cluster_roles() {
            desired.mcp(role)?;
        }
        desired.mcp(binding())?;
        let identity = cx.workload_identity(SYSTEM, "kro");
        desired.identity(&identity);
        let namespace = cx.workload_namespace();
        desired.workload(Namespace { metadata: named(namespace), ..Namespace::default() })?;
        let pod = PodSpec {
            containers: vec![Container {
                volume_mounts: Some(vec![identity.mount("mcp")]),
                ..container(&version.image, &identity.kubeconfig())
            }],
            volumes: Some(vec![identity.volume("mcp")]),
            // What it needs it gets by its volume.
            automount_service_account_token: Some(false),
            ..PodSpec::default()
        };
        desired.workload(deployment(namespace, pod))?;
        Ok(desired)
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// What kro needs for its own kinds, and whatever tenants add to it.
fn cluster_roles() -> [ClusterRole; 2] {
    let label = BTreeMap::from([(AGGREGATE.to_owned(), "true".to_owned())]);
    let all = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let own = |group: &str, kind: &str| -> [PolicyRule; 2] {
        let (status, finalizers) = (format!("{kind}/status"), format!("{kind}/finalizers"));
        [rules::allow(group, &[kind], &all), rules::allow(group, &[&status, &finalizers], &["get", "patch", "update"])]
    };
    // It makes a definition for each ResourceGraphDefinition, and does not delete any: see its --allow-crd-deletion.
    let definitions = ["create", "get", "list", "patch", "update", "watch"];
    let mut rules: Vec<PolicyRule> = own("kro.run", "resourcegraphdefinitions").into();
    rules.extend(own("internal.kro.run", "graphrevisions"));
    rules.push(rules::allow("apiextensions.k8s.io", &["customresourcedefinitions"], &definitions));
    rules.push(rules::allow("", &["events"], &["create", "patch"]));
    let selector = LabelSelector { match_labels: Some(label.clone()), ..LabelSelector::default() };
    let aggregated = AggregationRule { cluster_role_selectors: Some(vec![selector]) };
    [
        ClusterRole {
            metadata: ObjectMeta { labels: Some(label), ..named(STATIC) },
            rules: Some(rules),
            ..ClusterRole::default()
        },
        ClusterRole { metadata: named(CONTROLLER), aggregation_rule: Some(aggregated), ..ClusterRole::default() },
    ]
}

fn binding() -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: named(CONTROLLER),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: CONTROLLER.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: "kro".to_owned(),
            namespace: Some(SYSTEM.to_owned()),
            ..Subject::default()
        }]),
    }
}

fn container(image: &str, kubeconfig: &str) -> Container {
    let field = ObjectFieldSelector { field_path: "status.podIP".to_owned(), ..ObjectFieldSelector::default() };
    let ready = HTTPGetAction {
        path: Some("/readyz".to_owned()),
        port: IntOrString::Int(8079),
        ..HTTPGetAction::default()
    };
    let args = ["-kubeconfig", kubeconfig, "-metrics-bind-address", "$(POD_IP):8078", "-health-probe-bind-address", "$(POD_IP):8079"];
    Container {
        name: "kro".to_owned(),
        image: Some(image.to_owned()),
        args: Some(args.map(str::to_owned).into()),
        env: Some(vec![EnvVar {
            name: "POD_IP".to_owned(),
            value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
            ..EnvVar::default()
        }]),
        readiness_probe: Some(Probe { http_get: Some(ready), period_seconds: Some(1), ..Probe::default() }),
        ..Container::default()
    }
}

/// One controller at a time: it elects no leader.
fn deployment(namespace: &str, pod: PodSpec) -> Deployment {
    let labels = Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "kro".to_owned())]));
    Deployment {
        metadata: ObjectMeta { namespace: Some(namespace.to_owned()), ..named("kro") },
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), ..DeploymentStrategy::default() }),
            selector: LabelSelector { match_labels: labels.clone(), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels, ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn main() -> ExitCode {
    service_provider_runtime::main(Kro_)
}
