//! The status of a pod, computed from its containers. Pure.
use crate::node::container::{Statuses, finished};
use k8s_openapi::{
    api::core::v1::{ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use std::net::Ipv4Addr;

/// Why a pod fails although no container says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) message: String,
}

/// All that the status depends on.
pub(super) struct Inputs<'a> {
    pub(super) pod: &'a Pod,
    pub(super) statuses: &'a Statuses,
    /// What this node last published, for transition times.
    pub(super) before: Option<&'a PodStatus>,
    pub(super) host_ip: Ipv4Addr,
    /// `None` for a pod that was refused before it got an address.
    pub(super) pod_ip: Option<Ipv4Addr>,
    /// Whether volumes and address are there.
    pub(super) sandbox_ready: bool,
    /// No container runs any more, and none will.
    pub(super) over: bool,
    pub(super) failure: Option<&'a Failure>,
    pub(super) now: Timestamp,
}

/// The status as this node owns it: the scheduler's and other people's conditions are not in it.
pub(super) fn compute(inputs: &Inputs<'_>) -> PodStatus {
    let spec = inputs.pod.spec.clone().unwrap_or_default();
    let list = |containers: &[k8s_openapi::api::core::v1::Container]| -> Vec<ContainerStatus> {
        let names = containers.iter().map(|container| &container.name);
        names
            .filter_map(|name| inputs.statuses.get(name).cloned())
            .collect()
    };
    let inits = list(spec.init_containers.as_deref().unwrap_or_default());
    let mains = list(&spec.containers);
    let phase = phase(inputs, spec.restart_policy.as_deref(), &inits, &mains);
    let ip = inputs.pod_ip.map(|ip| ip.to_string());
    PodStatus {
        conditions: Some(conditions(inputs, phase, &inits, &mains)),
        container_statuses: (!mains.is_empty()).then_some(mains),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        host_ip: Some(inputs.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: inputs.host_ip.to_string(),
        }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        message: inputs.failure.map(|failure| failure.message.clone()),
        reason: inputs.failure.map(|failure| failure.reason.clone()),
        observed_generation: inputs.pod.metadata.generation,
        phase: Some(phase.to_owned()),
        start_time: inputs
            .before
            .and_then(|before| before.start_time.clone())
            .or(Some(Time(inputs.now))),
        ..PodStatus::default()
    }
}

/// The kubelet's rule, with one simplification: what has not ended is either waiting or running.
fn phase(
    inputs: &Inputs<'_>,
    policy: Option<&str>,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
) -> &'static str {
    if inputs.failure.is_some() {
        return "Failed";
    }
    let failed_init = inits
        .iter()
        .any(|status| matches!(end_code(status), Some(code) if code != 0));
    if inputs.over {
        let all_well = !failed_init && mains.iter().all(|status| end_code(status) == Some(0));
        return if all_well { "Succeeded" } else { "Failed" };
    }
    if failed_init && policy == Some("Never") {
        return "Failed";
    }
    let initialized = inits.iter().all(|status| end_code(status) == Some(0));
    let seen = |status: &ContainerStatus| has_run(status) || is_running(status);
    if !initialized || !mains.iter().all(seen) {
        return "Pending";
    }
    let ended = mains.iter().all(|status| finished(status).is_some());
    match policy {
        Some("Never") if ended && mains.iter().any(|status| end_code(status) != Some(0)) => "Failed",
        Some("Never" | "OnFailure") if mains.iter().all(|status| end_code(status) == Some(0)) => "Succeeded",
        _ => "Running",
    }
}

fn end_code(status: &ContainerStatus) -> Option<i32> {
    finished(status).map(|end| end.exit_code)
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn has_run(status: &ContainerStatus) -> bool {
    let last = status.last_state.as_ref();
    finished(status).is_some() || last.is_some_and(|state| state.terminated.is_some())
}

/// A condition before it gets its times: type, status, reason and message where it is not true.
type Verdict = (&'static str, bool, Option<(&'static str, String)>);

