//! What a service provider's author needs.
//!
//! A provider is a **pure function** from inputs to the objects that should exist. The runtime owns every effect:
//! access to clusters, server-side apply, drift, readiness, status, Events, deletion, credentials, `init` and
//! `run`. See [`ServiceProvider`] for what is to be written and `examples/kro` for a whole provider.
//!
//! This crate knows the contract between providers and the platform, and the order of a reconcile. It must not know
//! any concrete provider; what it does with Kubernetes objects is in `openmcp-reconcile`.
mod access;
mod cli;
mod deletion;
mod dependents;
mod desired;
mod identity;
mod inputs;
mod inventories;
mod object;
mod onboarding;
mod pipeline;
mod provider;
mod rbac;
mod run;
mod setup;
mod singles;
mod status;
mod stop;
mod world;

pub use cli::main;
pub use desired::{Desired, Object, Wait};
pub use identity::WorkloadIdentity;
pub use inputs::{Inputs, Invalid};
pub use openmcp_reconcile::children::{Adoption, Health, Mode, Wave};
pub use provider::{
    Access, LiveView, ProviderConfig, ServiceApi, ServiceProvider, ServiceStatus, kstatus, rules,
};
