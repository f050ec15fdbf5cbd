//! What a Cluster shows: phase, conditions, endpoints. Pure, from what was seen.
use super::desired::server_url;
use crate::names::ANNOTATION_CREDENTIALS;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use openmcp_api::{
    Cluster,
    clusters::{ClusterStatus, ENDPOINT_EXTERNAL, ENDPOINT_INTERNAL},
    common::{Endpoint, phase},
    conditions,
};
use openmcp_reconcile::status::{Observed, merge_conditions};
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, sync::Arc};

/// The API server answers and its system namespace exists.
pub(crate) const READY: &str = "Ready";
/// The control plane's certificates and keys were issued, or had to be issued anew.
pub(crate) const CREDENTIALS: &str = "CredentialsIssued";
pub(crate) const REISSUED: &str = "Reissued";

/// What this provider records about a hosted Cluster, in `status.providerStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The API server's address, claimed for the Cluster's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Ipv4Addr>,
    /// Where in etcd the Cluster's data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd_prefix: Option<String>,
    /// Short name of the CA that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
}

impl Record {
    /// As recorded; what is not readable counts as not recorded.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let raw = cluster
            .status
            .as_ref()
            .and_then(|status| status.provider_status.clone());
        raw.and_then(|raw| serde_json::from_value(raw).ok())
            .unwrap_or_default()
    }
}

/// One look at a Cluster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) phase: &'static str,
    pub(crate) conditions: Vec<Observed>,
    /// URL of the API server, once it has one.
    pub(crate) server: Option<String>,
    pub(crate) record: Record,
}

impl Report {
    /// On the way, or back to it: `reason` and `message` say what is waited for.
    pub(crate) fn not_ready(
        phase: &'static str,
        reason: &str,
        message: impl Into<String>,
        record: Record,
    ) -> Self {
        let server = record.address.map(server_url);
        Self {
            phase,
            conditions: vec![condition(READY, false, reason, message)],
            server,
            record,
        }
    }

    pub(crate) fn ready(message: impl Into<String>, server: String, record: Record) -> Self {
        Self {
            phase: phase::READY,
            conditions: vec![condition(READY, true, "ApiServerReady", message)],
            server: Some(server),
            record,
        }
    }

    pub(crate) fn with(mut self, condition: Observed) -> Self {
        self.conditions.push(condition);
        self
    }

    /// The whole status to be written.
    pub(crate) fn status(&self, cluster: &Cluster, now: jiff::Timestamp) -> ClusterStatus {
        let generation = cluster.metadata.generation.unwrap_or_default();
        let endpoint = |name: &str, url: &String| Endpoint {
            name: name.to_owned(),
            url: url.clone(),
        };
        ClusterStatus {
            observed_generation: generation,
            phase: self.phase.to_owned(),
            conditions: merge_conditions(live_conditions(cluster), &self.conditions, generation, now),
            api_server: self.server.clone(),
            endpoints: self
                .server
                .iter()
                .flat_map(|url| [endpoint(ENDPOINT_EXTERNAL, url), endpoint(ENDPOINT_INTERNAL, url)])
                .collect(),
            provider_status: (self.record != Record::default()).then(|| serde_json::json!(self.record)),
        }
    }
}

pub(crate) fn live_conditions(cluster: &Cluster) -> &[Condition] {
    cluster.status.as_ref().map_or(&[], |status| &status.conditions)
}

/// Whether the Cluster was Ready when it was last looked at, with this identity.
pub(crate) fn was_ready(cluster: &Cluster, identity: &str) -> bool {
    conditions::is_true(live_conditions(cluster), READY)
        && Record::of(cluster).identity.as_deref() == Some(identity)
}

pub(crate) fn condition(type_: &str, holds: bool, reason: &str, message: impl Into<String>) -> Observed {
    Observed {
        type_: type_.to_owned(),
        status: Some(holds),
        reason: reason.to_owned(),
        message: message.into(),
    }
}

/// The condition about the identity: `Reissued` from the moment when another CA than the recorded one is found.
pub(crate) fn credentials(cluster: &Cluster, identity: &str, secret: &str, now: jiff::Timestamp) -> Observed {
    match Record::of(cluster).identity {
        Some(recorded) if recorded != identity => condition(
            CREDENTIALS,
            true,
            REISSUED,
            format!(
                "at {now:.0} the CA in Secret {secret} was found lost or damaged and was made anew ({identity} instead of {recorded}): \
                 every kubeconfig of this cluster is issued anew"
            ),
        ),
        _ => match conditions::find(live_conditions(cluster), CREDENTIALS) {
            Some(live) => condition(CREDENTIALS, true, &live.reason, live.message.clone()),
            None => condition(
                CREDENTIALS,
                true,
                "Issued",
                format!("CA, certificates and keys are in Secret {secret}"),
            ),
        },
    }
}

/// What the pods say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pods {
    Ready,
    NotReady { reason: String, message: String },
}

