//! The apply engine (runtime design §3): server-side apply with ownership decided before force is used.
//!
//! [`upsert`] is for objects that a controller makes on its own cluster under names that only it uses; children
//! of tenants go through [`crate::children`] and the inventory.
use crate::Fault;
use serde_json::Value;

/// What a DELETE came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// A GET answered 404 or another UID: the object is gone.
    Gone,
    /// The object still exists (finalizers, graceful deletion).
    Waiting,
}

/// Who an object belongs to, as marked by a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub label: &'static str,
    pub value: String,
}

/// Applies `object` (apiVersion, kind, metadata.name required) with `manager` and makes sure that it is ours:
/// first with force=false; 201 is ours; 200/409 is ours only if the live object already bore `mark` (then force
/// is used), else a `Conflict` fault names the foreign object and nothing is changed. The mark is added to the
/// object's labels. Returns the live object.
pub async fn upsert(
    _client: &kube::Client,
    _manager: &str,
    _mark: &Mark,
    _object: Value,
) -> Result<Value, Fault> {
    unimplemented!()
}

/// Deletes by UID precondition, Background propagation, and tells by a GET whether it is gone. Another UID under
/// the name, or no object, is `Gone`.
pub async fn delete(
    _client: &kube::Client,
    _api_version: &str,
    _kind: &str,
    _namespace: Option<&str>,
    _name: &str,
    _uid: &str,
) -> Result<Deletion, Fault> {
    unimplemented!()
}
