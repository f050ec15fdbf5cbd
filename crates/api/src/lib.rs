//! The openMCP objects: kinds, labels, annotations, finalizers, conditions and the rules by which objects are
//! named. What is on the wire is the contract that Go and Rust implementations share.
//!
//! Everything here is data and pure functions: no client, no clock, no I/O.
//!
//! ```
//! use openmcp_api::names;
//!
//! // The platform namespace of the ControlPlane `foo` in the onboarding namespace `foo`.
//! assert_eq!(names::control_plane_namespace("foo", "foo"), "mcp--ed00e8ed-8a09-8c62-a9b8-e6fc20255174");
//! ```
#![allow(
    clippy::duplicated_attributes,
    reason = "several `printcolumn(…)` of one kind have keys in common, which the lint takes for duplicates"
)]

pub mod clusters;
pub mod common;
pub mod conditions;
pub mod control_plane;
pub mod crds;
pub mod duration;
pub mod inventory;
pub mod keys;
pub mod names;
pub mod provider;
pub mod schema;

pub use clusters::{AccessRequest, Cluster, ClusterProfile, ClusterRequest};
pub use control_plane::ControlPlane;
pub use inventory::Inventory;
pub use provider::{ClusterProvider, PlatformService, ServiceProvider};
