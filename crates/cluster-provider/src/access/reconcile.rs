//! The controller of AccessRequests: target → namespaces, account, roles, bindings → token → Secret → status.
//!
//! Everything is compared with what the target's watches have seen; only a difference costs a request.
use super::{
    delete,
    plan::{self, Id, Kind, Plan},
    resolve::Resolved,
    status::{self, Verdict},
    target::{Target, Targets},
    token,
};
use crate::{
    apply,
    context::Context,
    drift::same,
    finalizer,
    names::{LABEL_ACCESS_REQUEST, MANAGER, TARGET_NAMESPACE},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt, api::PostParams};
use openmcp_api::{AccessRequest, common::phase, conditions, names::secret_of_access_request};
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler,
    apply::{Deletion, Mark},
    events::Note,
    fault::Class,
    status::apply_status,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Said of a deleted request whose target does not answer.
const ADVICE: &str = "What was made there for this access must be removed first: repair the cluster, or delete the Cluster object: what is on it goes with it";

/// Reconciles the AccessRequests that are labelled as this provider's.
pub(crate) struct AccessReconciler {
    pub(crate) cx: Arc<Context>,
    pub(crate) targets: Arc<Targets>,
}

/// A verdict, and in how many seconds time itself asks for another look.
struct Step {
    verdict: Verdict,
    outcome: Outcome,
}

impl Reconciler for AccessReconciler {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let Some(request) = self.cx.stores.access_requests.get(&key.namespace, &key.name) else {
            return self.leftovers(key).await;
        };
        if !request.is_for_cluster_provider(&self.cx.provider) {
            return Ok(Outcome::Settled);
        }
        let deleting = request.metadata.deletion_timestamp.is_some();
        let step = if deleting {
            self.remove(&request).await
        } else {
            self.ensure(&request).await
        };
        match step {
            Ok(None) => Ok(Outcome::Settled),
            Ok(Some(step)) => {
                self.show(&request, &step.verdict).await?;
                Ok(step.outcome)
            }
            Err(fault) => {
                self.show(&request, &Verdict::failed(&fault)).await?;
                Err(fault)
            }
        }
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let Some(request) = self.cx.stores.access_requests.get(&key.namespace, &key.name) else {
            return;
        };
        if let Err(unwritten) = self.show(&request, &Verdict::failed(fault)).await {
            tracing::warn!("{unwritten}");
        }
    }
}

impl AccessReconciler {
    async fn ensure(&self, request: &AccessRequest) -> Result<Option<Step>, Fault> {
        if !finalizer::is_set(request) {
            finalizer::add(&self.api(request), request).await?;
            // The change wakes this request again.
            return Ok(None);
        }
        let Some(wanted) = &request.spec.token else {
            let message =
                "this provider's clusters take no OpenID Connect users yet: ask for spec.token instead";
            return Ok(settled(Verdict::Denied {
                reason: "OIDCNotSupported",
                message: message.to_owned(),
            }));
        };
        let target = match self.resolve(request).await? {
            Resolved::Connected(target) => target,
            Resolved::Waiting { reason, message } => return Ok(settled(Verdict::waiting(reason, message))),
            Resolved::Gone { message } => return Ok(settled(Verdict::waiting("ClusterGone", message))),
        };
        if !target.is_synced() {
            if request.is_granted() {
                // After a restart of this process: nothing is known to be wrong.
                return Ok(None);
            }
            let message = format!("reading what exists at {}", target.endpoint.server);
            return Ok(settled(Verdict::waiting("Connecting", message)));
        }
        let name = format!(
            "{}/{}",
            request.namespace().unwrap_or_default(),
            request.name_any()
        );
        delete::former(&target, &name, &request.uid().unwrap_or_default()).await?;
        let plan = plan::of_token(request, wanted, &self.cx.provider);
        let account_uid = self.apply(request, &target, &plan).await?;
        self.prune(request, &target, &plan).await?;
        let renewal = self.credentials(request, &target, &account_uid).await?;
        Ok(Some(Step {
            verdict: Verdict::Granted,
            outcome: Outcome::Wake(renewal),
        }))
    }

