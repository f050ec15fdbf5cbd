use super::*;
use crate::desired::Wait;
use openmcp_reconcile::Fault;

fn applied() -> Applied {
    Applied {
        health: Health::Ready,
        missing: Vec::new(),
        complete: true,
        kept: Vec::new(),
        waiting: Vec::new(),
        failures: Vec::new(),
        wake: None,
    }
}

fn shown(verdict: &Verdict<'_>) -> String {
    let status = status(verdict, &ServiceStatus::default(), 3, Timestamp::UNIX_EPOCH);
    let conditions = status
        .conditions
        .iter()
        .map(|it| format!("{}={}", it.type_, it.status));
    let reason = &status.conditions[0].reason;
    format!(
        "{} {reason} {}",
        status.phase,
        conditions.collect::<Vec<_>>().join(" ")
    )
}

#[test]
fn healthy_objects_make_a_ready_service() {
    assert_eq!(
        shown(&Verdict::Applied(&applied())),
        "Ready ReconcileSuccess Ready=True Synced=True Healthy=True Progressing=False Stalled=False"
    );
}

#[test]
fn objects_on_their_way_are_synced_but_not_healthy() {
    let health = Health::Progressing("Deployment x: 0 of 1 pods are available".into());
    let applied = Applied { health, ..applied() };
    assert_eq!(
        shown(&Verdict::Applied(&applied)),
        "Progressing Reconciling Ready=False Synced=True Healthy=False Progressing=True Stalled=False"
    );
}

#[test]
fn what_is_missing_forbids_ready_whatever_the_provider_says() {
    let missing = vec!["2 more objects are made when these are ready".to_owned()];
    let applied = Applied {
        complete: false,
        missing,
        ..applied()
    };
    assert_eq!(
        shown(&Verdict::Applied(&applied)),
        "Progressing Reconciling Ready=False Synced=False Healthy=True Progressing=True Stalled=False"
    );
}

#[test]
fn what_has_to_stay_is_told_once_and_keeps_no_service_from_being_ready() {
    let before = applied();
    let kept = vec!["x is not wanted any more; it stays".to_owned()];
    let applied = Applied { kept, ..applied() };
    let verdict = Verdict::Applied(&applied);
    assert_eq!(
        shown(&verdict),
        "Ready ReconcileSuccess Ready=True Synced=True Healthy=True Progressing=False Stalled=False"
    );
    let after =
        |verdict: &Verdict<'_>, before: &ServiceStatus| status(verdict, before, 3, Timestamp::UNIX_EPOCH);
    let before = after(&Verdict::Applied(&before), &ServiceStatus::default());
    let now = after(&verdict, &before);
    let synced = &now.conditions[1];
    assert_eq!((&*synced.type_, &*synced.reason), (SYNCED, DOMAIN_OBJECTS_EXIST));
    let told = super::kept(&before, &now);
    assert!(told.is_some_and(|told| told.ends_with("x is not wanted any more; it stays")));
    assert!(super::kept(&now, &now).is_none() && super::kept(&now, &before).is_none());
}

#[test]
fn a_wait_forbids_ready() {
    let waiting = vec![Wait {
        on: "ConfigMap x".into(),
        why: "it does not exist".into(),
    }];
    let applied = Applied { waiting, ..applied() };
    assert_eq!(
        shown(&Verdict::Applied(&applied)),
        "Progressing WaitingForInput Ready=False Synced=False Healthy=True Progressing=True Stalled=False"
    );
}

#[test]
fn wrong_input_is_stalled_and_a_passing_failure_is_not() {
    let invalid = Stop::Fault(Fault::invalid("UnknownVersion", "no version 9"));
    assert_eq!(
        shown(&Verdict::Stopped(&invalid)),
        "Progressing UnknownVersion Ready=False Synced=False Healthy=Unknown Progressing=False Stalled=True"
    );
    let passing = Stop::Fault(Fault::retry("Conflict", "changed"));
    assert_eq!(
        shown(&Verdict::Stopped(&passing)),
        "Progressing Conflict Ready=False Synced=False Healthy=Unknown Progressing=True Stalled=False"
    );
}

#[test]
fn a_blocked_deletion_is_terminating_and_stalled() {
    let stop = Stop::stuck("DomainObjectsExist", "a: delete it");
    assert_eq!(
        shown(&Verdict::Terminating(&stop)),
        "Terminating DomainObjectsExist Ready=False Synced=False Healthy=Unknown Progressing=False Stalled=True"
    );
}

#[test]
fn what_is_paused_from_its_first_moment_on_has_every_condition() {
    assert_eq!(
        shown(&Verdict::Paused("by annotation")),
        "Progressing Paused Ready=False Synced=False Healthy=Unknown Progressing=False Stalled=False"
    );
}

#[test]
fn a_pause_keeps_what_is_known() {
    let ready = status(
        &Verdict::Applied(&applied()),
        &ServiceStatus::default(),
        3,
        Timestamp::UNIX_EPOCH,
    );
    let paused = status(
        &Verdict::Paused("by annotation"),
        &ready,
        4,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!((paused.phase.as_str(), paused.observed_generation), ("Ready", 3));
    assert!(transition(&ready, &paused).is_none());
    let holds = |type_: &str| {
        let found = paused.conditions.iter().find(|it| it.type_ == type_);
        found.map(|it| it.status.clone())
    };
    let kept = [READY, SYNCED, HEALTHY, PROGRESSING, STALLED].map(holds);
    let expected = ["True", "False", "True", "False", "False"];
    assert_eq!(kept, expected.map(|status| Some(status.to_owned())));
}
