//! The health of a live object, by the rules of kstatus.
//!
//! Knows the status conventions of Kubernetes; knows nothing of who made the object.
use serde_json::Value;

/// How an object is doing. Texts are short, for a condition's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is as its spec wants it.
    Ready,
    /// It is on its way.
    Progressing(Box<str>),
    /// It says itself that it cannot get there.
    Failed(Box<str>),
    /// It is being deleted.
    Terminating,
}

impl Health {
    /// Whether it is [`Health::Ready`].
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// The health of `body`, a live object of `kind`.
pub(super) fn health(kind: &str, body: &Value) -> Health {
    if !body["metadata"]["deletionTimestamp"].is_null() {
        return Health::Terminating;
    }
    let (spec, status) = (&body["spec"], &body["status"]);
    let generation = body["metadata"]["generation"].as_i64();
    if let (Some(generation), Some(observed)) = (generation, status["observedGeneration"].as_i64())
        && observed < generation
    {
        return progressing("its newest spec has not been read yet");
    }
    match kind {
        "Deployment" => deployment(spec, status),
        "StatefulSet" | "ReplicaSet" => replicas(spec, status),
        "DaemonSet" => daemon_set(status),
        "Job" => job(status),
        "Pod" => pod(status),
        "Namespace" => phase(status, "Active"),
        "PersistentVolumeClaim" => phase(status, "Bound"),
        "CustomResourceDefinition" => definition(status),
        _ => by_conditions(status),
    }
}

/// What holds an object that is being deleted: its finalizers, and what a namespace says of its content.
pub(super) fn holders<'a>(kind: &str, body: &'a Value) -> impl Iterator<Item = &'a str> {
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let said = match kind {
        "Namespace" => &body["status"]["conditions"],
        _ => &Value::Null,
    };
    let problems = list(said).filter(|condition| condition["status"] == "True");
    list(&body["metadata"]["finalizers"])
        .filter_map(Value::as_str)
        .chain(problems.filter_map(|condition| condition["message"].as_str()))
}

