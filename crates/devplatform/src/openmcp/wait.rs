//! Waiting for an object by a watch, with a bound; when it is reached, the object itself says what is missing.
use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::wait::await_condition};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, time::Duration};
use tokio::time::timeout;

/// A part of openMCP that is not ready after this will not be.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `ready` says so, also while the object does not exist yet.
pub(super) async fn wait_for<K>(api: &Api<K>, name: &str, ready: impl Fn(&K) -> bool) -> anyhow::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let kind = K::kind(&());
    let condition = |object: Option<&K>| object.is_some_and(&ready);
    if let Ok(object) = timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        return object?.with_context(|| format!("{kind} {name} was deleted meanwhile"));
    }
    let object = api.get_opt(name).await?.map(serde_json::to_value).transpose()?;
    let object = object.map_or_else(|| "it does not exist".to_owned(), |object| describe(&object));
    let pods = Api::<Pod>::all(api.clone().into_client())
        .list(&ListParams::default())
        .await?;
    let pods: Vec<String> = pods.iter().filter_map(trouble).collect();
    bail!(
        "{kind} {name} is not ready after {} s: {object}{}; `openmcp dev logs` shows what the pods say",
        PATIENCE.as_secs(),
        pods.iter().map(|pod| format!("; {pod}")).collect::<String>()
    )
}

/// Why a pod does not run, if it does not.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|it| it.type_ == "Ready" && it.status == "True");
    if ready || status.phase.as_deref() == Some("Succeeded") {
        return None;
    }
    let containers = status.container_statuses.unwrap_or_default();
    let why = containers.into_iter().find_map(|container| {
        let state = container.state?;
        let waiting = state.waiting.map(|it| (it.reason, it.message));
        let (reason, message) = waiting.or_else(|| state.terminated.map(|it| (it.reason, it.message)))?;
        Some(format!(
            " {} {}",
            reason.unwrap_or_default(),
            message.unwrap_or_default()
        ))
    });
    let namespace = pod.namespace().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    Some(
        format!(
            "pod {namespace}/{} is {phase}{}",
            pod.name_any(),
            why.unwrap_or_default()
        )
        .trim_end()
        .to_owned(),
    )
}

/// Phase, and each condition that is not True with its reason and message.
fn describe(object: &Value) -> String {
    let status = &object["status"];
    let mut parts = vec![format!("phase {}", status["phase"].as_str().unwrap_or("not set"))];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let field = |name: &str| condition[name].as_str().unwrap_or_default();
        if field("status") != "True" {
            parts.push(format!(
                "{} is {} ({}: {})",
                field("type"),
                field("status"),
                field("reason"),
                field("message")
            ));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_that_is_not_ready_is_described_by_its_phase_and_its_unmet_conditions() {
        let object = json!({"status": {"phase": "Progressing", "conditions": [
            {"type": "Initialized", "status": "True", "reason": "InitCompleted", "message": ""},
            {"type": "Ready", "status": "False", "reason": "ProviderNotReady", "message": "no pod is ready"},
        ]}});
        assert_eq!(
            describe(&object),
            "phase Progressing; Ready is False (ProviderNotReady: no pod is ready)"
        );
        assert_eq!(describe(&json!({})), "phase not set");
    }

    #[test]
    fn a_pod_in_trouble_says_why_and_a_healthy_one_says_nothing() {
        let pod = |status| {
            serde_json::from_value::<Pod>(
                json!({"metadata": {"namespace": "n", "name": "p"}, "status": status}),
            )
        };
        let waiting = json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
        }]});
        let told = pod(waiting).map(|pod| trouble(&pod));
        assert_eq!(
            told.ok().flatten().as_deref(),
            Some("pod n/p is Running CrashLoopBackOff back-off 20s")
        );
        assert_eq!(
            pod(json!({"phase": "Succeeded"}))
                .ok()
                .and_then(|pod| trouble(&pod)),
            None
        );
    }
}
