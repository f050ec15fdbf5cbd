//! The container statuses of one pod: written by its supervisors, read by whoever publishes the pod's status.
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The exit code of a container whose end nobody saw.
const LOST: i32 = 137;

/// Container statuses by name (names are unique over all of a pod's containers).
pub(in crate::node) type Statuses = BTreeMap<String, ContainerStatus>;

/// The board itself; clones are the same board.
#[derive(Clone)]
pub(in crate::node) struct Board(watch::Sender<Statuses>);

impl Board {
    /// The statuses of a pod that this node takes on. What an earlier node left running has ended with it.
    pub(in crate::node) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let recorded = |name: &str| {
            let inits = status.init_container_statuses.iter().flatten();
            let mut all = status.container_statuses.iter().flatten().chain(inits);
            all.find(|status| status.name == name).cloned()
        };
        let waits_for = match spec.init_containers.as_ref().is_some_and(|list| !list.is_empty()) {
            true => "PodInitializing",
            false => "ContainerCreating",
        };
        let inits = spec
            .init_containers
            .iter()
            .flatten()
            .map(|c| (c, "ContainerCreating"));
        let all = inits.chain(spec.containers.iter().map(|c| (c, waits_for)));
        let statuses = all.map(|(container, reason)| {
            let status = match recorded(&container.name) {
                Some(status) => taken_over(status),
                None => fresh(container, reason),
            };
            (container.name.clone(), status)
        });
        Self(watch::channel(statuses.collect()).0)
    }

    pub(in crate::node) fn subscribe(&self) -> watch::Receiver<Statuses> {
        self.0.subscribe()
    }

    pub(in crate::node) fn now(&self) -> Statuses {
        self.0.borrow().clone()
    }

    /// The number of the next start, and the exit code of the last one.
    pub(super) fn past(&self, name: &str) -> (i32, Option<i32>) {
        let statuses = self.0.borrow();
        let Some(status) = statuses.get(name) else {
            return (0, None);
        };
        match last_end(status) {
            Some(end) => (status.restart_count + 1, Some(end.exit_code)),
            None => (status.restart_count, None),
        }
    }

    /// Waiting, and why. A termination before it becomes the last state. Returns whether that is news.
    pub(in crate::node) fn waiting(&self, name: &str, reason: &str, message: Option<String>) -> bool {
        let waiting = ContainerStateWaiting {
            message,
            reason: Some(reason.to_owned()),
        };
        self.change(name, |status| {
            if status.state.as_ref().and_then(|state| state.waiting.as_ref()) == Some(&waiting) {
                return false;
            }
            retire(status);
            status.state = Some(ContainerState {
                waiting: Some(waiting),
                ..ContainerState::default()
            });
            true
        })
    }

    pub(super) fn running(
        &self,
        name: &str,
        attempt: i32,
        since: Timestamp,
        image: &str,
        id: Option<String>,
    ) {
        self.change(name, |status| {
            retire(status);
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(since)),
                }),
                ..ContainerState::default()
            });
            status.restart_count = attempt;
            image.clone_into(&mut status.image_id);
            status.container_id = id;
            status.started = Some(false);
            status.ready = false;
            true
        });
    }

    pub(super) fn terminated(&self, name: &str, attempt: i32, end: ContainerStateTerminated) {
        self.change(name, |status| {
            retire(status);
            status.restart_count = attempt;
            end_with(status, end);
            true
        });
    }

    pub(super) fn started(&self, name: &str) {
        self.change(name, |status| status.started.replace(true) != Some(true));
    }

    pub(super) fn ready(&self, name: &str, ready: bool) {
        self.change(name, |status| {
            std::mem::replace(&mut status.ready, ready) != ready
        });
    }

    /// No container will run any more: whatever waits has ended, or never was.
    pub(in crate::node) fn finish(&self) {
        self.0.send_modify(|statuses| {
            for status in statuses.values_mut() {
                if finished(status).is_none() {
                    let end = last_end(status)
                        .cloned()
                        .unwrap_or_else(|| lost("it was never started"));
                    status.last_state = None;
                    end_with(status, end);
                }
            }
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut ContainerStatus) -> bool) -> bool {
        self.0
            .send_if_modified(|statuses| statuses.get_mut(name).is_some_and(change))
    }
}