/// Reads the pods of a control plane. Only those with the current credentials count, and none that is ending.
pub(crate) fn pods(pods: &[Arc<Pod>], credentials: &str) -> Pods {
    let current = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none()
            && pod
                .metadata
                .annotations
                .as_ref()
                .and_then(|it| it.get(ANNOTATION_CREDENTIALS))
                .map(String::as_str)
                == Some(credentials)
    };
    let candidates: Vec<&Arc<Pod>> = pods.iter().filter(current).collect();
    if candidates
        .iter()
        .any(|pod| pod_condition(pod, "Ready").is_some_and(|(status, ..)| status == "True"))
    {
        return Pods::Ready;
    }
    let causes = candidates.iter().map(|pod| cause(pod));
    // A container that fails says more than a pod that waits.
    causes
        .max_by_key(|cause| matches!(cause, Pods::NotReady { reason, .. } if reason != STARTING))
        .unwrap_or_else(|| Pods::NotReady {
            reason: STARTING.to_owned(),
            message: "waiting for the control plane's pod to be made".to_owned(),
        })
}

const STARTING: &str = "ControlPlaneStarting";

fn cause(pod: &Pod) -> Pods {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    if let Some((reason, message)) = statuses.filter_map(failing).next() {
        return Pods::NotReady {
            reason,
            message: format!("pod {name}: {message}"),
        };
    }
    for type_ in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        if let Some((status, reason, message)) = pod_condition(pod, type_)
            && status != "True"
        {
            let reason = if type_ == "PodScheduled" && !reason.is_empty() {
                reason
            } else {
                STARTING
            };
            let message = if message.is_empty() {
                "is starting"
            } else {
                message
            };
            return Pods::NotReady {
                reason: reason.to_owned(),
                message: format!("pod {name}: {message}"),
            };
        }
    }
    Pods::NotReady {
        reason: STARTING.to_owned(),
        message: format!("pod {name} is starting"),
    }
}

/// Reason and message of a container that ended or cannot start.
fn failing(status: &ContainerStatus) -> Option<(String, String)> {
    let state = status.state.as_ref()?;
    let ended = state
        .terminated
        .as_ref()
        .or_else(|| status.last_state.as_ref()?.terminated.as_ref());
    let exit = ended.map(|ended| {
        let message = ended
            .message
            .as_deref()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        format!("exit code {}{message}", ended.exit_code)
    });
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let details = [waiting.message.clone(), exit]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ");
        return Some((
            reason.to_owned(),
            format!("container {}: {reason}: {details}", status.name),
        ));
    }
    state.terminated.as_ref()?;
    Some((
        "ContainerEnded".to_owned(),
        format!(
            "container {} ended with {}",
            status.name,
            exit.unwrap_or_default()
        ),
    ))
}

fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = pod
        .status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|it| it.type_ == type_)?;
    Some((
        &found.status,
        found.reason.as_deref().unwrap_or_default(),
        found.message.as_deref().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn pod(credentials: &str, status: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "annotations": {ANNOTATION_CREDENTIALS: credentials}}, "status": status,
            }))
            .unwrap(),
        )
    }
    fn cluster(status: Value) -> Cluster {
        serde_json::from_value(json!({
            "metadata": {"name": "c", "namespace": "n", "generation": 3},
            "spec": {"profile": "hosted", "purposes": ["mcp"], "tenancy": "Exclusive"}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn only_a_ready_pod_with_the_current_credentials_makes_ready() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(pods(&[pod("new", ready.clone())], "new"), Pods::Ready);
        assert_ne!(pods(&[pod("old", ready)], "new"), Pods::Ready);
    }

    #[test]
    fn the_cause_of_a_crashing_container_is_named() {
        let crashing = json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "kube-apiserver", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "etcd: connection refused"}}}],
        });
        let Pods::NotReady { reason, message } = pods(&[pod("c", crashing)], "c") else {
            unreachable!()
        };
        assert_eq!(reason, "CrashLoopBackOff");
        assert!(
            message.contains("kube-apiserver") && message.contains("exit code 1: etcd: connection refused"),
            "{message}"
        );
    }

    #[test]
    fn a_pod_that_cannot_be_scheduled_says_why() {
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Too many pods"}]});
        let Pods::NotReady { reason, message } = pods(&[pod("c", unscheduled)], "c") else {
            unreachable!()
        };
        assert_eq!(
            (reason.as_str(), message.as_str()),
            ("Unschedulable", "pod p: Too many pods")
        );
    }

    #[test]
    fn another_ca_than_the_recorded_one_is_shown_and_stays_shown() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let changed = credentials(
            &cluster(
                json!({"observedGeneration": 1, "phase": "Ready", "providerStatus": {"identity": "old"}}),
            ),
            "new",
            "s",
            now,
        );
        assert_eq!(changed.reason, REISSUED);
        let report = Report::not_ready(
            phase::PROGRESSING,
            "X",
            "x",
            Record {
                identity: Some("new".into()),
                ..Record::default()
            },
        )
        .with(changed.clone());
        let next = cluster(serde_json::to_value(report.status(&cluster(Value::Null), now)).unwrap());
        assert_eq!(credentials(&next, "new", "s", now), changed);
    }

    #[test]
    fn the_status_names_both_endpoints_and_the_generation() {
        let record = Record {
            address: Some(Ipv4Addr::new(127, 0, 0, 9)),
            ..Record::default()
        };
        let status = Report::ready("up", "https://127.0.0.9:6443".into(), record)
            .status(&cluster(Value::Null), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(status.endpoint(ENDPOINT_EXTERNAL), Some("https://127.0.0.9:6443"));
        assert_eq!(status.endpoint(ENDPOINT_INTERNAL), Some("https://127.0.0.9:6443"));
        assert_eq!(status.observed_generation, 3);
    }
}
