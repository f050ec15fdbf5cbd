//! The conditions of a ControlPlane and the phase that follows from them (contract §11.3): pure.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use openmcp_api::{common::phase, conditions::reasons};
use openmcp_reconcile::{Fault, status::Observed};

/// The conditions of one reconcile, in the order in which they were found out.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Observed>);

/// Which cluster a step talks to: the reason of its condition when that fails.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Platform,
    Onboarding,
}

impl Side {
    fn problem(self) -> &'static str {
        match self {
            Self::Platform => reasons::PLATFORM_CLUSTER_INTERACTION_PROBLEM,
            Self::Onboarding => reasons::ONBOARDING_CLUSTER_INTERACTION_PROBLEM,
        }
    }
}

impl Conditions {
    pub(super) fn set(
        &mut self,
        type_: impl Into<String>,
        status: Option<bool>,
        reason: &str,
        message: impl Into<String>,
    ) {
        let type_ = type_.into();
        self.0.retain(|c| c.type_ != type_);
        self.0.push(Observed {
            type_,
            status,
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn yes(&mut self, type_: impl Into<String>, message: impl Into<String>) {
        self.set(type_, Some(true), "", message);
    }

    pub(super) fn no(&mut self, type_: impl Into<String>, reason: &str, message: impl Into<String>) {
        self.set(type_, Some(false), reason, message);
    }

    /// A step that failed: its condition says on which cluster and why.
    pub(super) fn failed(&mut self, type_: impl Into<String>, side: Side, fault: &Fault) {
        self.set(type_, Some(false), side.problem(), fault.message.clone());
    }

    /// What was known before and was not looked at this time stays.
    pub(super) fn keep(&mut self, live: &[Condition], which: impl Fn(&str) -> bool) {
        for condition in live {
            if which(&condition.type_) && self.0.iter().all(|c| c.type_ != condition.type_) {
                self.0.push(crate::report::observed(condition));
            }
        }
    }

    pub(super) fn all(&self) -> &[Observed] {
        &self.0
    }

    /// The first condition of a prefix that does not hold.
    pub(super) fn first_not_true(&self, prefix: &str) -> Option<&Observed> {
        self.0
            .iter()
            .find(|c| c.type_.starts_with(prefix) && c.status != Some(true))
    }

    pub(super) fn phase(&self, deleting: bool) -> &'static str {
        if deleting {
            phase::TERMINATING
        } else if !self.0.is_empty() && self.0.iter().all(|c| c.status == Some(true)) {
            phase::READY
        } else {
            phase::PROGRESSING
        }
    }
}
