//! A small provider with everything that a provider can have, for the simulations.
#![allow(dead_code)] // each suite uses its part

use kube::CustomResource;
use openmcp_testkit::{Ended, Job, PERSON, Simulation, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, rules};
use std::time::Duration;

/// Longer than any back-off: then nothing is coming any more.
pub(crate) const QUIET: Duration = Duration::from_secs(300);
pub(crate) const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What tenants order.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "greeter.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "Greeter",
    namespaced,
    status = "ServiceStatus"
)]
pub(crate) struct GreeterSpec {
    /// How many greetings.
    pub count: i32,
}

/// What the platform owner configures.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "greeter.services.open-control-plane.io",
    version = "v1alpha1",
    kind = "ProviderConfig"
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProviderConfigSpec {
    /// What is said.
    pub greeting: String,
    /// A ConfigMap with the second stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The service does not bring its definition any more.
    #[serde(default)]
    pub without_gadgets: bool,
}

impl service_provider_runtime::ProviderConfig for ProviderConfig {}

/// Greetings in ConfigMaps and a definition on the ControlPlane, a controller on the workload cluster.
pub(crate) struct Provider;

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps", "namespaces"])])
            .workload([rules::manage("apps", &["deployments"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let config = &cx.config().spec;
        assert!(config.greeting != "panic", "told to panic");
        if cx.object().spec.count < 0 {
            return Err(Invalid::new("NegativeCount", "spec.count: must not be negative"));
        }
        let mut desired = Desired::new();
        desired.mcp(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "greetings"}}))?;
        if !config.without_gadgets {
            desired.mcp(gadgets())?;
        }
        for number in 0..cx.object().spec.count {
            desired.mcp(greeting(&format!("greeting-{number}"), &config.greeting))?;
        }
        let identity = cx.workload_identity("greetings", "greeter");
        desired.identity(&identity);
        desired.workload(deployment(cx.workload_namespace(), &config.greeting))?;
        if let Some(stage) = &config.stage
            && let Some(stage) = cx.config_map(stage)
        {
            let text = stage.data.as_ref().and_then(|data| data.get("text")).cloned();
            desired.mcp(greeting("second-stage", &text.unwrap_or_default()))?;
        }
        Ok(desired)
    }
}

fn greeting(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "greetings"}, "data": {"text": text},
    })
}

/// The definition that the service brings.
pub(crate) fn gadgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.greeter.example.com"},
        "spec": {
            "group": "greeter.example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }}}],
        },
    })
}

fn deployment(namespace: &str, greeting: &str) -> Value {
    let labels = json!({"app": "greeter"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "greeter", "image": "greeter", "args": [greeting]}]},
        }},
    })
}

/// A service object.
pub(crate) fn greeter(tenant: &str, name: &str, count: i32) -> Value {
    json!({
        "apiVersion": "greeter.services.open-control-plane.io/v1alpha1", "kind": "Greeter",
        "metadata": {"name": name, "namespace": tenant}, "spec": {"count": count},
    })
}

/// An object of the tenant, of a kind that the service installs.
pub(crate) fn gadget(name: &str) -> Value {
    json!({
        "apiVersion": "greeter.example.com/v1", "kind": "Gadget",
        "metadata": {"name": name, "namespace": "default"}, "spec": {},
    })
}

/// The configuration.
pub(crate) fn config(greeting: &str) -> Value {
    json!({
        "apiVersion": "greeter.services.open-control-plane.io/v1alpha1", "kind": "ProviderConfig",
        "metadata": {"name": "greeter"}, "spec": {"greeting": greeting},
    })
}

/// One with a second stage.
pub(crate) fn staged(greeting: &str) -> Value {
    let mut config = config(greeting);
    config["spec"]["stage"] = json!("stage");
    config
}

/// One of a service that does not bring its definition any more.
pub(crate) fn without_gadgets(greeting: &str) -> Value {
    let mut config = config(greeting);
    config["spec"]["withoutGadgets"] = json!(true);
    config
}

/// The input of the second stage.
pub(crate) fn stage(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "stage", "namespace": "openmcp-system"}, "data": {"text": text},
    })
}

/// The provider on a platform with one tenant.
pub(crate) fn simulation() -> Simulation<Provider> {
    Simulation::new("greeter", || Provider)
        .on_platform(config("hello"))
        .control_plane("team", "one")
}

/// The tenant's one order, made or changed.
#[allow(clippy::unwrap_used)] // a helper of tests
pub(crate) fn order(world: &World, count: i32) {
    world
        .server("onboarding")
        .apply(PERSON, &greeter("team", "one", count))
        .unwrap();
}

/// A service that is Ready, made by a process that is gone.
pub(crate) fn served() -> (Simulation<Provider>, World) {
    let simulation = simulation();
    let world = simulation.world();
    let mut process = simulation.start(&world, Job::Run);
    order(&world, 2);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    assert!(is_ready(&world), "{}", live(&world));
    (simulation, world)
}

/// The order as it is now; null when it is gone.
pub(crate) fn live(world: &World) -> Value {
    world
        .server("onboarding")
        .live(&greeter("team", "one", 0))
        .unwrap_or_default()
}

/// Whether the order as it is now was fulfilled.
pub(crate) fn is_ready(world: &World) -> bool {
    let object = live(world);
    object["status"]["phase"] == "Ready"
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
