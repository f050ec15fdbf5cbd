//! Towards a ControlPlane that can be used: namespace → ClusterRequest → AccessRequests → users' Secrets. Each step finds
//! out one part of the status; a step that must wait does not stop those that need not.
use super::{
    conditions::{Conditions, Side},
    desired::{self, Plan},
    former::Whose,
    reconcile::Reconcile,
};
use crate::{ensure::is_news, meta::is_deleting, onboarding::policies};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use openmcp_api::{
    Cluster, ClusterRequest, ControlPlane,
    common::{Endpoint, LocalObjectReference},
    conditions::{
        control_plane::{ALL_ACCESS_READY, CLUSTER_CONDITIONS_SYNCED, CLUSTER_REQUEST_READY, META, cluster},
        find, reasons,
    },
    keys::{annotations, finalizers, labels},
};
use openmcp_reconcile::Fault;
use std::{collections::BTreeMap, sync::Arc};

/// The reason of a condition that waits for a ClusterProvider; its own reasons are not bounded.
pub(super) const WAITING_FOR_CLUSTER: &str = "WaitingForCluster";

/// What was found out on the way.
#[derive(Default)]
pub(super) struct Found {
    pub conditions: Conditions,
    pub access: BTreeMap<String, LocalObjectReference>,
    pub endpoints: Vec<Endpoint>,
}

/// Why the way ends here for now. The condition is set already.
pub(super) enum Stop {
    Waiting,
    Failed(Fault),
}

impl Reconcile {
    /// Does what can be done now.
    pub(super) async fn create(&self, control_plane: &ControlPlane, found: &mut Found) -> Result<(), Fault> {
        let plan = Plan::new(control_plane);
        let stopped = self.steps(&plan, found).await;
        match stopped {
            Ok(()) | Err(Stop::Waiting) => Ok(()),
            Err(Stop::Failed(fault)) => Err(fault),
        }
    }

    async fn steps(&self, plan: &Plan<'_>, found: &mut Found) -> Result<(), Stop> {
        name_unusable(plan, &mut found.conditions);
        self.prepare(plan, &mut found.conditions).await?;
        let request = self.request(plan, &mut found.conditions).await?;
        if let Some(cluster) = self.cluster(&request, &mut found.conditions) {
            found.endpoints = desired::exposed(
                &cluster.status.clone().unwrap_or_default().endpoints,
                &self.config.exposed_endpoints,
            );
        }
        self.accesses(plan, found).await
    }

    /// Finalizers and the namespace on the platform.
    async fn prepare(&self, plan: &Plan<'_>, conditions: &mut Conditions) -> Result<(), Stop> {
        if let Some(purpose) = plan
            .purpose_override()
            .filter(|p| !policies::is_allowed_purpose(p))
        {
            conditions.no(META, reasons::CONFIGURATION_PROBLEM, format!("the label {} asks for the purpose {purpose:?}: a ControlPlane may only ask for purposes that contain 'mcp'", labels::PURPOSE));
            return Err(Stop::Waiting);
        }
        let name = &plan.platform_namespace;
        let live = self.vacated(plan, conditions).await?;
        let ensured = {
            let desired = plan.namespace_object(&self.onboarding.identity);
            self.apply.ensure(live.as_deref(), desired).await
        };
        step(ensured, META, Side::Platform, conditions)?;
        conditions.yes(META, format!("platform namespace {name}"));
        Ok(())
    }

    /// The platform namespace as it is, once nobody else is in it.
    async fn vacated(
        &self,
        plan: &Plan<'_>,
        conditions: &mut Conditions,
    ) -> Result<Option<Arc<Namespace>>, Stop> {
        let name = &plan.platform_namespace;
        let live = self.platform.namespaces.get("", name);
        if let Some(live) = live.as_ref().filter(|live| !plan.owns(live.labels())) {
            let message = format!(
                "the platform namespace {name} does not belong to this ControlPlane (its labels say {}): nothing is touched",
                whose(live.labels())
            );
            conditions.no(META, reasons::INTERNAL_ERROR, message);
            return Err(Stop::Waiting);
        }
        match self.whose(plan) {
            Some(Whose::Former(uid)) => {
                self.finish_former(plan, uid, conditions).await?;
                return Ok(None);
            }
            Some(Whose::Elsewhere(uid)) => {
                let message = format!(
                    "the platform namespace {name} was made for a ControlPlane of this name on another onboarding cluster (UID {uid}): nothing is touched. A platform owner hands it over by `kubectl annotate namespace {name} {}-`",
                    annotations::CONTROL_PLANE_UID
                );
                conditions.no(META, reasons::CONFIGURATION_PROBLEM, message);
                return Err(Stop::Waiting);
            }
            Some(Whose::Its | Whose::Unrecorded) | None => {}
        }
        if live.as_deref().is_some_and(is_deleting) {
            conditions.no(META, reasons::WAITING_FOR_NAMESPACE_DELETION, format!("the platform namespace {name}, of an earlier ControlPlane of this name, is still being deleted"));
            return Err(Stop::Waiting);
        }
        Ok(live)
    }

