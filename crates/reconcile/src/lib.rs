//! Generic multi-cluster reconciliation: keys, queue, workers, watches over many clusters, server-side
//! apply with an inventory, lease, metrics and the admin server.
//!
//! It knows the Kubernetes API machinery (`kube`) and nothing of openMCP: no openMCP kind, label or
//! finalizer may be named here.
#![warn(missing_docs)]

pub mod admin;
pub mod apply;
mod apply_child;
pub mod children;
pub mod cluster;
pub mod controller;
pub mod digest;
pub mod environment;
pub mod events;
pub mod fault;
#[cfg(test)]
mod fuzz;
mod gate;
pub mod inventory;
pub mod lease;
pub mod log;
pub mod metrics;
mod process;
pub mod queue;
mod raw;
mod request;
pub mod status;
#[cfg(feature = "telemetry")]
pub mod telemetry;
mod text;
pub mod watch;

pub use controller::{Controller, Handle, Key, Limits, Named, Outcome, Reconciler};
pub use environment::Environment;
pub use fault::Fault;
pub use queue::Lane;
