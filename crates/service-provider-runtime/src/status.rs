//! Results become conditions: exactly one set for each result, on every path.
//!
//! | result | Ready | Synced | Healthy | Progressing | Stalled | phase |
//! |---|---|---|---|---|---|---|
//! | all applied and healthy | True | True | True | False | False | Ready |
//! | all applied, not healthy yet | False | True | False | True | False | Progressing |
//! | all applied, an object failed | False | True | False | False | True | Progressing |
//! | not all applied yet | False | False | as it is | True | False | Progressing |
//! | something is waited for, or a turn | False | False | as it is | True | False | Progressing |
//! | a person has to act, or input is wrong | False | False | as it is | False | True | Progressing |
//! | passing failure | False | False | as it is | True | False | Progressing |
//! | paused | as before, or False | False | as before | False | False | as before |
//! | being deleted | False | False | Unknown | True, False if stuck | False, True if stuck | Terminating |
//!
//! `Healthy` is Unknown where nothing was observed. What is not wanted any more and has to stay, for objects of the tenant
//! would go with it, keeps no service from being Ready: `Synced` is True and bears the reason `DomainObjectsExist`.
use crate::{
    pipeline::Applied,
    provider::ServiceStatus,
    stop::{Stop, needs_somebody},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use openmcp_api::{common::phase, conditions::service};
use openmcp_reconcile::{
    children::Health,
    status::{Observed, merge_conditions},
};

const READY: &str = service::READY;
const SYNCED: &str = "Synced";
const HEALTHY: &str = "Healthy";
const PROGRESSING: &str = "Progressing";
const STALLED: &str = "Stalled";
/// Of a deletion that waits for objects of the tenant, and of Synced where a definition does.
pub(crate) const DOMAIN_OBJECTS_EXIST: &str = "DomainObjectsExist";

/// What a pass came to.
pub(crate) enum Verdict<'a> {
    /// Everything that is wanted now was compared and applied, or tried.
    Applied(&'a Applied),
    /// It did not get so far.
    Stopped(&'a Stop),
    /// Left alone, by whose word.
    Paused(&'a str),
    /// On the way out.
    Terminating(&'a Stop),
}

/// One line of the table.
struct Row {
    ready: bool,
    synced: bool,
    healthy: Option<bool>,
    progressing: bool,
    stalled: bool,
    reason: String,
    message: String,
    /// Of Healthy, where it differs.
    health: String,
    /// What stays although it is not wanted any more.
    kept: String,
}

impl Row {
    fn stopped(stop: &Stop) -> Self {
        Self {
            ready: false,
            synced: false,
            healthy: None,
            progressing: !stop.is_stalled(),
            stalled: stop.is_stalled(),
            reason: stop.reason().to_owned(),
            message: stop.message().to_owned(),
            health: "not observed".to_owned(),
            kept: String::new(),
        }
    }

    fn applied(applied: &Applied) -> Self {
        let healthy = applied.health.is_ready();
        let health = match &applied.health {
            Health::Ready => "all objects are ready".to_owned(),
            Health::Progressing(why) | Health::Failed(why) => why.to_string(),
            Health::Terminating => "it is being deleted".to_owned(),
        };
        if let Some(failure) = applied.failures.first() {
            let others = match applied.failures.len() - 1 {
                0 => String::new(),
                others => format!(" (and {others} more)"),
            };
            let stalled = needs_somebody(failure);
            let message = format!("{}{others}", failure.message);
            let reason = failure.reason.to_owned();
            // What does not exist cannot be healthy.
            let health = if healthy {
                "not everything that is wanted could be applied".to_owned()
            } else {
                health
            };
            let (healthy, progressing) = (Some(false), !stalled);
            return Self {
                ready: false,
                synced: false,
                healthy,
                progressing,
                stalled,
                reason,
                message,
                health,
                kept: String::new(),
            };
        }
        if let Some(wait) = applied.waiting.first() {
            let message = format!("waiting for {}: {}", wait.on, wait.why);
            let reason = "WaitingForInput".to_owned();
            let healthy = Some(healthy);
            return Self {
                ready: false,
                synced: false,
                healthy,
                progressing: true,
                stalled: false,
                reason,
                message,
                health,
                kept: String::new(),
            };
        }
        let failed = matches!(applied.health, Health::Failed(_));
        let ready = healthy && applied.complete;
        let reason = match (ready, failed) {
            (true, _) => service::RECONCILE_SUCCESS,
            (false, true) => "ObjectFailed",
            (false, false) => service::RECONCILING,
        };
        // A provider may call itself healthy before everything is there.
        let message = match applied.missing.first() {
            Some(missing) if healthy => missing.clone(),
            _ => health.clone(),
        };
        Self {
            ready,
            synced: applied.complete,
            healthy: Some(healthy),
            progressing: !ready && !failed,
            stalled: failed,
            reason: reason.to_owned(),
            message,
            health,
            kept: applied.kept.join("; "),
        }
    }

    fn conditions(&self) -> Vec<Observed> {
        let observed = |type_: &str, status: Option<bool>, reason: &str, message: &str| Observed {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let cause = |holds: bool| {
            if holds {
                (self.reason.as_str(), self.message.as_str())
            } else {
                ("", "")
            }
        };
        let applied = "everything that is wanted is applied";
        let kept = format!("{applied}; {}", self.kept);
        let synced = match (self.synced, self.kept.as_str()) {
            (true, "") => ("", applied),
            (true, _) => (DOMAIN_OBJECTS_EXIST, kept.as_str()),
            (false, _) => cause(true),
        };
        let (progressing, stalled) = (cause(self.progressing), cause(self.stalled));
        vec![
            observed(READY, Some(self.ready), &self.reason, &self.message),
            observed(SYNCED, Some(self.synced), synced.0, synced.1),
            observed(HEALTHY, self.healthy, "", &self.health),
            observed(PROGRESSING, Some(self.progressing), progressing.0, progressing.1),
            observed(STALLED, Some(self.stalled), stalled.0, stalled.1),
        ]
    }
}

/// The whole status that a verdict makes.
pub(crate) fn status(
    verdict: &Verdict<'_>,
    live: &ServiceStatus,
    generation: i64,
    now: Timestamp,
) -> ServiceStatus {
    let (row, phase) = match verdict {
        Verdict::Applied(applied) => {
            let row = Row::applied(applied);
            let phase = if row.ready {
                phase::READY
            } else {
                phase::PROGRESSING
            };
            (row, phase)
        }
        Verdict::Stopped(stop) => (Row::stopped(stop), phase::PROGRESSING),
        Verdict::Terminating(stop) => (Row::stopped(stop), phase::TERMINATING),
        Verdict::Paused(by) => return paused(by, live, generation, now),
    };
    ServiceStatus {
        observed_generation: generation,
        phase: phase.to_owned(),
        conditions: merge_conditions(&live.conditions, &row.conditions(), generation, now),
    }
}

/// Whether it is Ready and was not before: since when, if that is known.
pub(crate) fn became_ready(before: &ServiceStatus, after: &ServiceStatus) -> Option<Option<Timestamp>> {
    let ready = |status: &ServiceStatus| {
        let found = status.conditions.iter().find(|it| it.type_ == READY)?;
        Some((found.status == "True", found.last_transition_time.0))
    };
    match (ready(before), ready(after)) {
        (Some((false, since)), Some((true, _))) => Some(Some(since)),
        (None, Some((true, _))) => Some(None),
        _ => None,
    }
}

/// What is known of the service stays said; nobody works on it, and nobody looks whether it is as it is wanted.
fn paused(by: &str, live: &ServiceStatus, generation: i64, now: Timestamp) -> ServiceStatus {
    let row = Row {
        ready: false,
        synced: false,
        healthy: None,
        progressing: false,
        stalled: false,
        reason: "Paused".to_owned(),
        message: format!("{by}: nothing is applied or repaired until the annotation is removed"),
        health: "not observed".to_owned(),
        kept: String::new(),
    };
    let known = |type_: &str| live.conditions.iter().find(|it| it.type_ == type_).cloned();
    let conditions = merge_conditions(&live.conditions, &row.conditions(), generation, now)
        .into_iter()
        .map(|new| match new.type_.as_str() {
            READY | HEALTHY => known(&new.type_).unwrap_or(new),
            _ => new,
        });
    ServiceStatus {
        observed_generation: live.observed_generation,
        phase: if live.phase.is_empty() {
            phase::PROGRESSING.to_owned()
        } else {
            live.phase.clone()
        },
        conditions: conditions.collect(),
    }
}

/// What changed for somebody who looks only at Ready: (worse, reason, message).
pub(crate) fn transition(before: &ServiceStatus, after: &ServiceStatus) -> Option<(bool, String, String)> {
    let find =
        |status: &ServiceStatus, type_: &str| status.conditions.iter().find(|it| it.type_ == type_).cloned();
    let (old, new) = (find(before, READY), find(after, READY)?);
    let same = |old: &Condition| old.status == new.status && old.reason == new.reason;
    if old.as_ref().is_some_and(same) {
        return None;
    }
    let stalled = find(after, STALLED).is_some_and(|stalled| stalled.status == "True");
    Some((stalled, new.reason, new.message))
}

/// What has to stay since now although it is not wanted any more, in words.
pub(crate) fn kept(before: &ServiceStatus, after: &ServiceStatus) -> Option<String> {
    let kept = |status: &ServiceStatus| {
        let of = |it: &&Condition| it.type_ == SYNCED && it.status == "True";
        let synced = status.conditions.iter().find(of)?;
        (synced.reason == DOMAIN_OBJECTS_EXIST).then(|| synced.message.clone())
    };
    kept(after).filter(|_| kept(before).is_none())
}

#[cfg(test)]
mod tests;
