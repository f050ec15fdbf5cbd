//! Why a reconcile did not succeed, in the classes that decide what happens next.
//!
//! Owns the classification of API errors. Knows nothing of queues or conditions.
use std::time::Duration;

/// What went wrong with one key. The class decides the back-off; `reason` becomes the condition reason,
/// the Event reason and a metric label; `message` names the object and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Fault {
    /// Decides when the key is tried again.
    pub class: Class,
    /// PascalCase, bounded set: condition reason, Event reason, metric label.
    pub reason: &'static str,
    /// What happened, to which object, and what to do.
    pub message: String,
    /// The server's wish (`Retry-After`), if it gave one.
    pub retry_after: Option<Duration>,
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

impl Fault {
    /// A fault of the given class.
    pub fn new(class: Class, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            reason,
            message: message.into(),
            retry_after: None,
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
    /// Classifies an API error; `doing` says what was tried on which object ("apply Job default/x").
    pub fn api(doing: impl std::fmt::Display, error: &kube::Error) -> Self {
        let (class, reason) = match error {
            kube::Error::Api(status) => match status.code {
                401 | 403 => (Class::Denied, "AccessDenied"),
                400 | 422 => (Class::Invalid, "Rejected"),
                _ => (Class::Retry, "ApiError"),
            },
            _ => (Class::Unreachable, "Unreachable"),
        };
        Self::new(class, reason, format!("{doing}: {error}"))
    }
}