    /// A request that is gone: somebody may have taken its finalizer off, and then its rights are still there.
    async fn leftovers(&self, key: &Key) -> Result<Outcome, Fault> {
        let api: Api<AccessRequest> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let live = api.get_metadata_opt(&key.name).await;
        if live
            .map_err(|error| Fault::api(format!("read {key}"), &error))?
            .is_some()
        {
            return Ok(Outcome::Settled);
        }
        let name = format!("{}/{}", key.namespace, key.name);
        for target in self.targets.all() {
            delete::former(&target, &name, "").await?;
        }
        Ok(Outcome::Settled)
    }

    async fn remove(&self, request: &AccessRequest) -> Result<Option<Step>, Fault> {
        if !finalizer::is_set(request) {
            return Ok(None);
        }
        let left = match self.resolve(request).await? {
            Resolved::Connected(target) => {
                match delete::on_target(request, &target, &self.cx.provider).await {
                    Ok(()) => None,
                    // Tried, so that it ends at once; but nobody waits for a cluster that is on its way out.
                    Err(fault) if self.is_ending(request) => Some(format!(
                        "{}; what is there goes with the Cluster, which is being deleted",
                        fault.message
                    )),
                    Err(fault) => return Err(advised(fault)),
                }
            }
            Resolved::Gone { message } => Some(message),
            Resolved::Waiting { .. } if !self.was_granted(request) => {
                Some("access was never granted".to_owned())
            }
            Resolved::Waiting { reason, message } => {
                let message = format!("{message}. {ADVICE}");
                return Ok(settled(Verdict::waiting(reason, message)));
            }
        };
        if let Some(why) = left {
            let note = format!("the cluster was left as it is: {why}");
            self.publish(request, false, "TargetSkipped", note);
        }
        delete::secret(&self.cx.client, request).await?;
        finalizer::remove(&self.api(request), request).await?;
        Ok(None)
    }

    /// Whether anybody can hold credentials of this request.
    fn was_granted(&self, request: &AccessRequest) -> bool {
        let namespace = request.namespace().unwrap_or_default();
        request
            .status
            .as_ref()
            .is_some_and(|status| status.secret_ref.is_some())
            || self
                .cx
                .stores
                .access_secrets
                .get(&namespace, &secret_of_access_request(&request.name_any()))
                .is_some()
    }

