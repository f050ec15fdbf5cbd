//! One reconcile of one ControlPlane: operation annotation → finalizers → create or delete → status.
use super::{
    NAME,
    conditions::Conditions,
    create::{Found, WAITING_FOR_CLUSTER},
    delete::is_kept,
    desired::Plan,
    former::Whose,
};
use crate::{
    config::ControlPlanes,
    ensure::Applier,
    meta::{self, Operation, is_deleting},
    onboarding::Onboarding,
    platform::Platform,
    report::{self, Report},
};
use jiff::Timestamp;
use kube::Api;
use openmcp_api::{
    ControlPlane,
    conditions::{
        control_plane::{ALL_ACCESS_READY, META},
        reasons as r,
    },
    control_plane::ControlPlaneStatus,
    keys::{finalizers, labels},
};
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler,
    apply::Mark,
    events::Note,
    status::{Observed, apply_status, merge_conditions},
};
use serde_json::json;
use std::sync::Arc;

/// Reconciles ControlPlanes.
pub(crate) struct Reconcile {
    pub(super) platform: Arc<Platform>,
    pub(super) onboarding: Arc<Onboarding>,
    pub(super) config: ControlPlanes,
    pub(super) apply: Applier,
    pub(super) apply_onboarding: Applier,
}

impl Reconcile {
    pub(crate) fn new(platform: Arc<Platform>, onboarding: Arc<Onboarding>, config: ControlPlanes) -> Self {
        let mark = Mark {
            label: labels::MANAGED_BY,
            value: labels::MANAGED_BY_CONTROL_PLANE.to_owned(),
        };
        let apply = Applier {
            client: platform.client.clone(),
            manager: NAME,
            mark,
        };
        let apply_onboarding = Applier {
            client: onboarding.client.clone(),
            ..apply.clone()
        };
        Self {
            platform,
            onboarding,
            config,
            apply,
            apply_onboarding,
        }
    }

    fn api(&self, namespace: &str) -> Api<ControlPlane> {
        Api::namespaced(self.onboarding.client.clone(), namespace)
    }
}

impl Reconciler for Reconcile {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let Some(control_plane) = self.onboarding.control_planes.get(&key.namespace, &key.name) else {
            return self.leftovers(key).await;
        };
        let api = self.api(&key.namespace);
        match meta::operation(control_plane.as_ref()) {
            Some(Operation::Reconcile) => {
                meta::take_operation(&api, control_plane.as_ref()).await?;
                return Ok(Outcome::Settled);
            }
            // Tenants write ControlPlanes: `ignore` would let them freeze the platform's own work (contract §4).
            Some(Operation::Ignore) | None => {}
        }
        if is_deleting(control_plane.as_ref()) {
            return self.remove(&api, &control_plane).await;
        }
        let plan = Plan::new(&control_plane);
        if let Some(problem) = plan.unusable_name() {
            let mut found = Found::default();
            found.conditions.no(META, r::CONFIGURATION_PROBLEM, problem);
            self.write(&api, &control_plane, found, false).await?;
            return Ok(Outcome::Settled);
        }
        let wanted = Self::finalizers(&plan);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let Some(control_plane) = meta::add_finalizers(&api, control_plane.as_ref(), &wanted).await? else {
            return Ok(Outcome::Settled);
        };
        let mut found = Found::default();
        let result = self.create(&control_plane, &mut found).await;
        if result.is_ok() || !found.conditions.all().is_empty() {
            self.write(&api, &control_plane, found, result.is_err()).await?;
        }
        result?;
        Ok(self
            .config
            .reconcile_every
            .map_or(Outcome::Settled, Outcome::Wake))
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let control_plane = self.onboarding.control_planes.get(&key.namespace, &key.name);
        report::cut_off(&self.onboarding.events, control_plane.as_deref(), fault);
    }
}

