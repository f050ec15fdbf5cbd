//! The effects of the plan on one AccessRequest.
use super::{
    NAME,
    plan::{self, Orphan, RESOLVED, Target},
};
use crate::{
    meta::{self, Operation, is_deleting},
    platform::Platform,
    report::{self, Report},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use openmcp_api::{
    clusters::{AccessRequest, AccessRequestStatus, Cluster},
    common::{ObjectReference, phase},
    conditions,
    keys::{finalizers, labels},
};
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler,
    events::{Note, Recorder},
    status::{Observed, apply_status, merge_conditions},
};
use serde_json::json;
use std::sync::Arc;

/// Reconciles AccessRequests.
pub(crate) struct Access {
    pub platform: Arc<Platform>,
    pub selector: Selector,
    pub events: Recorder,
}

impl Reconciler for Access {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let Some(access) = self.platform.accesses.get(&key.namespace, &key.name) else {
            return Ok(Outcome::Settled);
        };
        if !self.selector.matches(access.labels()) {
            return Ok(Outcome::Settled);
        }
        let api: Api<AccessRequest> = Api::namespaced(self.platform.client.clone(), &key.namespace);
        match meta::operation(access.as_ref()) {
            Some(Operation::Reconcile) => {
                meta::take_operation(&api, access.as_ref()).await?;
                return Ok(Outcome::Settled);
            }
            Some(Operation::Ignore) if !is_deleting(access.as_ref()) => return Ok(Outcome::Settled),
            Some(Operation::Ignore) | None => {}
        }
        let left = match plan::left_to_live(&access, Timestamp::now()) {
            Ok(left) => left.filter(|_| !is_deleting(access.as_ref())),
            Err(_) if is_deleting(access.as_ref()) => None,
            Err(invalid) => {
                let message = format!("spec.ttl: {invalid}");
                self.write(
                    &api,
                    &access,
                    Some(phase::DENIED),
                    Some(false),
                    "InvalidTtl",
                    message,
                )
                .await?;
                return Ok(Outcome::Settled);
            }
        };
        if left.is_some_and(|left| left.is_zero()) {
            let note = format!("its ttl is over: {} is deleted", meta::describe(access.as_ref()));
            self.events.publish(
                access.object_ref(),
                Note {
                    warning: false,
                    reason: "Expired",
                    action: "Expire",
                    note,
                },
            );
            meta::delete(&api, access.as_ref()).await?;
            return Ok(Outcome::Settled);
        }
        let outcome = self.hand_over(&api, &access).await?;
        Ok(match (outcome, left) {
            (Outcome::Settled, Some(left)) => Outcome::Wake(left),
            (outcome, _) => outcome,
        })
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let access = self.platform.accesses.get(&key.namespace, &key.name);
        report::cut_off(&self.events, access.as_deref(), fault);
    }
}

impl Access {
    async fn hand_over(&self, api: &Api<AccessRequest>, access: &AccessRequest) -> Result<Outcome, Fault> {
        let platform = &self.platform;
        let target = plan::resolve(
            access,
            |at| platform.requests.get(&at.namespace, &at.name),
            |at| platform.cluster(at),
            |name| platform.profiles.get("", name),
        );
        match target {
            Target::Found {
                cluster,
                provider,
                profile,
            } => {
                if !plan::is_addressed(access, &cluster, &provider, &profile)
                    && !self.address(api, access, &cluster, &provider, &profile).await?
                {
                    // The change wakes this key again, with the new generation.
                    return Ok(Outcome::Settled);
                }
                let message = format!("Cluster {cluster} is served by ClusterProvider {provider}");
                self.write(api, access, None, Some(true), "Resolved", message)
                    .await?;
            }
            Target::Waiting { reason, message } => {
                if let Some(outcome) = self.release_orphan(api, access).await? {
                    return Ok(outcome);
                }
                self.write(api, access, None, Some(false), reason, message)
                    .await?;
            }
            Target::Denied { reason, message } => {
                self.write(api, access, Some(phase::DENIED), Some(false), reason, message)
                    .await?;
            }
        }
        Ok(Outcome::Settled)
    }

