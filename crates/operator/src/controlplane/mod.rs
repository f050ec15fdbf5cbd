//! ControlPlanes (contract §9, §11.3): a tenant's object on the onboarding cluster becomes a namespace, a ClusterRequest
//! and AccessRequests on the platform; kubeconfigs come back as Secrets beside it. Deletion runs backwards and names what
//! it waits for.
//!
//! `desired` builds the objects and `conditions` says how far they are, both purely; `create` and `delete` are the two
//! ways to go, `former` goes the second one for ControlPlanes that are gone. It knows nothing of how a cluster is made, nor of what a service is beyond its kind.
mod access;
mod conditions;
mod create;
mod delete;
mod desired;
mod former;
#[cfg(test)]
mod names;
mod reconcile;
#[cfg(test)]
mod stripped;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod up;

pub(crate) use reconcile::Reconcile;

/// Field manager, event reporter and metric label.
pub(crate) const NAME: &str = "openmcp-controlplane";
