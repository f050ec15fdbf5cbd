//! Events on transitions. Publishing never fails or delays a reconcile: a bounded channel, drained by a task.
use k8s_openapi::api::core::v1::ObjectReference;

/// Publishes Events on one cluster under one reporter name. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {}

/// One Event. `reason` is PascalCase; `note` says what happened to which object (≤ 1,024 bytes, cut if longer).
#[derive(Debug, Clone)]
pub struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub action: &'static str,
    pub note: String,
}

impl Recorder {
    /// A recorder that writes Events of `reporter` (the controller's name) through `client`.
    pub fn new(_client: kube::Client, _reporter: &'static str) -> Self {
        unimplemented!()
    }
    /// Queues an Event about `regarding`; drops it, counted, when the channel is full.
    pub fn publish(&self, _regarding: ObjectReference, _note: Note) {
        unimplemented!()
    }
}
