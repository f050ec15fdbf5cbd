//! The effects of a scheduling decision, and the release of a cluster when its request is deleted.
use super::{
    NAME, OwnWrites,
    plan::{Asked, Decision, decide, handed_on},
};
use crate::{
    config::Scheduler,
    ensure::is_news,
    meta::{self, Operation, is_deleting},
    report::{self, Report},
};
use kube::{Api, ResourceExt, api::PostParams};
use openmcp_api::{
    clusters::{Cluster, ClusterRequest, ClusterRequestStatus, Tenancy},
    common::{ObjectReference, phase},
    keys::{finalizers, labels},
};
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler,
    events::Recorder,
    status::{Observed, apply_status, merge_conditions},
    watch::Store,
};
use serde_json::json;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// The condition that says whether, and why not, a request has its cluster.
const GRANTED: &str = "Granted";

/// Reconciles ClusterRequests. Must run with a single worker: decisions build on each other.
pub(crate) struct Schedule {
    pub client: kube::Client,
    pub config: Scheduler,
    pub requests: Store<ClusterRequest>,
    pub clusters: Store<Cluster>,
    pub own: OwnWrites,
    pub events: Recorder,
}

/// How a request stands, as its status is to tell.
struct Standing {
    phase: &'static str,
    cluster: Option<ObjectReference>,
    granted: Option<bool>,
    reason: &'static str,
    message: String,
}

impl Reconciler for Schedule {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let Some(request) = self.requests.get(&key.namespace, &key.name) else {
            return Ok(Outcome::Settled);
        };
        if !kube::core::SelectorExt::matches(&self.config.requests, request.labels()) {
            return Ok(Outcome::Settled);
        }
        match meta::operation(request.as_ref()) {
            Some(Operation::Reconcile) => {
                meta::take_operation(&self.requests_in(&key.namespace), request.as_ref()).await?;
                return Ok(Outcome::Settled);
            }
            Some(Operation::Ignore) if !is_deleting(request.as_ref()) => return Ok(Outcome::Settled),
            Some(Operation::Ignore) | None => {}
        }
        if is_deleting(request.as_ref()) {
            self.release(&request).await?;
        } else if let Err(fault) = self.schedule(&request).await {
            self.tell(&request, &fault).await?;
            return Err(fault);
        }
        Ok(Outcome::Settled)
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let request = self.requests.get(&key.namespace, &key.name);
        report::cut_off(&self.events, request.as_deref(), fault);
    }
}

impl Schedule {
    fn requests_in(&self, namespace: &str) -> Api<ClusterRequest> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn clusters_in(&self, namespace: &str) -> Api<Cluster> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn schedule(&self, request: &ClusterRequest) -> Result<(), Fault> {
        let namespace = request.namespace().unwrap_or_default();
        let held = meta::add_finalizers(
            &self.requests_in(&namespace),
            request,
            &[finalizers::CLUSTER_REQUEST],
        )
        .await?;
        let Some(request) = held else { return Ok(()) };
        let Some(finalizer) = request.finalizer_on_cluster() else {
            return Ok(());
        };
        let asked = Asked {
            request: &request,
            finalizer: &finalizer,
            dice: RandomState::new().hash_one(&finalizer),
        };
        match decide(&asked, &self.own.over(&self.clusters), &self.config) {
            Decision::Keep(cluster) => {
                self.keep(&request, &cluster, &finalizer).await?;
                self.grant(&request, &cluster).await
            }
            Decision::Grant(cluster) => self.grant(&request, &cluster).await,
            Decision::Claim(cluster) => {
                let cluster = self.claim(&cluster, &finalizer).await?;
                self.grant(&request, &cluster).await
            }
            Decision::Create(cluster) => {
                let cluster = self.create(&request, &cluster).await?;
                self.grant(&request, &cluster).await
            }
            Decision::Release(cluster) => self.let_go(&cluster, &finalizer).await,
            Decision::Wait(message) => {
                let cluster = request.status.as_ref().and_then(|s| s.cluster.clone());
                let phase = if cluster.is_some() {
                    phase::GRANTED
                } else {
                    phase::PENDING
                };
                let standing = Standing {
                    phase,
                    cluster,
                    granted: Some(false),
                    reason: "WaitingForCluster",
                    message,
                };
                self.write(&request, standing).await
            }
            Decision::Deny(message) => {
                let standing = Standing {
                    phase: phase::DENIED,
                    cluster: None,
                    granted: Some(false),
                    reason: "UnknownPurpose",
                    message,
                };
                self.write(&request, standing).await
            }
        }
    }

