//! Why a reconcile did not succeed, in the classes that decide what happens next.
//!
//! Owns the classification of API errors. Knows nothing of queues or conditions.
use crate::{
    cluster::Open,
    text::{MESSAGE_MAX, brief},
};
use kube::core::Status;
use std::{error::Error, time::Duration};

/// What went wrong with one key. The class decides the back-off; `reason` becomes the condition reason,
/// the Event reason and a metric label; `message` names the object and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Fault {
    /// Decides when the key is tried again.
    pub class: Class,
    /// PascalCase, bounded set: condition reason, Event reason, metric label.
    pub reason: &'static str,
    /// What happened, to which object, and what to do. Short: what is too long loses its middle.
    pub message: String,
    /// The server's wish (`Retry-After` in seconds), if it gave one. The queue obeys for ten minutes at most.
    pub retry_after: Option<Duration>,
    /// When time itself makes work on the same key, whatever becomes of this failure (a token's renewal). It counts for
    /// [`Class::Invalid`], which is not tried again by itself; all others are tried again anyway.
    pub wake: Option<Duration>,
}

/// The classes of runtime design §1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Passing: conflict, throttled, 5xx. Back-off with full jitter.
    Retry,
    /// The input is wrong: only a change of an input helps. Not retried before one.
    Invalid,
    /// 401/403: long back-off.
    Denied,
    /// No connection, time-out: the target's circuit breaker counts it.
    Unreachable,
    /// A panic or a broken invariant of ours.
    Bug,
}

impl Class {
    /// Every class, in the order of [`Class::index`].
    pub const ALL: [Self; 5] = [
        Self::Retry,
        Self::Invalid,
        Self::Denied,
        Self::Unreachable,
        Self::Bug,
    ];

    /// A small number for tables by class.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The class as a log field and metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Bug => "bug",
        }
    }
}

