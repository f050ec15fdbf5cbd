//! What a service provider's author needs.
//!
//! A provider is a **pure function** from inputs to the objects that should exist. The runtime owns every effect:
//! access to clusters, server-side apply, drift, readiness, status, Events, deletion, credentials, `init` and
//! `run`. `examples/kro` is a whole provider; this is the least that one is:
//!
//! ```no_run
//! use kube::CustomResource;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//! use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, ServiceStatus, rules};
//!
//! /// What tenants order.
//! #[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
//! #[kube(group = "greeter.services.open-control-plane.io", version = "v1alpha1", kind = "Greeter", namespaced,
//!        status = "ServiceStatus")]
//! struct GreeterSpec {
//!     name: String,
//! }
//!
//! /// What the platform owner configures.
//! #[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
//! #[kube(group = "greeter.services.open-control-plane.io", version = "v1alpha1", kind = "ProviderConfig")]
//! struct ProviderConfigSpec {
//!     greeting: String,
//! }
//!
//! impl service_provider_runtime::ProviderConfig for ProviderConfig {}
//!
//! struct Provider;
//!
//! impl ServiceProvider for Provider {
//!     type Api = Greeter;
//!     type Config = ProviderConfig;
//!
//!     fn access(&self) -> Access {
//!         Access::mcp([rules::manage("", &["configmaps"])])
//!     }
//!
//!     fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
//!         let text = format!("{}, {}!", cx.config().spec.greeting, cx.object().spec.name);
//!         let mut desired = Desired::new();
//!         desired.mcp(json!({
//!             "apiVersion": "v1", "kind": "ConfigMap",
//!             "metadata": {"name": "greeting", "namespace": "default"},
//!             "data": {"text": text},
//!         }))?;
//!         Ok(desired)
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     service_provider_runtime::main(Provider)
//! }
//! ```
//!
//! This crate knows the contract between providers and the platform, and the order of a reconcile. It must not know
//! any concrete provider; what it does with Kubernetes objects is in `openmcp-reconcile`.
#![warn(missing_docs)]

mod access;
mod archive;
mod children;
mod cli;
mod contained;
mod deletion;
mod dependents;
mod desired;
mod external;
mod fanout;
mod identity;
mod inputs;
mod inventories;
mod manifests;
mod measures;
mod object;
mod onboarding;
mod pipeline;
mod process;
mod provider;
mod rbac;
mod run;
mod serving;
mod setup;
mod singles;
mod standby;
mod status;
mod stop;
mod unrecorded;
mod values;
mod versions;
mod world;

pub use children::ChildState;
pub use cli::main;
pub use desired::{Desired, Object, Wait};
pub use external::{ExternalFault, ExternalResource, ExternalService, Externals, Observation, Removal};
pub use identity::WorkloadIdentity;
pub use inputs::{Inputs, Invalid};
pub use manifests::manifests;
pub use openmcp_reconcile::children::{Adoption, Health, Mode, Wave};
pub use process::Process;
pub use provider::{
    Access, LiveView, ProviderConfig, ServiceApi, ServiceProvider, ServiceStatus, kstatus, rules,
};
pub use values::{Generate, Generated};
pub use versions::offered;