    async fn request(
        &self,
        plan: &Plan<'_>,
        conditions: &mut Conditions,
    ) -> Result<Arc<ClusterRequest>, Stop> {
        let at = format!("ClusterRequest {}/{}", plan.platform_namespace, plan.name);
        let live = self.platform.requests.get(&plan.platform_namespace, &plan.name);
        if live.as_deref().is_some_and(is_deleting) {
            conditions.no(
                CLUSTER_REQUEST_READY,
                reasons::WAITING_FOR_CLUSTER_REQUEST,
                format!("{at} is being deleted; it is made again afterwards"),
            );
            return Err(Stop::Waiting);
        }
        // A request's spec cannot change: the purpose that it was made with stays.
        let purpose = match &live {
            Some(live) => &live.spec.purpose,
            None => plan.purpose_override().unwrap_or(&self.config.cluster_purpose),
        };
        let onboarding_namespace = self.onboarding.namespaces.get("", &plan.namespace);
        let desired = plan.cluster_request(purpose, onboarding_namespace.as_deref());
        let ensured = self.apply.ensure(live.as_deref(), desired).await;
        step(ensured, CLUSTER_REQUEST_READY, Side::Platform, conditions)?;
        let Some(live) = live.filter(|r| r.is_granted()) else {
            let live = self.platform.requests.get(&plan.platform_namespace, &plan.name);
            let why = live
                .and_then(|r| r.status.clone())
                .and_then(|s| find(&s.conditions, "Granted").map(|c| c.message.clone()));
            let message = match why {
                Some(why) => format!("{at} is not granted: {why}"),
                None => format!("{at} is not granted yet"),
            };
            conditions.no(
                CLUSTER_REQUEST_READY,
                reasons::WAITING_FOR_CLUSTER_REQUEST,
                message,
            );
            // AccessRequests can be made meanwhile: they wait for the request themselves.
            self.early_accesses(plan, conditions).await?;
            return Err(Stop::Waiting);
        };
        conditions.yes(CLUSTER_REQUEST_READY, format!("{at} is granted"));
        Ok(live)
    }

    /// Shows the Cluster's own conditions. Returns the Cluster.
    fn cluster(&self, request: &ClusterRequest, conditions: &mut Conditions) -> Option<Arc<Cluster>> {
        let at = request.granted_cluster()?;
        let Some(live) = self.platform.cluster(at) else {
            conditions.no(
                CLUSTER_CONDITIONS_SYNCED,
                reasons::INTERNAL_ERROR,
                format!("Cluster {at} does not exist"),
            );
            return None;
        };
        conditions.yes(CLUSTER_CONDITIONS_SYNCED, format!("Cluster {at}"));
        if let Some(why) = desired::not_up(&live) {
            conditions.no(
                cluster("Ready"),
                WAITING_FOR_CLUSTER,
                format!("Cluster {at} {why}"),
            );
        }
        for condition in live.status.iter().flat_map(|s| &s.conditions) {
            let seen = crate::report::observed(condition);
            // Behind the prefix a condition's type may have no `/`.
            let type_ = cluster(&condition.type_.replace('/', "_"));
            conditions.set(type_, seen.status, &seen.reason, seen.message);
        }
        Some(live)
    }

    /// The finalizers that a living ControlPlane bears: its own, and its primary request's.
    pub(super) fn finalizers(plan: &Plan<'_>) -> [String; 2] {
        [
            finalizers::CONTROL_PLANE.to_owned(),
            finalizers::on_control_plane(&plan.name),
        ]
    }
}

/// Tells which tokens are not served because of their names.
pub(super) fn name_unusable(plan: &Plan<'_>, conditions: &mut Conditions) {
    let names = plan.unusable_tokens();
    if let Some(first) = names.first() {
        let message = format!(
            "spec.iam.tokens: {first:?} cannot be the name of a token ({} of {} are like that): lower-case letters, digits, '-', '_' and '.' are allowed, with a letter or a digit at both ends and beside each '.'",
            names.len(),
            plan.object.spec.iam.tokens.len()
        );
        conditions.no(ALL_ACCESS_READY, reasons::CONFIGURATION_PROBLEM, message);
    }
}

/// A failed step is told in its condition, unless it is about to pass.
pub(super) fn step<T>(
    result: Result<T, Fault>,
    type_: impl Into<String>,
    side: Side,
    conditions: &mut Conditions,
) -> Result<T, Stop> {
    result.map_err(|fault| {
        if is_news(&fault) {
            conditions.failed(type_, side, &fault);
        }
        Stop::Failed(fault)
    })
}

/// Whose namespace it is, by its labels.
fn whose(on: &BTreeMap<String, String>) -> String {
    match (on.get(labels::MCP_NAMESPACE), on.get(labels::MCP_NAME)) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => "nothing of a ControlPlane".to_owned(),
    }
}
