//! Writes a pod's status: the newest one, one write at a time, until it is there or the pod is gone.
use crate::node::{MANAGER, Node, call};
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The writer of one pod's status. Dropping it gives up; [`Publisher::flush`] waits for the last write.
pub(super) struct Publisher {
    wanted: watch::Sender<Option<PodStatus>>,
    task: JoinHandle<()>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    pub(super) fn start(node: &Arc<Node>, pod: &Pod) -> Self {
        let (wanted, inbox) = watch::channel(None);
        let metadata = ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            // A precondition: another pod of this name is not touched.
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::namespaced(node.client.clone(), namespace);
        let task = tokio::spawn(write(api, metadata, inbox));
        Self { wanted, task }
    }

    /// Publishes a status if it says anything new.
    pub(super) fn publish(&self, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let news = wanted.as_ref() != Some(&status);
            *wanted = Some(status);
            news
        });
    }

    /// What was published last.
    pub(super) fn last(&self) -> Option<PodStatus> {
        self.wanted.borrow().clone()
    }

    /// Waits until everything that was published is written, or the pod is gone.
    pub(super) async fn flush(mut self) {
        // The task ends once its inbox is closed and empty.
        let (closed, _) = watch::channel(None);
        drop(std::mem::replace(&mut self.wanted, closed));
        let _ = (&mut self.task).await;
    }
}

async fn write(api: Api<Pod>, metadata: ObjectMeta, mut inbox: watch::Receiver<Option<PodStatus>>) {
    let params = PatchParams::apply(MANAGER).force();
    let name = metadata.name.clone().unwrap_or_default();
    while inbox.changed().await.is_ok() {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(status) = inbox.borrow_and_update().clone() else {
                break;
            };
            let pod = Pod {
                metadata: metadata.clone(),
                status: Some(status),
                ..Pod::default()
            };
            match call(api.patch_status(&name, &params, &Patch::Apply(&pod))).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => return,
                Err(error) if error.is_conflict() && replaced(&api, &metadata).await => return,
                Err(error) => {
                    tracing::warn!(%error, pod = name, "a pod's status cannot be written; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Whether the pod of this UID is gone, and the name free or another pod's.
pub(super) async fn replaced(api: &Api<Pod>, metadata: &ObjectMeta) -> bool {
    let name = metadata.name.as_deref().unwrap_or_default();
    match call(api.get_metadata_opt(name)).await {
        Ok(live) => live.is_none_or(|live| live.metadata.uid != metadata.uid),
        Err(_) => false,
    }
}
