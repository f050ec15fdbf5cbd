//! Towards a ControlPlane that can be used: namespace → ClusterRequest → AccessRequests → users' Secrets. Each step finds
//! out one part of the status; a step that must wait does not stop those that need not.
use super::{
    conditions::{Conditions, Side},
    desired::{self, Plan, Wanted},
    reconcile::Reconcile,
};
use crate::{
    ensure::is_news,
    meta::{self, is_deleting},
    onboarding::policies,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use openmcp_api::{
    AccessRequest, Cluster, ClusterRequest, ControlPlane,
    common::{Endpoint, LocalObjectReference},
    conditions::{
        control_plane::{
            ACCESS_READY_PREFIX, ALL_ACCESS_READY, CLUSTER_CONDITIONS_SYNCED, CLUSTER_REQUEST_READY, META,
            access_ready, cluster,
        },
        find, reasons,
    },
    keys::{finalizers, labels},
};
use openmcp_reconcile::Fault;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
        let live = self.platform.namespaces.get("", name);
        if let Some(live) = &live {
            if !plan.owns(live.labels()) {
                let message = format!(
                    "the platform namespace {name} does not belong to this ControlPlane (its labels say {}): nothing is touched",
                    whose(live.labels())
                );
                conditions.no(META, reasons::INTERNAL_ERROR, message);
                return Err(Stop::Waiting);
            }
            if is_deleting(live.as_ref()) {
                conditions.no(META, reasons::WAITING_FOR_NAMESPACE_DELETION, format!("the platform namespace {name}, of an earlier ControlPlane of this name, is still being deleted"));
                return Err(Stop::Waiting);
            }
        }
        let ensured = self.apply.ensure(live.as_deref(), plan.namespace_object()).await;
        step(ensured, META, Side::Platform, conditions)?;
        conditions.yes(META, format!("platform namespace {name}"));
        Ok(())
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
        for condition in live.status.iter().flat_map(|s| &s.conditions) {
            let seen = crate::report::observed(condition);
            conditions.set(cluster(&condition.type_), seen.status, &seen.reason, seen.message);
        }
        Some(live)
    }

    async fn early_accesses(&self, plan: &Plan<'_>, conditions: &mut Conditions) -> Result<(), Stop> {
        let mut keys = BTreeSet::new();
        for wanted in plan.accesses(self.config.default_oidc_provider.as_ref()) {
            if !keys.insert(wanted.key.clone()) {
                continue;
            }
            let live = self
                .platform
                .accesses
                .get(&plan.platform_namespace, &wanted.access_request);
            let ensured = self
                .apply
                .ensure(live.as_deref(), plan.access_request(&wanted))
                .await;
            step(ensured, access_ready(&wanted.key), Side::Platform, conditions)?;
        }
        Ok(())
    }

    async fn accesses(&self, plan: &Plan<'_>, found: &mut Found) -> Result<(), Stop> {
        let wanted = plan.accesses(self.config.default_oidc_provider.as_ref());
        let mut failed = None;
        let mut keys = BTreeSet::new();
        for one in &wanted {
            if !keys.insert(&one.key) {
                let message = format!(
                    "spec.iam names {} more than once: only the first is served",
                    one.key
                );
                found
                    .conditions
                    .no(access_ready(&one.key), reasons::CONFIGURATION_PROBLEM, message);
                continue;
            }
            match self.access(plan, one, &mut found.conditions).await {
                Ok(()) => {
                    let secret = LocalObjectReference::new(one.user_secret.clone());
                    found.access.insert(one.key.clone(), secret);
                }
                Err(Stop::Waiting) => {}
                Err(Stop::Failed(fault)) => failed = Some(fault),
            }
        }
        let removed = self.remove_others(plan, &wanted, &mut found.conditions).await;
        step(removed, ALL_ACCESS_READY, Side::Platform, &mut found.conditions)?;
        match found.conditions.first_not_true(ACCESS_READY_PREFIX) {
            Some(first) => {
                let (reason, message) = (
                    first.reason.clone(),
                    format!("{}: {}", first.type_, first.message),
                );
                found.conditions.no(ALL_ACCESS_READY, &reason, message);
            }
            None => found.conditions.yes(
                ALL_ACCESS_READY,
                format!("{} of {} accesses are ready", found.access.len(), wanted.len()),
            ),
        }
        failed.map_or(Ok(()), |fault| Err(Stop::Failed(fault)))
    }

    /// One access: its request, and the user's copy of what was granted.
    async fn access(
        &self,
        plan: &Plan<'_>,
        wanted: &Wanted,
        conditions: &mut Conditions,
    ) -> Result<(), Stop> {
        let type_ = access_ready(&wanted.key);
        let at = format!(
            "AccessRequest {}/{}",
            plan.platform_namespace, wanted.access_request
        );
        let live = self
            .platform
            .accesses
            .get(&plan.platform_namespace, &wanted.access_request);
        if live.as_deref().is_some_and(is_deleting) {
            conditions.no(
                type_,
                reasons::WAITING_FOR_ACCESS_REQUEST_DELETION,
                format!("{at} is being deleted; it is made again afterwards"),
            );
            return Err(Stop::Waiting);
        }
        let ensured = self
            .apply
            .ensure(live.as_deref(), plan.access_request(wanted))
            .await;
        step(ensured, type_.clone(), Side::Platform, conditions)?;
        let source = live.as_ref().and_then(|access| {
            let secret = access.granted_secret()?;
            self.platform
                .secrets
                .get(&plan.platform_namespace, secret)
                .filter(|s| s.kubeconfig().is_some())
        });
        let Some(source) = source else {
            let phase = live
                .as_ref()
                .and_then(|a| a.status.as_ref())
                .map_or("Pending", |s| s.phase.as_str());
            conditions.no(
                type_,
                reasons::WAITING_FOR_ACCESS_REQUEST,
                format!("{at} is {phase}{}", why_not(live.as_deref())),
            );
            return Err(Stop::Waiting);
        };
        let copy = self.onboarding.secrets.get(&plan.namespace, &wanted.user_secret);
        let ensured = self
            .apply_onboarding
            .ensure(copy.as_deref(), plan.user_secret(wanted, &source))
            .await;
        step(ensured, type_.clone(), Side::Onboarding, conditions)?;
        conditions.yes(type_, format!("kubeconfig in Secret {}", wanted.user_secret));
        Ok(())
    }

    /// Ends accesses that the spec does not ask for any more.
    async fn remove_others(
        &self,
        plan: &Plan<'_>,
        wanted: &[Wanted],
        conditions: &mut Conditions,
    ) -> Result<(), Fault> {
        let accesses: Api<AccessRequest> =
            Api::namespaced(self.platform.client.clone(), &plan.platform_namespace);
        for access in self.own_accesses(plan) {
            if wanted.iter().any(|w| w.access_request == access.name_any()) {
                continue;
            }
            meta::delete(&accesses, access.as_ref()).await?;
            conditions.no(
                access_ready(&key_of(access.labels())),
                reasons::WAITING_FOR_ACCESS_REQUEST_DELETION,
                format!(
                    "{} is not wanted any more and is being deleted",
                    meta::describe(access.as_ref())
                ),
            );
        }
        self.remove_user_secrets(plan, |name| wanted.iter().any(|w| w.user_secret == name))
            .await
            .map(drop)
    }

    /// The AccessRequests that were made for the ControlPlane itself (services' bear other labels).
    pub(super) fn own_accesses(&self, plan: &Plan<'_>) -> Vec<Arc<AccessRequest>> {
        let mut all = self.platform.accesses.all();
        all.retain(|a| a.namespace().as_deref() == Some(&plan.platform_namespace) && plan.owns(a.labels()));
        all
    }

    /// Deletes the users' Secrets of the ControlPlane, but for those to keep. Returns the names of those deleted.
    pub(super) async fn remove_user_secrets(
        &self,
        plan: &Plan<'_>,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Fault> {
        let mut removed = Vec::new();
        for secret in self.onboarding.secrets.all() {
            let name = secret.name_any();
            if secret.namespace().as_deref() != Some(&plan.namespace)
                || !plan.owns(secret.labels())
                || keep(&name)
            {
                continue;
            }
            let api: Api<Secret> = Api::namespaced(self.onboarding.client.clone(), &plan.namespace);
            let preconditions = Some(kube::api::Preconditions {
                uid: secret.uid(),
                resource_version: None,
            });
            match api
                .delete(
                    &name,
                    &kube::api::DeleteParams {
                        preconditions,
                        ..Default::default()
                    },
                )
                .await
            {
                Ok(_) => removed.push(name),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(Fault::api(
                        format!("delete Secret {}/{name}", plan.namespace),
                        &error,
                    ));
                }
            }
        }
        Ok(removed)
    }

    /// The finalizers that a living ControlPlane bears: its own, and its primary request's.
    pub(super) fn finalizers(plan: &Plan<'_>) -> [String; 2] {
        [
            finalizers::CONTROL_PLANE.to_owned(),
            finalizers::on_control_plane(&plan.name),
        ]
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

/// `oidc_<name>` or `token_<name>`, from an AccessRequest's labels.
fn key_of(on: &BTreeMap<String, String>) -> String {
    match (on.get(labels::OIDC_PROVIDER), on.get(labels::TOKEN_PROVIDER)) {
        (Some(name), _) => format!("oidc_{name}"),
        (None, name) => format!("token_{}", name.map_or("", String::as_str)),
    }
}

/// What an AccessRequest says about why it is not granted.
fn why_not(access: Option<&AccessRequest>) -> String {
    let conditions = access
        .and_then(|a| a.status.as_ref())
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    conditions
        .iter()
        .find(|c| c.status != "True")
        .map(|c| format!(": {}", c.message))
        .unwrap_or_default()
}

/// Whose namespace it is, by its labels.
fn whose(on: &BTreeMap<String, String>) -> String {
    match (on.get(labels::MCP_NAMESPACE), on.get(labels::MCP_NAME)) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => "nothing of a ControlPlane".to_owned(),
    }
}
