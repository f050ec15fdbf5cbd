//! The order in which a pod's containers live: volumes first, init containers one by one, then all others together.
use super::{PodContext, PodView};
use crate::node::{
    container::{Board, Logs, Role, StopAt, Supervisor, finished, stopped},
    content::VolumesReady,
    events::Subject,
    objects::Subscriptions,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{collections::BTreeMap, sync::Arc};

/// All that the containers of one pod need.
pub(super) struct Life {
    pub(super) context: Arc<PodContext>,
    pub(super) view: PodView,
    pub(super) board: Board,
    pub(super) objects: Subscriptions,
    pub(super) logs: BTreeMap<String, Arc<Logs>>,
    pub(super) volumes: VolumesReady,
    pub(super) stop: StopAt,
}

impl Life {
    /// Returns when no container runs any more and none will be started.
    pub(super) async fn run(mut self) {
        let Some(pod) = self.view.borrow().clone() else {
            return;
        };
        let spec = pod.spec.clone().unwrap_or_default();
        let inits = spec.init_containers.unwrap_or_default();
        if !self
            .prepared(&pod, inits.first().or(spec.containers.first()))
            .await
        {
            return;
        }
        for container in &inits {
            self.supervise(Role::Init, container).await;
            let statuses = self.board.now();
            let end = statuses.get(&container.name).and_then(finished);
            if end.is_none_or(|end| end.exit_code != 0) || self.stop.borrow().is_some() {
                return;
            }
        }
        let mains = spec.containers.iter();
        futures::future::join_all(mains.map(|container| self.supervise(Role::Main, container))).await;
    }

    /// Waits for the first answers about objects and for the volumes; false if the pod is to stop first.
    async fn prepared(&mut self, pod: &Pod, first: Option<&Container>) -> bool {
        let mut stop = self.stop.clone();
        let ready = async {
            self.objects.known().await;
            loop {
                let state = self.volumes.borrow_and_update().clone();
                match state {
                    Some(Ok(())) => return,
                    Some(Err(problem)) => {
                        if let Some(container) = first {
                            let reason = "ContainerCreating";
                            self.board.waiting(&container.name, reason, Some(problem.clone()));
                        }
                        self.context
                            .node
                            .events
                            .warning(Subject::pod(pod), "FailedMount", problem);
                    }
                    None => {}
                }
                if self.volumes.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            _ = stopped(&mut stop) => false,
            () = ready => true,
        }
    }

    async fn supervise(&self, role: Role, container: &Container) {
        let Some(logs) = self.logs.get(&container.name) else {
            self.board.waiting(
                &container.name,
                "CreateContainerError",
                Some("its logs cannot be kept: the node's disk is not writable".to_owned()),
            );
            return;
        };
        let supervisor = Supervisor {
            pod: self.context.clone(),
            view: self.view.clone(),
            role,
            name: container.name.clone(),
            objects: self.objects.clone(),
            logs: logs.clone(),
            board: self.board.clone(),
            stop: self.stop.clone(),
        };
        supervisor.run().await;
    }
}
