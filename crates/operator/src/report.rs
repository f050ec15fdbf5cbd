//! Events on transitions: one is published when a condition's status or reason is about to change, and only then.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use openmcp_reconcile::{
    Fault,
    events::{Note, Recorder},
    status::Observed,
};

/// Publishes one controller's Events.
pub(crate) struct Report<'a> {
    pub events: &'a Recorder,
    /// What the controller was doing: the Event's action.
    pub action: &'static str,
}

impl Report<'_> {
    /// Publishes `next` about `object`, if it differs from the `live` condition of its type. A condition that is
    /// first seen as Unknown is no news.
    pub(crate) fn transition<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        live: &[Condition],
        next: &Observed,
        reason: &'static str,
    ) {
        let before = live.iter().find(|c| c.type_ == next.type_);
        if before.is_none() && next.status.is_none() {
            return;
        }
        let same = before.is_some_and(|c| {
            c.status == status_text(next.status) && (c.reason == next.reason || next.reason.is_empty())
        });
        if !same {
            let lost = before.is_some_and(|c| c.status == status_text(Some(true)));
            let note = Note {
                warning: next.status == Some(false) && (lost || is_problem(reason)),
                reason,
                action: self.action,
                note: next.message.clone(),
            };
            self.events.publish(object.object_ref(&()), note);
        }
    }
}

/// An Event about an object whose pass was cut off, and so could not tell anything itself.
pub(crate) fn cut_off<K: Resource<DynamicType = ()>>(events: &Recorder, object: Option<&K>, fault: &Fault) {
    let Some(object) = object else { return };
    let note = Note {
        warning: true,
        reason: fault.reason,
        action: "Reconcile",
        note: fault.message.clone(),
    };
    events.publish(object.object_ref(&()), note);
}

fn status_text(status: Option<bool>) -> &'static str {
    match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

/// Waiting and progressing are the normal course of things; the rest deserves a Warning, and so does what held before.
fn is_problem(reason: &str) -> bool {
    !(reason.starts_with("Waiting")
        || reason.ends_with("Running")
        || reason.ends_with("Pending")
        || reason.ends_with("NotReady")
        || reason == "Uninstalling")
}

/// A live condition as it was observed, to be kept.
pub(crate) fn observed(live: &Condition) -> Observed {
    let status = match live.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    };
    Observed {
        type_: live.type_.clone(),
        status,
        reason: live.reason.clone(),
        message: live.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_problem;

    #[test]
    fn waiting_is_no_problem_and_failing_is() {
        assert!(!is_problem("WaitingForClusterRequest"));
        assert!(!is_problem("ProviderNotReady"));
        assert!(is_problem("UnknownPurpose"));
        assert!(is_problem("InitFailing"));
    }
}
