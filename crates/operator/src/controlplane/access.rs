//! Who may use a ControlPlane: an AccessRequest each, and the user's copy of what was granted.
use super::{
    conditions::{Conditions, Side},
    create::{Found, Stop, name_unusable, step},
    desired::{Plan, Wanted},
    reconcile::Reconcile,
};
use crate::meta::{self, is_deleting};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use openmcp_api::{
    AccessRequest,
    common::LocalObjectReference,
    conditions::{
        control_plane::{ACCESS_READY_PREFIX, ALL_ACCESS_READY, access_ready},
        reasons,
    },
    keys::labels,
};
use openmcp_reconcile::Fault;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Reconcile {
    /// The AccessRequests alone: they wait for the ClusterRequest themselves.
    pub(super) async fn early_accesses(
        &self,
        plan: &Plan<'_>,
        conditions: &mut Conditions,
    ) -> Result<(), Stop> {
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

    /// Every access that is asked for, and none besides.
    pub(super) async fn accesses(&self, plan: &Plan<'_>, found: &mut Found) -> Result<(), Stop> {
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
        name_unusable(plan, &mut found.conditions);
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
