//! The scheduler: gives each ClusterRequest a Cluster that serves its purpose (contract §6).
//!
//! `plan` decides, purely; `view` is what it decides on; `reconcile` is the effects. The scheduler claims a Cluster by a
//! finalizer that names the request, guarded by the Cluster's resourceVersion, so that two requests (or two schedulers)
//! never take the same last slot. It keeps nothing in memory that correctness needs. It does not know how clusters are
//! made, nor how access to them is granted.
mod plan;
#[cfg(test)]
mod race;
mod reconcile;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use reconcile::Schedule;
pub(crate) use view::OwnWrites;

/// Field manager, event reporter and metric label.
pub(crate) const NAME: &str = "openmcp-scheduler";
