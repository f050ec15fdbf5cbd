//! AccessRequests: from the object to a kubeconfig Secret, and back.
//!
//! Pure: [`plan`] (which objects on the target), [`token`] (is the issued token still the right one). With effects:
//! [`target`] (connections and watches, one set a cluster), [`resolve`] (which of them), [`reconcile`] and [`delete`].
mod delete;
mod plan;
pub(crate) mod reconcile;
mod resolve;
mod status;
pub(crate) mod target;
mod token;