/// How a container has ended, if it is in its terminated state.
pub(in crate::node) fn finished(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// The words of a waiting or terminated container.
pub(in crate::node) fn message_of(status: &ContainerStatus) -> Option<&str> {
    let state = status.state.as_ref()?;
    let waiting = state
        .waiting
        .as_ref()
        .and_then(|waiting| waiting.reason.as_deref());
    waiting.or_else(|| state.terminated.as_ref()?.reason.as_deref())
}

fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    finished(status).or_else(|| status.last_state.as_ref()?.terminated.as_ref())
}

/// Moves a termination from the state to the last state.
fn retire(status: &mut ContainerStatus) {
    if let Some(end) = finished(status).cloned() {
        status.last_state = Some(ContainerState {
            terminated: Some(end),
            ..ContainerState::default()
        });
    }
}

fn end_with(status: &mut ContainerStatus, end: ContainerStateTerminated) {
    status.container_id = end.container_id.clone().or(status.container_id.take());
    status.state = Some(ContainerState {
        terminated: Some(end),
        ..ContainerState::default()
    });
    status.ready = false;
    status.started = Some(false);
}

fn fresh(container: &Container, reason: &str) -> ContainerStatus {
    ContainerStatus {
        image: container.image.clone().unwrap_or_default(),
        name: container.name.clone(),
        started: Some(false),
        state: Some(ContainerState {
            waiting: Some(ContainerStateWaiting {
                message: None,
                reason: Some(reason.to_owned()),
            }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

fn taken_over(mut status: ContainerStatus) -> ContainerStatus {
    let running = status.state.as_ref().and_then(|state| state.running.clone());
    if let Some(running) = running {
        let end = ContainerStateTerminated {
            container_id: status.container_id.clone(),
            started_at: running.started_at,
            ..lost("the node was restarted while it ran")
        };
        end_with(&mut status, end);
    }
    status
}

fn lost(why: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: LOST,
        finished_at: Some(Time(Timestamp::now())),
        message: Some(why.to_owned()),
        reason: Some("ContainerStatusUnknown".to_owned()),
        ..ContainerStateTerminated::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "spec": {"containers": [{"name": "main", "image": "i"}]}, "status": status
        }))
        .unwrap()
    }

    fn end(code: i32) -> ContainerStateTerminated {
        ContainerStateTerminated {
            exit_code: code,
            ..ContainerStateTerminated::default()
        }
    }

    #[test]
    fn a_restart_keeps_the_last_end_and_counts() {
        let board = Board::of(&pod(serde_json::Value::Null));
        assert_eq!(board.past("main"), (0, None));
        board.running("main", 0, Timestamp::now(), "id", None);
        board.terminated("main", 0, end(3));
        assert_eq!(board.past("main"), (1, Some(3)));
        assert!(board.waiting("main", "CrashLoopBackOff", None));
        assert!(!board.waiting("main", "CrashLoopBackOff", None), "no news");
        board.running("main", 1, Timestamp::now(), "id", None);
        let status = &board.now()["main"];
        assert_eq!(status.restart_count, 1);
        assert_eq!(last_end(status).unwrap().exit_code, 3);
    }

    #[test]
    fn what_an_earlier_node_left_running_counts_as_ended() {
        let board = Board::of(&pod(serde_json::json!({"containerStatuses": [{
            "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]})));
        assert_eq!(board.past("main"), (3, Some(LOST)));
        assert!(!board.now()["main"].ready);
    }

    #[test]
    fn at_the_end_nothing_waits_any_more() {
        let board = Board::of(&pod(serde_json::Value::Null));
        board.finish();
        assert_eq!(finished(&board.now()["main"]).unwrap().exit_code, LOST);
        let board = Board::of(&pod(serde_json::Value::Null));
        board.terminated("main", 0, end(0));
        board.waiting("main", "CrashLoopBackOff", None);
        board.finish();
        assert_eq!(finished(&board.now()["main"]).unwrap().exit_code, 0);
    }
}
