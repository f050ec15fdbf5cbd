//! Why a pass ends before its end.
use crate::{archive::Unreadable, inputs::Invalid};
use openmcp_reconcile::{Fault, fault::Class};

/// The reason of a deletion in a back end that somebody has to make possible.
pub(crate) const BLOCKED: &str = "ExternalBlocked";

/// What a step cannot go past.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// Something else has to happen first. Its event wakes the object.
    Wait { reason: &'static str, message: String },
    /// As `Wait`, but a person has to make it happen.
    Stuck { reason: &'static str, message: String },
    /// A cluster answers late, and others are at it: this object has its turn later, and is woken for it.
    Turn { message: String },
    /// Something failed. Tried again by the rules of its class.
    Fault(Fault),
}

impl Stop {
    pub(crate) fn wait(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Wait { reason, message }
    }

    pub(crate) fn stuck(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Stuck { reason, message }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Wait { reason, .. } | Self::Stuck { reason, .. } => reason,
            Self::Turn { .. } => "ClusterSlow",
            Self::Fault(fault) => fault.reason,
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Wait { message, .. } | Self::Stuck { message, .. } | Self::Turn { message } => message,
            Self::Fault(fault) => &fault.message,
        }
    }

    /// As one failure among others: nothing wakes the object, so it is tried again.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            other => Fault::retry(other.reason(), other.message().to_owned()),
        }
    }

    /// Whether waiting alone does not help.
    pub(crate) fn is_stalled(&self) -> bool {
        match self {
            Self::Wait { .. } | Self::Turn { .. } => false,
            Self::Stuck { .. } => true,
            Self::Fault(fault) => needs_somebody(fault),
        }
    }
}

/// Whether trying again alone does not help. A foreign object in the way is tried again, for nobody tells when it goes;
/// but a person has to remove it. So it is with what blocks a back end.
pub(crate) fn needs_somebody(fault: &Fault) -> bool {
    matches!(fault.class, Class::Invalid | Class::Denied | Class::Bug)
        || matches!(fault.reason, "ForeignObject" | BLOCKED)
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Box<Unreadable>> for Stop {
    fn from(unreadable: Box<Unreadable>) -> Self {
        Self::Fault(unreadable.into())
    }
}

impl From<Invalid> for Stop {
    fn from(invalid: Invalid) -> Self {
        Self::Fault(Fault::invalid(invalid.reason, invalid.message))
    }
}