impl Reconcile {
    async fn remove(&self, api: &Api<ControlPlane>, control_plane: &ControlPlane) -> Result<Outcome, Fault> {
        let whose = self.whose(&Plan::new(control_plane));
        let made = matches!(whose, Some(Whose::Its | Whose::Former(_)));
        if !made && !meta::has_finalizer(control_plane, finalizers::CONTROL_PLANE) {
            return Ok(Outcome::Settled);
        }
        let mut conditions = Conditions::default();
        let gone = self.delete(control_plane, &mut conditions).await;
        if matches!(gone, Ok(true)) {
            let ours =
                |f: &str| f == finalizers::CONTROL_PLANE || f.starts_with(finalizers::CLUSTER_REQUEST_PREFIX);
            meta::remove_finalizers(api, control_plane, ours).await?;
            return Ok(Outcome::Settled);
        }
        let live = control_plane.status.clone().unwrap_or_default();
        conditions.keep(&live.conditions, is_kept);
        let found = Found {
            conditions,
            access: live.access,
            endpoints: live.endpoints,
        };
        self.write(api, control_plane, found, false).await?;
        gone?;
        Ok(Outcome::Settled)
    }

    /// Writes the status if it differs. After a failure that stopped the way early, what was known stays.
    async fn write(
        &self,
        api: &Api<ControlPlane>,
        control_plane: &ControlPlane,
        found: Found,
        failed: bool,
    ) -> Result<(), Fault> {
        let live = control_plane.status.clone().unwrap_or_default();
        let Found {
            mut conditions,
            mut access,
            mut endpoints,
        } = found;
        if failed {
            conditions.keep(&live.conditions, |_| true);
            access.extend(live.access.clone());
            endpoints = if endpoints.is_empty() {
                live.endpoints.clone()
            } else {
                endpoints
            };
        }
        let generation = control_plane.metadata.generation.unwrap_or_default();
        let phase = conditions.phase(is_deleting(control_plane));
        self.announce(control_plane, &live, conditions.all(), phase);
        let desired = ControlPlaneStatus {
            observed_generation: generation,
            phase: phase.to_owned(),
            conditions: merge_conditions(&live.conditions, conditions.all(), generation, Timestamp::now()),
            access,
            endpoints,
        };
        apply_status(api, control_plane, &json!(live), &desired, NAME)
            .await
            .map(drop)
    }

    /// Events on transitions: of the phase, and of each condition that comes not to hold.
    fn announce(
        &self,
        control_plane: &ControlPlane,
        live: &ControlPlaneStatus,
        next: &[Observed],
        phase: &'static str,
    ) {
        let events = &self.onboarding.events;
        let report = Report {
            events,
            action: "Reconcile",
        };
        let tells = |c: &&Observed| c.status == Some(false) && c.type_ != ALL_ACCESS_READY;
        for observed in next.iter().filter(tells) {
            report.transition(
                control_plane,
                &live.conditions,
                observed,
                event_reason(&observed.reason),
            );
        }
        if live.phase != phase {
            let note = next.iter().find(|c| c.status != Some(true)).map_or_else(
                || "every condition is True".to_owned(),
                |c| format!("{}: {}", c.type_, c.message),
            );
            let note = Note {
                warning: false,
                reason: phase,
                action: "Reconcile",
                note,
            };
            events.publish(kube::Resource::object_ref(control_plane, &()), note);
        }
    }
}

/// The Event's reason: the condition's, where it is one of ours; a Cluster's own reasons are not bounded.
fn event_reason(reason: &str) -> &'static str {
    const OURS: [&str; 10] = [
        r::PLATFORM_CLUSTER_INTERACTION_PROBLEM,
        r::ONBOARDING_CLUSTER_INTERACTION_PROBLEM,
        r::CONFIGURATION_PROBLEM,
        r::INTERNAL_ERROR,
        r::WAITING_FOR_NAMESPACE_DELETION,
        r::WAITING_FOR_CLUSTER_REQUEST,
        r::WAITING_FOR_CLUSTER_REQUEST_DELETION,
        r::WAITING_FOR_ACCESS_REQUEST,
        r::WAITING_FOR_ACCESS_REQUEST_DELETION,
        r::WAITING_FOR_SERVICE_DELETION,
    ];
    OURS.into_iter()
        .find(|ours| *ours == reason)
        .unwrap_or(WAITING_FOR_CLUSTER)
}