fn progressing(why: impl Into<Box<str>>) -> Health {
    Health::Progressing(why.into())
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    status["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == type_)
}

fn is_true(status: &Value, type_: &str) -> bool {
    condition(status, type_).is_some_and(|condition| condition["status"] == "True")
}

fn message(condition: &Value) -> Box<str> {
    let text = |field: &str| condition[field].as_str().filter(|text| !text.is_empty());
    text("message")
        .or_else(|| text("reason"))
        .unwrap_or("no message")
        .into()
}

fn deployment(spec: &Value, status: &Value) -> Health {
    if status["observedGeneration"].is_null() {
        return progressing("its controller has not seen it yet");
    }
    if let Some(stuck) =
        condition(status, "Progressing").filter(|c| c["reason"] == "ProgressDeadlineExceeded")
    {
        return Health::Failed(message(stuck));
    }
    if let Some(failure) = condition(status, "ReplicaFailure").filter(|c| c["status"] == "True") {
        return Health::Failed(message(failure));
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    if count("updatedReplicas") < wanted {
        return progressing(format!(
            "{} of {wanted} pods are up to date",
            count("updatedReplicas")
        ));
    }
    if count("replicas") > wanted {
        return progressing(format!(
            "{} old pods are still ending",
            count("replicas") - wanted
        ));
    }
    if count("availableReplicas") < wanted {
        return progressing(format!(
            "{} of {wanted} pods are available",
            count("availableReplicas")
        ));
    }
    Health::Ready
}

fn replicas(spec: &Value, status: &Value) -> Health {
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let ready = status["readyReplicas"].as_i64().unwrap_or(0);
    if ready < wanted {
        progressing(format!("{ready} of {wanted} pods are ready"))
    } else {
        Health::Ready
    }
}

fn daemon_set(status: &Value) -> Health {
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let (wanted, ready) = (count("desiredNumberScheduled"), count("numberReady"));
    if status["observedGeneration"].is_null() {
        progressing("its controller has not seen it yet")
    } else if ready < wanted || count("updatedNumberScheduled") < wanted {
        progressing(format!("{ready} of {wanted} pods are ready"))
    } else {
        Health::Ready
    }
}

fn job(status: &Value) -> Health {
    if let Some(failed) = condition(status, "Failed").filter(|c| c["status"] == "True") {
        return Health::Failed(message(failed));
    }
    if is_true(status, "Complete") {
        Health::Ready
    } else {
        progressing("the job is running")
    }
}

fn pod(status: &Value) -> Health {
    match status["phase"].as_str() {
        Some("Succeeded") => Health::Ready,
        Some("Failed") => Health::Failed(message(status)),
        _ if is_true(status, "Ready") => Health::Ready,
        _ => progressing("the pod is not ready"),
    }
}

fn phase(status: &Value, ready: &str) -> Health {
    match status["phase"].as_str() {
        Some(phase) if phase == ready => Health::Ready,
        Some(phase) => progressing(format!("its phase is {phase}")),
        None => progressing("it has no phase yet"),
    }
}

fn definition(status: &Value) -> Health {
    if let Some(refused) = condition(status, "NamesAccepted").filter(|c| c["status"] == "False") {
        return Health::Failed(message(refused));
    }
    if is_true(status, "Established") {
        Health::Ready
    } else {
        progressing("it is not established yet")
    }
}

/// The generic rule: Stalled and Reconciling are abnormal when True, Ready is normal when True, and an object
/// that says nothing is ready.
fn by_conditions(status: &Value) -> Health {
    if let Some(stalled) = condition(status, "Stalled").filter(|c| c["status"] == "True") {
        return Health::Failed(message(stalled));
    }
    if let Some(working) = condition(status, "Reconciling").filter(|c| c["status"] == "True") {
        return progressing(message(working));
    }
    match condition(status, "Ready") {
        Some(ready) if ready["status"] != "True" => progressing(message(ready)),
        _ => Health::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(status: Value) -> Health {
        health(
            "Deployment",
            &json!({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}),
        )
    }

    #[test]
    fn a_namespace_is_held_by_what_it_says_of_its_content() {
        let body = json!({"metadata": {"finalizers": ["a"]}, "status": {"conditions": [
            {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "x in 1 resource instances"},
            {"type": "NamespaceDeletionContentFailure", "status": "False", "message": "all is well"},
        ]}});
        let held: Vec<&str> = holders("Namespace", &body).collect();
        assert_eq!(held, ["a", "x in 1 resource instances"]);
        assert_eq!(holders("Job", &body).count(), 1);
    }

    #[test]
    fn a_deployment_is_ready_when_its_new_pods_are_available() {
        let done =
            json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert_eq!(deployment(done), Health::Ready);
    }

    #[test]
    fn a_deployment_that_nobody_has_read_is_progressing() {
        assert!(matches!(deployment(json!({})), Health::Progressing(_)));
        let old =
            json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert!(matches!(deployment(old), Health::Progressing(_)));
    }

    #[test]
    fn a_deployment_past_its_deadline_has_failed_with_its_own_words() {
        let stuck = json!({"observedGeneration": 2, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no image"}]});
        assert_eq!(deployment(stuck), Health::Failed("no image".into()));
    }

    #[test]
    fn a_definition_is_ready_when_established() {
        let with =
            |status: &str| json!({"status": {"conditions": [{"type": "Established", "status": status}]}});
        assert_eq!(health("CustomResourceDefinition", &with("True")), Health::Ready);
        assert!(matches!(
            health("CustomResourceDefinition", &with("False")),
            Health::Progressing(_)
        ));
    }

    #[test]
    fn an_object_without_status_is_ready_and_a_deleted_one_is_terminating() {
        assert_eq!(health("ConfigMap", &json!({"data": {}})), Health::Ready);
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(health("ConfigMap", &going), Health::Terminating);
    }
}
