//! Events on pods. Nothing waits for them and nothing fails by them.
use super::CALL_DEADLINE;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Where the node tells what it does.
#[derive(Clone)]
pub(super) struct Events {
    recorder: Recorder,
}

/// What an Event is about. Events about different containers are not counted as one.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pod: &'a Pod,
    container: Option<&'a str>,
}

impl<'a> Subject<'a> {
    pub(super) fn pod(pod: &'a Pod) -> Self {
        Self { pod, container: None }
    }

    pub(super) fn container(pod: &'a Pod, name: &'a str) -> Self {
        Self {
            pod,
            container: Some(name),
        }
    }
}

impl Events {
    pub(super) fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: super::MANAGER.to_owned(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Something that is as it should be.
    pub(super) fn normal(&self, subject: Subject<'_>, reason: &'static str, note: impl Into<String>) {
        self.publish(EventType::Normal, subject, reason, note.into());
    }

    /// Something that somebody should look at.
    pub(super) fn warning(&self, subject: Subject<'_>, reason: &'static str, note: impl Into<String>) {
        self.publish(EventType::Warning, subject, reason, note.into());
    }

    fn publish(&self, type_: EventType, subject: Subject<'_>, reason: &'static str, mut note: String) {
        // The API server refuses more than 1,024 bytes.
        while note.len() > 1_000 {
            note.pop();
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        let reference = ObjectReference {
            field_path: subject.container.map(|name| format!("spec.containers{{{name}}}")),
            ..subject.pod.object_ref(&())
        };
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            let published = tokio::time::timeout(CALL_DEADLINE, recorder.publish(&event, &reference)).await;
            if let Ok(Err(error)) = published {
                tracing::debug!(%error, reason, "an event was lost");
            }
        });
    }
}
