//! Clusters: from the object to a running API server, and back.
//!
//! Pure: [`address`] (which address), [`pki`] (which certificates), [`desired`] (which objects), [`status`] (what is
//! shown). With effects: [`reconcile`], [`confirm`], [`show`] and [`delete`]. This room knows nothing of AccessRequests, except that their
//! connections end with the Cluster.
pub(crate) mod address;
pub(crate) mod claim;
mod confirm;
mod delete;
pub(crate) mod desired;
pub(crate) mod pki;
pub(crate) mod reconcile;
mod secret;
mod show;
pub(crate) mod status;
