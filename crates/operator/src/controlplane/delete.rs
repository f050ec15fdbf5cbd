//! A deleted ControlPlane, backwards: services → accesses and users' Secrets → ClusterRequests → namespace → finalizer.
//! A provider whose service object is gone already may still have something to remove: its Inventory says so. Every
//! step is level-based, so that a restart in the middle goes on where it was (known fault 23).
use super::{
    conditions::{Conditions, Side},
    create::{Stop, step},
    desired::Plan,
    former::Whose,
    reconcile::Reconcile,
};
use crate::{
    meta::{self, is_deleting},
    onboarding::registered,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use openmcp_api::{
    AccessRequest, ClusterRequest, ControlPlane,
    conditions::{
        control_plane::{
            ACCESS_READY_PREFIX, ALL_ACCESS_READY, ALL_CLUSTER_REQUESTS_DELETED, ALL_SERVICES_DELETED, META,
        },
        find, reasons,
    },
    keys::finalizers,
};
use openmcp_reconcile::Fault;

impl Reconcile {
    /// Does what can be done now. `Ok(true)`: nothing is left, the finalizers may go.
    pub(super) async fn delete(
        &self,
        control_plane: &ControlPlane,
        conditions: &mut Conditions,
    ) -> Result<bool, Fault> {
        let plan = Plan::new(control_plane);
        match self.backwards(&plan, conditions).await {
            Ok(()) => Ok(true),
            Err(Stop::Waiting) => Ok(false),
            Err(Stop::Failed(fault)) => Err(fault),
        }
    }

    pub(super) async fn backwards(&self, plan: &Plan<'_>, conditions: &mut Conditions) -> Result<(), Stop> {
        let left = self.delete_services(plan).await;
        let left = step(left, ALL_SERVICES_DELETED, Side::Onboarding, conditions)?;
        wait(
            left,
            ALL_SERVICES_DELETED,
            reasons::WAITING_FOR_SERVICE_DELETION,
            conditions,
        )?;
        if let None | Some(Whose::Elsewhere(_)) = self.whose(plan) {
            // What is on the platform under its name, if anything, is somebody else's.
            let secrets = self.remove_user_secrets(plan, |_| false).await;
            return step(secrets, ALL_ACCESS_READY, Side::Onboarding, conditions).map(drop);
        }
        let left = self.inventories(plan).await;
        let left = step(left, ALL_SERVICES_DELETED, Side::Platform, conditions)?;
        wait(
            left.clone(),
            ALL_SERVICES_DELETED,
            reasons::WAITING_FOR_SERVICE_DELETION,
            conditions,
        )
        // Nothing that is watched here changes with it.
        .map_err(|_| Stop::Failed(Fault::retry("WaitingForInventories", left.join(", "))))?;
        conditions.yes(
            ALL_SERVICES_DELETED,
            "no service object of this ControlPlane is left",
        );

        let left = self.delete_accesses(plan).await;
        let left = step(left, ALL_ACCESS_READY, Side::Platform, conditions)?;
        wait(
            left,
            ALL_ACCESS_READY,
            reasons::WAITING_FOR_ACCESS_REQUEST_DELETION,
            conditions,
        )?;
        let secrets = self.remove_user_secrets(plan, |_| false).await;
        step(secrets, ALL_ACCESS_READY, Side::Onboarding, conditions)?;
        conditions.yes(ALL_ACCESS_READY, "every access is taken back");

        let left = self.delete_requests(plan).await;
        let left = step(left, ALL_CLUSTER_REQUESTS_DELETED, Side::Platform, conditions)?;
        wait(
            left,
            ALL_CLUSTER_REQUESTS_DELETED,
            reasons::WAITING_FOR_CLUSTER_REQUEST_DELETION,
            conditions,
        )?;
        conditions.yes(
            ALL_CLUSTER_REQUESTS_DELETED,
            "no ClusterRequest of this ControlPlane is left",
        );

        let left = self.delete_namespace(plan).await;
        let left = step(left, META, Side::Platform, conditions)?;
        wait(left, META, reasons::WAITING_FOR_NAMESPACE_DELETION, conditions)
    }

    /// Deletes the object of each registered kind that bears the ControlPlane's name. A kind without a CRD has none.
    async fn delete_services(&self, plan: &Plan<'_>) -> Result<Vec<String>, Fault> {
        let mut left = Vec::new();
        for kind in registered(&self.platform.service_providers) {
            match self
                .onboarding
                .kinds
                .delete(&kind, &plan.namespace, &plan.name)
                .await?
            {
                Some(false) => {}
                Some(true) => left.push(format!(
                    "{} {}/{} (see its conditions)",
                    kind.kind, plan.namespace, plan.name
                )),
                None => left.push(format!("the list of all {}", kind.kind)),
            }
        }
        Ok(left)
    }

    async fn delete_accesses(&self, plan: &Plan<'_>) -> Result<Vec<String>, Fault> {
        let api: Api<AccessRequest> = Api::namespaced(self.platform.client.clone(), &plan.platform_namespace);
        let mut left = Vec::new();
        for access in self.own_accesses(plan) {
            meta::delete(&api, access.as_ref()).await?;
            left.push(meta::describe(access.as_ref()));
        }
        Ok(left)
    }

    /// Secondary requests first, each named by a finalizer on the ControlPlane; then the primary one.
    async fn delete_requests(&self, plan: &Plan<'_>) -> Result<Vec<String>, Fault> {
        let api: Api<ClusterRequest> =
            Api::namespaced(self.platform.client.clone(), &plan.platform_namespace);
        let named = plan
            .object
            .finalizers()
            .iter()
            .filter_map(|f| f.strip_prefix(finalizers::CLUSTER_REQUEST_PREFIX));
        let mut left = Vec::new();
        for name in named.filter(|name| *name != plan.name) {
            left.extend(self.delete_request(&api, plan, name).await?);
        }
        if left.is_empty() {
            left.extend(self.delete_request(&api, plan, &plan.name).await?);
        }
        Ok(left)
    }

    async fn delete_request(
        &self,
        api: &Api<ClusterRequest>,
        plan: &Plan<'_>,
        name: &str,
    ) -> Result<Option<String>, Fault> {
        let Some(request) = self.platform.requests.get(&plan.platform_namespace, name) else {
            return Ok(None);
        };
        meta::delete(api, request.as_ref()).await?;
        let why = request
            .status
            .as_ref()
            .and_then(|s| find(&s.conditions, "Granted"))
            .filter(|c| c.status != "True");
        Ok(Some(match why {
            Some(condition) => format!("{}: {}", meta::describe(request.as_ref()), condition.message),
            None => meta::describe(request.as_ref()),
        }))
    }

    /// The namespace goes only when it is this ControlPlane's.
    async fn delete_namespace(&self, plan: &Plan<'_>) -> Result<Vec<String>, Fault> {
        let Some(namespace) = self.platform.namespaces.get("", &plan.platform_namespace) else {
            return Ok(Vec::new());
        };
        if !is_deleting(namespace.as_ref()) {
            let api: Api<Namespace> = Api::all(self.platform.client.clone());
            meta::delete(&api, namespace.as_ref()).await?;
        }
        let blocked = namespace
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.status == "True");
        let why = blocked
            .and_then(|c| c.message.clone())
            .map(|m| format!(": {m}"))
            .unwrap_or_default();
        Ok(vec![format!(
            "the platform namespace {}{why}",
            plan.platform_namespace
        )])
    }
}

/// Ends the way where something is left, and names it.
fn wait(
    left: Vec<String>,
    type_: &'static str,
    reason: &str,
    conditions: &mut Conditions,
) -> Result<(), Stop> {
    if left.is_empty() {
        return Ok(());
    }
    conditions.no(
        type_,
        reason,
        format!("waiting for the deletion of {}", left.join(", ")),
    );
    Err(Stop::Waiting)
}

/// Conditions that a deletion does not look at again.
pub(super) fn is_kept(type_: &str) -> bool {
    !type_.starts_with(ACCESS_READY_PREFIX)
}
