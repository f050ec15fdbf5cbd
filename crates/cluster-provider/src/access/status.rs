//! What an AccessRequest shows. Pure.
use kube::ResourceExt;
use openmcp_api::{
    AccessRequest,
    clusters::AccessRequestStatus,
    common::{LocalObjectReference, phase},
    names::secret_of_access_request,
};
use openmcp_reconcile::{
    Fault,
    status::{Observed, merge_conditions},
};

/// Whether the kubeconfig is there and works.
pub(crate) const READY: &str = "Ready";

/// What a reconcile came to, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    /// Not yet, or not at the moment; whoever was granted access keeps it.
    Waiting {
        reason: String,
        message: String,
    },
    /// Never: only another spec helps.
    Denied {
        reason: &'static str,
        message: String,
    },
}

impl Verdict {
    pub(crate) fn waiting(reason: &str, message: impl Into<String>) -> Self {
        Self::Waiting {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
    pub(crate) fn failed(fault: &Fault) -> Self {
        Self::waiting(fault.reason, fault.message.clone())
    }

    pub(crate) fn condition(&self) -> Observed {
        let (holds, reason, message) = match self {
            Self::Granted => (
                true,
                "Granted",
                "the kubeconfig is in the Secret that status.secretRef names",
            ),
            Self::Waiting { reason, message } => (false, reason.as_str(), message.as_str()),
            Self::Denied { reason, message } => (false, *reason, message.as_str()),
        };
        Observed {
            type_: READY.to_owned(),
            status: Some(holds),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// The whole status to be written.
    pub(crate) fn status(&self, request: &AccessRequest, now: jiff::Timestamp) -> AccessRequestStatus {
        let live = request.status.clone().unwrap_or_default();
        let generation = request.metadata.generation.unwrap_or_default();
        let (phase, secret_ref) = match self {
            Self::Granted => (
                phase::GRANTED.to_owned(),
                Some(LocalObjectReference::new(secret_of_access_request(
                    &request.name_any(),
                ))),
            ),
            Self::Waiting { .. } => (live.phase.clone(), live.secret_ref.clone()),
            Self::Denied { .. } => (phase::DENIED.to_owned(), None),
        };
        AccessRequestStatus {
            observed_generation: generation,
            phase,
            conditions: merge_conditions(&live.conditions, &[self.condition()], generation, now),
            secret_ref,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn request(status: serde_json::Value) -> AccessRequest {
        serde_json::from_value(
            json!({"metadata": {"name": "a", "generation": 4}, "spec": {}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn a_grant_names_the_secret_and_the_generation() {
        let status = Verdict::Granted.status(
            &request(json!({"observedGeneration": 1, "phase": "Pending"})),
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            (status.phase.as_str(), status.observed_generation),
            ("Granted", 4)
        );
        assert_eq!(status.secret_ref.unwrap().name, "a.kubeconfig");
    }

    #[test]
    fn a_passing_failure_takes_no_access_away() {
        let live =
            json!({"observedGeneration": 4, "phase": "Granted", "secretRef": {"name": "a.kubeconfig"}});
        let status =
            Verdict::waiting("Unreachable", "no answer").status(&request(live), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase, "Granted");
        assert!(status.secret_ref.is_some());
        assert_eq!(status.conditions[0].status, "False");
    }
}