    /// Takes a slot: fails if anybody changed the cluster since it was looked at.
    pub(super) async fn claim(&self, cluster: &Cluster, finalizer: &str) -> Result<Cluster, Fault> {
        let namespace = cluster.namespace().unwrap_or_default();
        let claimed = meta::add_finalizers(&self.clusters_in(&namespace), cluster, &[finalizer]).await?;
        let Some(claimed) = claimed else {
            return Err(Fault::retry(
                "ClusterGone",
                format!(
                    "{} was deleted while a slot of it was claimed",
                    meta::describe(cluster)
                ),
            ));
        };
        self.own.wrote(claimed.clone());
        Ok(claimed)
    }

    async fn create(&self, request: &ClusterRequest, cluster: &Cluster) -> Result<Cluster, Fault> {
        let namespace = cluster.namespace().unwrap_or_default();
        let params = PostParams {
            field_manager: Some(NAME.to_owned()),
            ..PostParams::default()
        };
        let made = match self.clusters_in(&namespace).create(&params, cluster).await {
            Ok(made) => made,
            // Not seen yet, or just now made by another scheduler: the watch will show it, and it is looked at anew.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(Fault::retry(
                    "ClusterNameTaken",
                    format!("{} was made by somebody else meanwhile", meta::describe(cluster)),
                ));
            }
            Err(error) => return Err(Fault::api(format!("create {}", meta::describe(cluster)), &error)),
        };
        self.own.wrote(made.clone());
        tracing::info!(request = %meta::describe(request), cluster = %meta::describe(&made), "made a cluster");
        Ok(made)
    }

    /// Re-adds what a granted cluster must bear: the request's finalizer, and on an exclusive one its metadata.
    async fn keep(&self, request: &ClusterRequest, cluster: &Cluster, finalizer: &str) -> Result<(), Fault> {
        if is_deleting(cluster) {
            return Ok(());
        }
        let api = self.clusters_in(&cluster.namespace().unwrap_or_default());
        let mut live = cluster.clone();
        if !meta::has_finalizer(&live, finalizer) {
            live = self.claim(&live, finalizer).await?;
        }
        if live.spec.tenancy != Tenancy::Exclusive {
            return Ok(());
        }
        let labels = handed_on(request.labels());
        let annotations = handed_on(request.annotations());
        let same = labels.iter().all(|(k, v)| live.labels().get(k) == Some(v))
            && annotations
                .iter()
                .all(|(k, v)| live.annotations().get(k) == Some(v));
        if !same
            && let Some(live) = meta::patch(
                &api,
                &live,
                json!({ "labels": labels, "annotations": annotations }),
            )
            .await?
        {
            self.own.wrote(live);
        }
        Ok(())
    }

    async fn let_go(&self, cluster: &Cluster, finalizer: &str) -> Result<(), Fault> {
        let api = self.clusters_in(&cluster.namespace().unwrap_or_default());
        if let Some(live) = meta::remove_finalizers(&api, cluster, |f| f == finalizer).await? {
            self.own.wrote(live);
        }
        Ok(())
    }

    /// Lets go of the deleted request's cluster: deletes it first if nobody else holds it, so that a crash in between
    /// leaves no cluster behind that nobody knows of.
    async fn release(&self, request: &ClusterRequest) -> Result<(), Fault> {
        let Some(finalizer) = request.finalizer_on_cluster() else {
            return Ok(());
        };
        for cluster in self.own.over(&self.clusters) {
            if !meta::has_finalizer(cluster.as_ref(), &finalizer) {
                continue;
            }
            if request.status.as_ref().is_none_or(|s| s.cluster.is_none()) {
                // Recorded, so that the deletion can be waited for after the finalizer is off.
                self.grant(request, &cluster).await?;
            }
            let api = self.clusters_in(&cluster.namespace().unwrap_or_default());
            let last = cluster.tenancy_count() == 1;
            let mut live = Some(cluster.as_ref().clone());
            if last && deletes_with_last_request(&cluster) && !is_deleting(cluster.as_ref()) {
                live = meta::delete_unchanged(&api, cluster.as_ref()).await?;
            }
            if let Some(live) = live {
                self.let_go(&live, &finalizer).await?;
            }
        }
        if let Some(cluster) = self.awaited(request) {
            let message = format!("{} is being deleted", meta::describe(cluster.as_ref()));
            let cluster = request.status.as_ref().and_then(|s| s.cluster.clone());
            let standing = Standing {
                phase: phase::GRANTED,
                cluster,
                granted: Some(false),
                reason: "WaitingForClusterDeletion",
                message,
            };
            return self.write(request, standing).await;
        }
        let api = self.requests_in(&request.namespace().unwrap_or_default());
        meta::remove_finalizers(&api, request, |f| f == finalizers::CLUSTER_REQUEST)
            .await
            .map(drop)
    }

    /// The cluster whose deletion, set off by the request's, must be complete before the request goes.
    fn awaited(&self, request: &ClusterRequest) -> Option<Arc<Cluster>> {
        let at = request.status.as_ref()?.cluster.as_ref()?;
        let cluster = self
            .own
            .over(&self.clusters)
            .into_iter()
            .find(|c| c.name_any() == at.name && c.namespace().as_deref() == Some(&at.namespace))?;
        let wait = request
            .spec
            .wait_for_cluster_deletion
            .unwrap_or(cluster.spec.tenancy == Tenancy::Exclusive);
        (wait && is_deleting(cluster.as_ref())).then_some(cluster)
    }

    async fn grant(&self, request: &ClusterRequest, cluster: &Cluster) -> Result<(), Fault> {
        let at = ObjectReference::new(cluster.namespace().unwrap_or_default(), cluster.name_any());
        let message = format!("Cluster {at} serves the purpose {:?}", request.spec.purpose);
        let standing = Standing {
            phase: phase::GRANTED,
            cluster: Some(at),
            granted: Some(true),
            reason: "ClusterAssigned",
            message,
        };
        self.write(request, standing).await
    }

    /// Tells on the request why it gets no cluster, where that is not about to pass by itself.
    async fn tell(&self, request: &ClusterRequest, fault: &Fault) -> Result<(), Fault> {
        if !is_news(fault) || request.is_granted() {
            return Ok(());
        }
        let message = fault.message.clone();
        self.write(
            request,
            Standing {
                phase: phase::PENDING,
                cluster: None,
                granted: Some(false),
                reason: fault.reason,
                message,
            },
        )
        .await
    }

    async fn write(&self, request: &ClusterRequest, standing: Standing) -> Result<(), Fault> {
        let generation = request.metadata.generation.unwrap_or_default();
        let live = request.status.clone().unwrap_or_default();
        let observed = Observed {
            type_: GRANTED.to_owned(),
            status: standing.granted,
            reason: standing.reason.to_owned(),
            message: standing.message.clone(),
        };
        let report = Report {
            events: &self.events,
            action: "Schedule",
        };
        report.transition(request, &live.conditions, &observed, standing.reason);
        let desired = ClusterRequestStatus {
            observed_generation: generation,
            phase: standing.phase.to_owned(),
            conditions: merge_conditions(&live.conditions, &[observed], generation, jiff::Timestamp::now()),
            cluster: standing.cluster,
        };
        let api = self.requests_in(&request.namespace().unwrap_or_default());
        apply_status(&api, request, &json!(live), &desired, NAME)
            .await
            .map(drop)
    }
}

/// Whether the cluster is to go with its last request.
fn deletes_with_last_request(cluster: &Cluster) -> bool {
    cluster
        .labels()
        .get(labels::DELETE_WITHOUT_REQUESTS)
        .is_some_and(|v| v == labels::TRUE)
}