fn conditions(
    inputs: &Inputs<'_>,
    phase: &str,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
) -> Vec<PodCondition> {
    let initialized = inits.iter().all(|status| end_code(status) == Some(0));
    let unready: Vec<&str> = mains
        .iter()
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    let gates = missing_gates(inputs.pod);
    let why_unready = || match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ => Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )),
    };
    let why_uninitialized = || {
        let open: Vec<&str> = inits
            .iter()
            .filter(|status| end_code(status) != Some(0))
            .map(|status| status.name.as_str())
            .collect();
        Some((
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", open.join(" ")),
        ))
    };
    let all_ready = unready.is_empty() && !matches!(phase, "Succeeded" | "Failed");
    let ready_why = match all_ready {
        false => why_unready(),
        true => Some((
            "ReadinessGatesNotReady",
            format!("readiness gates not true: [{}]", gates.join(" ")),
        )),
    };
    let verdicts: [Verdict; 4] = [
        (
            "PodReadyToStartContainers",
            inputs.sandbox_ready && !inputs.over,
            None,
        ),
        ("Initialized", initialized, why_uninitialized()),
        ("ContainersReady", all_ready, why_unready()),
        ("Ready", all_ready && gates.is_empty(), ready_why),
    ];
    verdicts
        .into_iter()
        .map(|verdict| condition(inputs, verdict))
        .collect()
}

fn condition(inputs: &Inputs<'_>, (type_, status, why): Verdict) -> PodCondition {
    let status = if status { "True" } else { "False" };
    let why = why.filter(|_| status == "False");
    let before = inputs.before.and_then(|before| before.conditions.as_ref());
    let before = before.and_then(|all| all.iter().find(|condition| condition.type_ == type_));
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone());
    PodCondition {
        last_transition_time: since.or(Some(Time(inputs.now))),
        message: why
            .as_ref()
            .map(|(_, text)| text.clone())
            .filter(|text| !text.is_empty()),
        observed_generation: inputs.pod.metadata.generation,
        reason: why.map(|(reason, _)| reason.to_owned()),
        status: status.to_owned(),
        type_: type_.to_owned(),
        ..PodCondition::default()
    }
}