    /// Applies what differs. Returns the ServiceAccount's UID.
    async fn apply(&self, request: &AccessRequest, target: &Target, plan: &Plan) -> Result<String, Fault> {
        let granted = request.is_granted();
        let lives = |id: &Id, object: &Value| {
            target
                .get(id)
                .is_some_and(|live| apply::is_as_desired(&live, object))
        };
        let broken: Vec<(&Id, &Value)> = plan
            .objects
            .iter()
            .filter(|(id, object)| !lives(id, object))
            .collect();
        for namespace in &plan.namespaces {
            // After the grant a namespace is looked at only when something in it is missing.
            if !granted || broken.iter().any(|(id, _)| id.namespace == *namespace) {
                ensure_namespace(&target.client, namespace).await?;
            }
        }
        let account = plan.objects.keys().find(|id| id.kind == Kind::ServiceAccount);
        let mut account_uid = account
            .and_then(|id| target.get(id))
            .and_then(|live| live["metadata"]["uid"].as_str().map(str::to_owned))
            .unwrap_or_default();
        let mark = Mark {
            label: LABEL_ACCESS_REQUEST,
            value: request.uid().unwrap_or_default(),
        };
        for (id, object) in &broken {
            let live = target.get(id);
            if let Some(live) = live
                .as_ref()
                .filter(|live| !same(&live["roleRef"], &object["roleRef"]))
            {
                // A role reference cannot be changed.
                delete::object(
                    &target.client,
                    id,
                    live["metadata"]["uid"].as_str().unwrap_or_default(),
                )
                .await?;
            }
            let applied = apply::ensure(&target.client, &mark, (*object).clone()).await?;
            if id.kind == Kind::ServiceAccount {
                account_uid = applied["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            }
            if granted
                && request.status.as_ref().map(|status| status.observed_generation)
                    == request.metadata.generation
            {
                let how = if live.is_some() { "changed" } else { "deleted" };
                self.publish(
                    request,
                    true,
                    "Repaired",
                    format!("{id} was {how} on {}: restored", target.endpoint.server),
                );
            }
        }
        Ok(account_uid)
    }

    /// Deletes what an earlier spec needed.
    async fn prune(&self, request: &AccessRequest, target: &Target, plan: &Plan) -> Result<(), Fault> {
        for (id, uid) in target.of_request(&request.uid().unwrap_or_default()) {
            if !plan.objects.contains_key(&id)
                && delete::object(&target.client, &id, &uid).await? == Deletion::Gone
            {
                tracing::info!(
                    request = request.name_any(),
                    "removed {id}, which is not asked for any more"
                );
            }
        }
        Ok(())
    }

    /// Makes sure that the Secret holds a token that works; returns in how long it is to be renewed.
    async fn credentials(
        &self,
        request: &AccessRequest,
        target: &Target,
        account_uid: &str,
    ) -> Result<std::time::Duration, Fault> {
        let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
        let account = plan::account_name(&namespace, &name);
        let now = jiff::Timestamp::now().as_second();
        let stored = self
            .cx
            .stores
            .access_secrets
            .get(&namespace, &secret_of_access_request(&name));
        let current =
            stored.and_then(|secret| token::current(&secret, &target.endpoint, &account, account_uid, now));
        if let Some(issued) = current {
            return Ok(issued.renewal_in(now));
        }
        let issued = token::issue(&target.client, &account, account_uid, now).await?;
        let secret = token::secret(request, &self.cx.provider, &issued, &target.endpoint);
        let mark = Mark {
            label: LABEL_ACCESS_REQUEST,
            value: request.uid().unwrap_or_default(),
        };
        apply::ensure(&self.cx.client, &mark, secret).await?;
        tracing::info!(
            request = format!("{namespace}/{name}"),
            "issued a token for ServiceAccount {TARGET_NAMESPACE}/{account}"
        );
        Ok(issued.renewal_in(now))
    }

    async fn show(&self, request: &AccessRequest, verdict: &Verdict) -> Result<(), Fault> {
        let desired = verdict.status(request, jiff::Timestamp::now());
        let live = serde_json::to_value(&request.status).unwrap_or_default();
        apply_status(&self.api(request), request, &live, &desired, MANAGER).await?;
        let next = verdict.condition();
        let known = request
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.conditions);
        let before = conditions::find(known, status::READY);
        if before.is_some_and(|before| before.reason == next.reason) {
            return Ok(());
        }
        let (warning, reason) = match verdict {
            Verdict::Granted => (false, phase::GRANTED),
            Verdict::Waiting { .. } => (request.is_granted(), "Waiting"),
            Verdict::Denied { .. } => (true, phase::DENIED),
        };
        self.publish(
            request,
            warning,
            reason,
            format!("{}: {}", next.reason, next.message),
        );
        Ok(())
    }

    fn api(&self, request: &AccessRequest) -> Api<AccessRequest> {
        Api::namespaced(self.cx.client.clone(), &request.namespace().unwrap_or_default())
    }

    fn publish(&self, request: &AccessRequest, warning: bool, reason: &'static str, note: String) {
        self.cx.recorder.publish(
            request.object_ref(&()),
            Note {
                warning,
                reason,
                action: "Reconcile",
                note,
            },
        );
    }
}

fn settled(verdict: Verdict) -> Option<Step> {
    Some(Step {
        verdict,
        outcome: Outcome::Settled,
    })
}

/// What helps where the target does not answer.
fn advised(mut fault: Fault) -> Fault {
    if fault.class == Class::Unreachable {
        fault.message = format!("{}. {ADVICE}", fault.message);
    }
    fault
}

/// Creates the namespace if it is missing.
async fn ensure_namespace(client: &Client, name: &str) -> Result<(), Fault> {
    let api: Api<Namespace> = Api::all(client.clone());
    let failed = |error: &kube::Error| Fault::api(format!("create Namespace {name}"), error);
    match api.get_metadata_opt(name).await.map_err(|error| failed(&error))? {
        Some(live) if live.metadata.deletion_timestamp.is_some() => Err(Fault::retry(
            "NamespaceTerminating",
            format!("Namespace {name} is being deleted: it is made again afterwards"),
        )),
        Some(_) => Ok(()),
        None => {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))
                .map_err(|error| Fault::bug(format!("Namespace {name}: {error}")))?;
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            match api.create(&params, &namespace).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(failed(&error)),
            }
        }
    }
}