    /// Writes where the request leads into spec and labels. Returns whether the generation stayed the same.
    async fn address(
        &self,
        api: &Api<AccessRequest>,
        access: &AccessRequest,
        cluster: &ObjectReference,
        provider: &str,
        profile: &str,
    ) -> Result<bool, Fault> {
        let mut change = json!({
            "metadata": {
                "resourceVersion": access.resource_version(), "uid": access.uid(),
                "labels": {labels::PROVIDER: provider, labels::PROFILE: profile},
            },
        });
        if access.spec.cluster_ref.is_none() {
            change["spec"] = json!({"clusterRef": cluster});
        }
        let params = PatchParams {
            field_manager: Some(NAME.to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch(&access.name_any(), &params, &Patch::Merge(change))
            .await
        {
            Ok(live) => Ok(live.metadata.generation == access.metadata.generation),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(Fault::api(format!("address {}", meta::describe(access)), &error)),
        }
    }

    /// A deleted AccessRequest whose Cluster is gone must not stay for ever because its provider cannot find the Cluster.
    async fn release_orphan(
        &self,
        api: &Api<AccessRequest>,
        access: &AccessRequest,
    ) -> Result<Option<Outcome>, Fault> {
        let provider = access.labels().get(labels::PROVIDER);
        let exists = provider.is_some_and(|name| self.platform.cluster_providers.get("", name).is_some());
        match plan::orphan(access, exists, Timestamp::now()) {
            Orphan::No => return Ok(None),
            Orphan::Patience(left) => return Ok(Some(Outcome::Wake(left))),
            Orphan::Release => {}
        }
        if let Some(at) = &access.spec.cluster_ref {
            let clusters: Api<Cluster> = Api::namespaced(self.platform.client.clone(), &at.namespace);
            let live = clusters.get_metadata_opt(&at.name).await;
            if live
                .map_err(|error| Fault::api(format!("look for Cluster {at}"), &error))?
                .is_some()
            {
                return Ok(None);
            }
        }
        if let Some(secret) = access.status.as_ref().and_then(|s| s.secret_ref.as_ref()) {
            let secrets: Api<Secret> = Api::namespaced(
                self.platform.client.clone(),
                &access.namespace().unwrap_or_default(),
            );
            match secrets.delete(&secret.name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(Fault::api(
                        format!("delete Secret {} of {}", secret.name, meta::describe(access)),
                        &error,
                    ));
                }
            }
        }
        let note = format!(
            "{} is released: its Cluster is gone, and no ClusterProvider let go of it",
            meta::describe(access)
        );
        self.events.publish(
            access.object_ref(),
            Note {
                warning: true,
                reason: "Released",
                action: "Release",
                note,
            },
        );
        meta::remove_finalizers(api, access, |f| f == finalizers::CLUSTER_PROVIDER).await?;
        Ok(Some(Outcome::Settled))
    }

    /// Writes what this controller says about the request: Pending (or `phase`) where the provider is to be asked again,
    /// and the condition. The provider's part of the status stays as it is.
    async fn write(
        &self,
        api: &Api<AccessRequest>,
        access: &AccessRequest,
        phase: Option<&str>,
        resolved: Option<bool>,
        reason: &'static str,
        message: String,
    ) -> Result<(), Fault> {
        let live = access.status.clone().unwrap_or_default();
        let generation = access.metadata.generation.unwrap_or_default();
        let observed = Observed {
            type_: RESOLVED.to_owned(),
            status: resolved,
            reason: reason.to_owned(),
            message,
        };
        let before: Vec<_> = conditions::find(&live.conditions, RESOLVED)
            .cloned()
            .into_iter()
            .collect();
        let merged = merge_conditions(
            &before,
            std::slice::from_ref(&observed),
            generation,
            Timestamp::now(),
        );
        let next = match phase {
            Some(phase) => phase,
            None if plan::must_be_pending(access) => phase::PENDING,
            None => live.phase.as_str(),
        };
        let asked_again = next != live.phase || access.status.is_none();
        if !asked_again && before == merged {
            return Ok(());
        }
        Report {
            events: &self.events,
            action: "Resolve",
        }
        .transition(access, &before, &observed, reason);
        // What was granted for the current generation is the provider's to say.
        let observed_generation = if asked_again {
            generation
        } else {
            live.observed_generation
        };
        let desired = AccessRequestStatus {
            observed_generation,
            phase: next.to_owned(),
            conditions: merged,
            secret_ref: None,
        };
        apply_status(api, access, &json!(null), &desired, NAME)
            .await
            .map(drop)
    }
}

/// The reference by which Events name the object.
trait ObjectRef {
    fn object_ref(&self) -> k8s_openapi::api::core::v1::ObjectReference;
}

impl ObjectRef for AccessRequest {
    fn object_ref(&self) -> k8s_openapi::api::core::v1::ObjectReference {
        kube::Resource::object_ref(self, &())
    }
}
