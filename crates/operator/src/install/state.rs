//! How far an installation is, read from the last seen Job, Deployment and pods: pure.
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;
use openmcp_api::keys::annotations;
use std::{sync::Arc, time::Duration};

/// How far the init part is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// There is no Job and no pod of one: it can be created.
    Absent,
    /// A deleted Job, or pods of one, are still there: a new one would be mixed up with it.
    Leaving,
    /// The Job is another generation's.
    Outdated,
    /// The Job runs; `problem` is what its pods complain of.
    Running {
        problem: Option<String>,
    },
    /// The Job gave up at `at`.
    Failed {
        at: Option<Timestamp>,
        problem: String,
    },
    Succeeded,
}

/// Reads the init part of the generation. `pods` are the pods of this provider's init Jobs.
pub(super) fn init(job: Option<&Job>, pods: &[Arc<Pod>], generation: i64) -> Init {
    let Some(job) = job else {
        return if pods.is_empty() {
            Init::Absent
        } else {
            Init::Leaving
        };
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Init::Leaving;
    }
    if job.annotations().get(annotations::PROVIDER_GENERATION) != Some(&generation.to_string()) {
        return Init::Outdated;
    }
    let status = job.status.as_ref();
    if status.and_then(|s| s.succeeded).unwrap_or_default() > 0 {
        return Init::Succeeded;
    }
    let problem = problem(pods);
    let failed = status
        .and_then(|s| s.conditions.as_ref())
        .and_then(|all| all.iter().find(|c| c.type_ == "Failed" && c.status == "True"));
    match failed {
        Some(condition) => Init::Failed {
            at: condition.last_transition_time.as_ref().map(|t| t.0),
            problem: problem
                .or_else(|| condition.message.clone())
                .unwrap_or_else(|| "the Job failed without a message".to_owned()),
        },
        None => Init::Running { problem },
    }
}

/// How long a failed init rests before it is started again: half as long as it has been failing so far.
pub(super) fn rest(failing_since: Timestamp, failed_at: Timestamp) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(600);
    let failing = Duration::try_from(failed_at.duration_since(failing_since)).unwrap_or_default();
    (failing / 2).clamp(SHORTEST, LONGEST)
}

/// How far the run part is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    Absent,
    NotReady(String),
    Ready,
}

/// Reads the run part. `pods` are the pods of this provider's Deployment.
pub(super) fn run(deployment: Option<&Deployment>, pods: &[Arc<Pod>]) -> Run {
    let Some(deployment) = deployment else {
        return Run::Absent;
    };
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let available = status.available_replicas.unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    if current && status.updated_replicas.unwrap_or_default() >= wanted && available >= wanted {
        return Run::Ready;
    }
    let mut message = format!("{available} of {wanted} replicas are available");
    if let Some(problem) = problem(pods) {
        message = format!("{message}; {problem}");
    }
    Run::NotReady(message)
}

/// What the newest pod that has something to complain of complains of.
fn problem(pods: &[Arc<Pod>]) -> Option<String> {
    let mut newest: Vec<_> = pods.iter().collect();
    newest.sort_by_key(|p| std::cmp::Reverse(p.metadata.creation_timestamp.as_ref().map(|t| t.0)));
    newest.into_iter().find_map(|pod| pod_problem(pod))
}

fn pod_problem(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(container_problem);
    if let Some(problem) = container {
        return Some(format!("pod {name}: {problem}"));
    }
    let unmet = status.conditions.iter().flatten().find(|c| {
        c.status == "False"
            && c.message.as_ref().is_some_and(|m| !m.is_empty())
            && matches!(
                c.type_.as_str(),
                "PodScheduled" | "PodReadyToStartContainers" | "Initialized"
            )
    });
    if let Some(condition) = unmet {
        return Some(format!(
            "pod {name}: {}: {}",
            condition.reason.as_deref().unwrap_or(&condition.type_),
            condition.message.as_deref()?
        ));
    }
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        return Some(format!(
            "pod {name}: {reason}: {}",
            status.message.as_deref().unwrap_or("no message")
        ));
    }
    None
}

fn container_problem(container: &ContainerStatus) -> Option<String> {
    let name = &container.name;
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let exit = last
            .map(|t| format!(" (last exit code {})", t.exit_code))
            .unwrap_or_default();
        return Some(format!(
            "container {name} is waiting: {reason}: {}{exit}",
            waiting.message.as_deref().unwrap_or("no message")
        ));
    }
    let ended = state.terminated.as_ref().filter(|t| t.exit_code != 0)?;
    let message = ended
        .message
        .as_deref()
        .filter(|m| !m.is_empty())
        .map(|m| format!(": {}", m.trim()))
        .unwrap_or_default();
    Some(format!(
        "container {name} exited with code {}{message}",
        ended.exit_code
    ))
}