impl Fault {
    /// A fault of the given class.
    pub fn new(class: Class, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            reason,
            message: brief(&message.into(), MESSAGE_MAX).into_owned(),
            retry_after: None,
            wake: None,
        }
    }
    /// A wrong input: [`Class::Invalid`].
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Class::Invalid, reason, message)
    }
    /// Something that passes: [`Class::Retry`].
    pub fn retry(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Class::Retry, reason, message)
    }
    /// A broken invariant of ours: [`Class::Bug`].
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Class::Bug, "InternalError", message)
    }
    /// Not before this time has passed, whatever the back-off says.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// There is other work to do at that time.
    #[must_use]
    pub fn waking(mut self, after: Option<Duration>) -> Self {
        self.wake = after;
        self
    }

    /// Classifies an API error; `doing` says what was tried on which object ("apply Job default/x").
    ///
    /// ```
    /// use openmcp_reconcile::{Fault, fault::Class};
    /// let refused = kube::core::Status::failure("jobs is forbidden", "Forbidden").with_code(403);
    /// let fault = Fault::api("apply Job default/x", &kube::Error::Api(refused.boxed()));
    /// assert_eq!(fault.class, Class::Denied);
    /// assert_eq!(fault.message, "apply Job default/x: jobs is forbidden");
    /// ```
    pub fn api(doing: impl std::fmt::Display, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::status(doing, status),
            kube::Error::Service(cause) if cause.is::<Open>() => {
                let again = cause.downcast_ref::<Open>().map(|open| open.again);
                Self {
                    retry_after: again,
                    ..Self::new(Class::Unreachable, "Unreachable", format!("{doing}: {cause}"))
                }
            }
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => Self::new(
                Class::Unreachable,
                "Unreachable",
                format!("{doing}: {}", chain(error)),
            ),
            kube::Error::Auth(_) => Self::new(
                Class::Denied,
                "AccessDenied",
                format!("{doing}: {}", chain(error)),
            ),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::retry(
                "Undecodable",
                format!("{doing}: the answer cannot be read: {}", chain(error)),
            ),
            kube::Error::InferConfig(_) | kube::Error::InferKubeconfig(_) | kube::Error::RustlsTls(_) => {
                Self::invalid("InvalidKubeconfig", format!("{doing}: {}", chain(error)))
            }
            kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
                Self::bug(format!("{doing}: {}", chain(error)))
            }
            _ => Self::new(
                Class::Unreachable,
                "Unreachable",
                format!("{doing}: {}", chain(error)),
            ),
        }
    }

    /// Classifies the API server's answer.
    pub(crate) fn status(doing: impl std::fmt::Display, status: &Status) -> Self {
        let causes = || status.details.iter().flat_map(|details| &details.causes);
        // An apply with the UID of an object that was replaced meanwhile (seen on 1.36; 409 if it is absent).
        let replaced = causes().any(|cause| cause.field == "metadata.uid");
        let terminating = causes().any(|cause| cause.reason == "NamespaceTerminating");
        // Admission says no with a cause that names no field (seen on 1.36). It goes when whoever asked for it changes
        // his mind: the input is not wrong, and must be tried again.
        let refused = causes().any(|cause| cause.field.is_empty() && cause.reason.is_empty());
        // A webhook gives any code, and 400 where it gives none (k8s.io/apiserver, ToStatusErr).
        let webhook =
            status.message.contains("admission webhook") && status.message.contains("denied the request");
        let (class, reason) = match status.code {
            _ if terminating => (Class::Retry, "NamespaceTerminating"),
            422 if replaced => (Class::Retry, "Conflict"),
            422 if refused => (Class::Denied, "AdmissionDenied"),
            400..500 if webhook => (Class::Denied, "AdmissionDenied"),
            422 if causes().any(|cause| is_immutable(&cause.message)) => (Class::Invalid, IMMUTABLE),
            401 | 403 => (Class::Denied, "AccessDenied"),
            413 => (Class::Invalid, TOO_LARGE),
            500 if is_too_large(&status.message) => (Class::Invalid, TOO_LARGE),
            400 | 415 | 422 => (Class::Invalid, "Rejected"),
            404 => (Class::Retry, "NotFound"),
            409 => (Class::Retry, "Conflict"),
            429 => (Class::Retry, "Throttled"),
            500 if does_not_conform(&status.message) => (Class::Retry, NOT_CONFORMING),
            code if code >= 500 => (Class::Retry, "ServerError"),
            _ => (Class::Retry, "ApiError"),
        };
        let asked = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        let retry_after = (asked > 0).then(|| Duration::from_secs(asked.into()));
        let what = match (status.message.as_str(), status.reason.as_str()) {
            ("", "") => format!("the API server answered {}", status.code),
            ("", reason) => reason.to_owned(),
            (message, _) => message.to_owned(),
        };
        Self {
            retry_after,
            ..Self::new(class, reason, format!("{doing}: {what}"))
        }
    }
}

/// The reason of a change that the API server refuses because a field keeps its first value.
pub(crate) const IMMUTABLE: &str = "ImmutableField";

/// The reason of an apply that the API server refuses because what is stored does not conform to its definition, as after
/// a breaking change of that.
pub(crate) const NOT_CONFORMING: &str = "ObjectNotConforming";

/// The reason of an object that the API server, or its store, cannot take as a whole.
const TOO_LARGE: &str = "ObjectTooLarge";