fn missing_gates(pod: &Pod) -> Vec<String> {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_true = |type_: &str| {
        let mut all = conditions.into_iter().flatten();
        all.any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    gates
        .map(|gate| gate.condition_type.clone())
        .filter(|type_| !is_true(type_))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn pod(policy: &str, inits: usize) -> Pod {
        let inits: Vec<Value> = (0..inits).map(|n| json!({"name": format!("init-{n}")})).collect();
        serde_json::from_value(json!({
            "metadata": {"generation": 3},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}], "initContainers": inits}
        }))
        .unwrap()
    }

    fn statuses(all: &[(&str, Value)]) -> Statuses {
        let status = |name: &str, given: &Value| {
            let mut value =
                json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0});
            let fields = given.as_object().unwrap().clone();
            value.as_object_mut().unwrap().extend(fields);
            serde_json::from_value(value).unwrap()
        };
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), status(name, value)))
            .collect()
    }

    fn computed(pod: &Pod, statuses: &Statuses, over: bool, before: Option<&PodStatus>) -> PodStatus {
        compute(&Inputs {
            pod,
            statuses,
            before,
            host_ip: Ipv4Addr::new(127, 9, 0, 1),
            pod_ip: Some(Ipv4Addr::new(127, 9, 16, 1)),
            sandbox_ready: true,
            over,
            failure: None,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        })
    }

    fn ended(code: i32) -> Value {
        json!({"state": {"terminated": {"exitCode": code}}})
    }

    fn crashed() -> Value {
        json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}})
    }

    fn up(ready: bool) -> Value {
        json!({"state": {"running": {}}, "ready": ready})
    }

    fn waiting() -> Value {
        json!({"state": {"waiting": {"reason": "ContainerCreating"}}})
    }

    #[test]
    fn the_phase_follows_the_containers_and_the_policy() {
        let cases = [
            ("Always", waiting(), waiting(), false, "Pending"),
            ("Always", up(true), waiting(), false, "Pending"),
            ("Always", up(true), up(false), false, "Running"),
            ("Always", crashed(), up(true), false, "Running"),
            ("Always", ended(0), ended(0), false, "Running"),
            ("Always", ended(0), ended(0), true, "Succeeded"),
            ("Always", ended(0), ended(143), true, "Failed"),
            ("OnFailure", ended(0), ended(0), false, "Succeeded"),
            ("OnFailure", ended(0), ended(1), false, "Running"),
            ("Never", ended(0), up(true), false, "Running"),
            ("Never", ended(1), up(true), false, "Running"),
            ("Never", ended(0), ended(1), false, "Failed"),
            ("Never", ended(0), ended(0), false, "Succeeded"),
        ];
        for (policy, a, b, over, expected) in cases {
            let status = computed(
                &pod(policy, 0),
                &statuses(&[("a", a.clone()), ("b", b.clone())]),
                over,
                None,
            );
            assert_eq!(status.phase.as_deref(), Some(expected), "{policy} {a} {b} {over}");
        }
    }

    #[test]
    fn init_containers_hold_the_pod_back_and_fail_it_only_without_restarts() {
        let all = |init: Value| statuses(&[("init-0", init), ("a", waiting()), ("b", waiting())]);
        let phase =
            |policy: &str, init: Value| computed(&pod(policy, 1), &all(init), false, None).phase.unwrap();
        assert_eq!(phase("Never", up(false)), "Pending");
        assert_eq!(phase("OnFailure", crashed()), "Pending");
        assert_eq!(phase("Never", ended(2)), "Failed");
        let status = computed(&pod("Never", 1), &all(ended(0)), false, None);
        let conditions = status.conditions.unwrap();
        let initialized = conditions.iter().find(|c| c.type_ == "Initialized").unwrap();
        assert_eq!(initialized.status, "True");
    }

    fn ready(status: &PodStatus) -> PodCondition {
        let mut conditions = status.conditions.iter().flatten();
        conditions
            .find(|condition| condition.type_ == "Ready")
            .unwrap()
            .clone()
    }

    #[test]
    fn ready_needs_every_container_and_keeps_its_time_while_it_does_not_change() {
        let pod = pod("Always", 0);
        let half = computed(&pod, &statuses(&[("a", up(true)), ("b", up(false))]), false, None);
        let condition = ready(&half);
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_deref()),
            ("False", Some("ContainersNotReady"))
        );
        assert!(condition.message.unwrap().contains("[b]"));
        let mut earlier = half.clone();
        for condition in earlier.conditions.iter_mut().flatten() {
            condition.last_transition_time = Some(Time("2025-01-01T00:00:00Z".parse().unwrap()));
        }
        let all = statuses(&[("a", up(true)), ("b", up(false))]);
        let again = computed(&pod, &all, false, Some(&earlier));
        assert_eq!(
            ready(&again).last_transition_time,
            ready(&earlier).last_transition_time
        );
        let all = statuses(&[("a", up(true)), ("b", up(true))]);
        let whole = computed(&pod, &all, false, Some(&earlier));
        assert_eq!(ready(&whole).status, "True");
        assert_ne!(
            ready(&whole).last_transition_time,
            ready(&earlier).last_transition_time
        );
        assert_eq!(whole.observed_generation, Some(3));
    }

    #[test]
    fn readiness_gates_are_other_peoples_conditions() {
        let mut pod = pod("Always", 0);
        pod.spec.as_mut().unwrap().readiness_gates =
            serde_json::from_value(json!([{"conditionType": "example.org/x"}])).unwrap();
        let all = statuses(&[("a", up(true)), ("b", up(true))]);
        assert_eq!(
            ready(&computed(&pod, &all, false, None)).reason.as_deref(),
            Some("ReadinessGatesNotReady")
        );
        pod.status =
            serde_json::from_value(json!({"conditions": [{"type": "example.org/x", "status": "True"}]}))
                .unwrap();
        assert_eq!(ready(&computed(&pod, &all, false, None)).status, "True");
    }
}
