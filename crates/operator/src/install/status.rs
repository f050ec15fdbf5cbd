//! What a provider's conditions say (contract §2.1).
use openmcp_api::{
    common::{ObjectReference, phase},
    conditions::provider::{
        INIT_COMPLETED, INIT_JOB_CREATION_FAILED, INIT_PENDING, INIT_RUNNING, INITIALIZED,
        INSTALLATION_FAILED, INSTALLATION_PENDING, NOT_READY, PROVIDER_READY, READY, UNINSTALL_FAILED,
        UNINSTALLED, UNINSTALLING,
    },
};
use openmcp_reconcile::status::Observed;

/// Init does not get anywhere, but has not given up.
const INIT_FAILING: &str = "InitFailing";
/// Init gave up; it is started again after a while.
const INIT_FAILED: &str = "InitFailed";

/// One condition, with its reason as a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub type_: &'static str,
    pub status: Option<bool>,
    pub reason: &'static str,
    pub message: String,
}

impl Told {
    fn new(
        type_: &'static str,
        status: Option<bool>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn init_pending(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, None, INIT_PENDING, message)
    }

    pub(super) fn init_impossible(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, Some(false), INIT_JOB_CREATION_FAILED, message)
    }

    pub(super) fn init_running(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, Some(false), INIT_RUNNING, message)
    }

    pub(super) fn init_failing(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, Some(false), INIT_FAILING, message)
    }

    pub(super) fn init_failed(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, Some(false), INIT_FAILED, message)
    }

    pub(super) fn init_completed(message: impl Into<String>) -> Self {
        Self::new(INITIALIZED, Some(true), INIT_COMPLETED, message)
    }

    pub(super) fn run_pending(message: impl Into<String>) -> Self {
        Self::new(READY, None, INSTALLATION_PENDING, message)
    }

    pub(super) fn run_impossible(message: impl Into<String>) -> Self {
        Self::new(READY, Some(false), INSTALLATION_FAILED, message)
    }

    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(READY, Some(false), NOT_READY, message)
    }

    pub(super) fn ready(message: impl Into<String>) -> Self {
        Self::new(READY, Some(true), PROVIDER_READY, message)
    }

    pub(super) fn uninstalling(message: impl Into<String>) -> Self {
        Self::new(UNINSTALLED, Some(false), UNINSTALLING, message)
    }

    pub(super) fn uninstall_failed(message: impl Into<String>) -> Self {
        Self::new(UNINSTALLED, Some(false), UNINSTALL_FAILED, message)
    }

    pub(super) fn observed(&self) -> Observed {
        Observed {
            type_: self.type_.to_owned(),
            status: self.status,
            reason: self.reason.to_owned(),
            message: self.message.clone(),
        }
    }
}

/// How a provider stands after a reconcile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub conditions: Vec<Told>,
    pub metrics: Option<ObjectReference>,
}

impl Standing {
    pub(super) fn phase(&self) -> &'static str {
        if self.conditions.iter().any(|c| c.type_ == UNINSTALLED) {
            phase::UNINSTALLING
        } else if self.conditions.iter().all(|c| c.status == Some(true)) {
            phase::READY
        } else {
            phase::PROGRESSING
        }
    }
}