/// What is too large for etcd, or for the way there, is an internal error to the API server: these are their words.
fn is_too_large(message: &str) -> bool {
    [
        "etcdserver: request is too large",
        "trying to send message larger than max",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// It has no code for it: these are its words for an object with managedFields, and for one without (seen on 1.36).
fn does_not_conform(message: &str) -> bool {
    [
        "failed to create typed live object",
        "failed to create manager for existing fields",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// The API server has no code for it: these are the words of its validation (seen on 1.36).
fn is_immutable(message: &str) -> bool {
    [
        "immutable",
        "may not change once set",
        "updates to statefulset spec",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// An error with its causes, each said once: the outermost alone ("client error (Connect)") helps nobody.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    // kube's own words for these say nothing that the cause does not.
    let error = match (error.downcast_ref::<kube::Error>(), error.source()) {
        (Some(kube::Error::Service(_) | kube::Error::HyperError(_)), Some(cause)) => cause,
        _ => error,
    };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(value: serde_json::Value) -> Status {
        serde_json::from_value(value).unwrap_or_default()
    }

    #[test]
    fn a_terminating_namespace_passes_while_other_refusals_wait_long() {
        let refused = status(json!({"code": 403, "reason": "Forbidden", "message": "no"}));
        assert_eq!(Fault::status("x", &refused).class, Class::Denied);
        let terminating = status(json!({
            "code": 403, "reason": "Forbidden", "message": "no",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "namespace a is being terminated"}]}
        }));
        assert_eq!(Fault::status("x", &terminating).class, Class::Retry);
    }

    #[test]
    fn what_a_policy_or_a_webhook_denies_is_tried_again_while_a_wrong_field_is_not() {
        let words = "clusterroles \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let denied = status(json!({
            "code": 422, "reason": "Invalid", "message": words,
            "details": {"name": "x", "kind": "clusterroles", "causes": [{"message": words}]}
        }));
        let fault = Fault::status("apply", &denied);
        assert_eq!((fault.class, fault.reason), (Class::Denied, "AdmissionDenied"));
        let words = r#"admission webhook "quota.example.com" denied the request: no more of them today"#;
        for code in [400, 403, 422] {
            let fault = Fault::status("apply", &status(json!({"code": code, "message": words})));
            assert_eq!((fault.class, fault.reason), (Class::Denied, "AdmissionDenied"));
        }
        let wrong = status(json!({
            "code": 422, "details": {"causes": [{"reason": "FieldValueInvalid", "field": "spec.x", "message": "no"}]}
        }));
        assert_eq!(Fault::status("apply", &wrong).class, Class::Invalid);
    }

    #[test]
    fn another_uid_under_the_name_is_a_conflict_and_no_wrong_input() {
        let replaced = status(json!({
            "code": 422, "details": {"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]}
        }));
        let fault = Fault::status("x", &replaced);
        assert_eq!((fault.class, fault.reason), (Class::Retry, "Conflict"));
    }

    #[test]
    fn an_object_that_does_not_conform_any_more_is_told_apart_from_a_server_that_fails() {
        let reason =
            |message: &str| Fault::status("apply", &status(json!({"code": 500, "message": message}))).reason;
        let words =
            "failed to create typed live object (a/b; x/v1, Kind=X): .spec.text: expected string, got &{7}";
        assert_eq!(reason(words), NOT_CONFORMING);
        assert_eq!(reason("etcdserver: request timed out"), "ServerError");
    }

    #[test]
    fn an_object_that_is_too_large_is_a_wrong_input_and_named() {
        let large = [
            (500, "etcdserver: request is too large"),
            (
                500,
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max (3 vs. 2)",
            ),
            (413, "Request entity too large: limit is 3145728"),
        ];
        for (code, message) in large {
            let answer = status(json!({"code": code, "message": message}));
            let fault = Fault::status("apply ConfigMap a/b", &answer);
            assert_eq!((fault.class, fault.reason), (Class::Invalid, "ObjectTooLarge"));
            assert_eq!(fault.message, format!("apply ConfigMap a/b: {message}"));
        }
    }

    #[test]
    fn the_servers_retry_after_is_taken_from_its_status() {
        let throttled = status(json!({"code": 429, "details": {"retryAfterSeconds": 7}}));
        assert_eq!(
            Fault::status("x", &throttled).retry_after,
            Some(Duration::from_secs(7))
        );
    }

    #[test]
    fn an_answer_without_words_is_said_by_its_code() {
        let fault = Fault::status("get Job a/b", &Status::default().with_code(502));
        assert_eq!(fault.message, "get Job a/b: the API server answered 502");
    }
}
