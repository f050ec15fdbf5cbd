//! The generic part of access to clusters (contract §7): finds out which Cluster an AccessRequest is about and which
//! ClusterProvider serves it, hands it to that one by labels and phase, and ends it when its time is over.
//!
//! `plan` decides, purely; `reconcile` is the effects. It issues no credentials and never talks to the cluster itself.
mod plan;
mod reconcile;
#[cfg(test)]
mod tests;

pub(crate) use reconcile::Access;

/// Field manager, event reporter and metric label.
pub(crate) const NAME: &str = "openmcp-access";
