//! The controller of Clusters: finalizer → address → Secret → Deployment → what the pods say → status.
//!
//! Every step can be repeated; a crash between any two loses nothing. The order matters once: an address is claimed and
//! recorded before anything uses it: of a Cluster without a recorded address there is at most the claim.
use super::{
    address::Range,
    claim,
    confirm::{confirm, connect},
    delete,
    desired::{self, Owner, Workload},
    secret,
    status::{self, Pods, Record, Report},
};
use crate::{
    access::target::Targets,
    apply,
    context::{Context, texts},
    drift::covers,
    finalizer,
    names::{ANNOTATION_CREDENTIALS, KUBERNETES_VERSION, LABEL_CLUSTER, PROFILE_HOST, PROFILE_HOSTED},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use openmcp_api::{Cluster, common::phase, conditions};
use openmcp_reconcile::{Fault, Key, Outcome, Reconciler, apply::Mark, fault::Class};
use serde_json::Value;
use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

/// Reconciles Clusters of the profiles `hosted` and `host`.
pub(crate) struct ClusterReconciler {
    pub(crate) cx: Arc<Context>,
    pub(crate) targets: Arc<Targets>,
}

/// What a reconcile came to.
pub(super) enum Step {
    /// Show this.
    Report(Box<Report>),
    /// The object is gone, or is about to come again changed.
    Done,
}

impl Step {
    pub(super) fn report(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

impl Reconciler for ClusterReconciler {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let Some(cluster) = self.cx.stores.clusters.get(&key.namespace, &key.name) else {
            return Ok(Outcome::Settled);
        };
        if !is_served(&cluster) {
            return Ok(Outcome::Settled);
        }
        let step = if cluster.metadata.deletion_timestamp.is_some() {
            delete::delete(&self.cx, &self.targets, &cluster).await
        } else {
            self.ensure(&cluster).await
        };
        match step {
            Ok(Step::Report(report)) => self.show(&cluster, &report).await?,
            Ok(Step::Done) => {}
            Err(fault) => {
                if let Some(report) = failed(&cluster, &fault) {
                    self.show(&cluster, &report).await?;
                }
                return Err(fault);
            }
        }
        Ok(Outcome::Settled)
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let Some(cluster) = self.cx.stores.clusters.get(&key.namespace, &key.name) else {
            return;
        };
        if let Some(report) = failed(&cluster, fault)
            && let Err(unwritten) = self.show(&cluster, &report).await
        {
            tracing::warn!("{unwritten}");
        }
    }
}

/// Whether this provider serves the Cluster's profile.
pub(crate) fn is_served(cluster: &Cluster) -> bool {
    matches!(cluster.spec.profile.as_str(), PROFILE_HOSTED | PROFILE_HOST)
}

/// Who owns what is made for the Cluster.
pub(crate) fn owner(cluster: &Cluster) -> Owner {
    Owner {
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
        uid: cluster.uid().unwrap_or_default(),
    }
}

/// What a fault shows. A Cluster that is Ready stays so while something passing is retried.
fn failed(cluster: &Cluster, fault: &Fault) -> Option<Report> {
    let ready = conditions::is_true(status::live_conditions(cluster), status::READY);
    if fault.class == Class::Retry && ready && cluster.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let phase = if cluster.metadata.deletion_timestamp.is_some() {
        phase::TERMINATING
    } else {
        phase::PROGRESSING
    };
    let report = Report::not_ready(phase, fault.reason, fault.message.clone(), Record::of(cluster));
    let kept = conditions::find(status::live_conditions(cluster), status::CREDENTIALS);
    Some(match kept {
        Some(live) => report.with(status::condition(
            status::CREDENTIALS,
            true,
            &live.reason,
            live.message.clone(),
        )),
        None => report,
    })
}

impl ClusterReconciler {
    async fn ensure(&self, cluster: &Cluster) -> Result<Step, Fault> {
        let api: Api<Cluster> =
            Api::namespaced(self.cx.client.clone(), &cluster.namespace().unwrap_or_default());
        if !finalizer::is_set(cluster) {
            finalizer::add(&api, cluster).await?;
            // The change wakes this Cluster again.
            return Ok(Step::Done);
        }
        if let Some(version) = unsupported_version(cluster) {
            let message = format!(
                "spec.kubernetes.version {version} is not offered: use {KUBERNETES_VERSION} or leave it out"
            );
            return Ok(Step::report(Report::not_ready(
                phase::PROGRESSING,
                "UnsupportedVersion",
                message,
                Record::of(cluster),
            )));
        }
        if cluster.spec.profile == PROFILE_HOST {
            self.host(cluster).await
        } else {
            self.hosted(cluster).await
        }
    }

    /// The platform cluster itself: nothing to make.
    async fn host(&self, cluster: &Cluster) -> Result<Step, Fault> {
        let server = self.cx.host.server.clone();
        if !conditions::is_true(status::live_conditions(cluster), status::READY)
            || !self.is_labelled(cluster, &server)
        {
            let version = confirm(&self.cx.client).await?;
            self.label(cluster, &version, &server).await?;
        }
        Ok(Step::report(Report::ready(
            "this is the platform cluster itself",
            server,
            Record::default(),
        )))
    }

    async fn hosted(&self, cluster: &Cluster) -> Result<Step, Fault> {
        let owner = owner(cluster);
        let address = self.address(cluster, &owner).await?;
        let mut record = Record {
            address: Some(address),
            etcd_prefix: Some(owner.etcd_prefix()),
            identity: Record::of(cluster).identity,
        };
        let given = || {
            let secret = self
                .cx
                .stores
                .control_plane_secrets
                .get(&owner.namespace, &owner.control_plane())?;
            desired::etcd_copy(&texts(&secret))
        };
        let etcd = match self.cx.etcd_access().or_else(|missing| given().ok_or(missing)) {
            Ok(etcd) => etcd,
            Err(missing) => {
                return Ok(Step::report(Report::not_ready(
                    phase::PROGRESSING,
                    "EtcdAccessMissing",
                    missing,
                    record,
                )));
            }
        };
        let credentials = secret::ensure(&self.cx, &owner, &etcd, address).await?;
        let workload = Workload {
            provider: &self.cx.provider,
            apiserver_image: &self.cx.hosting.apiserver_image,
            controller_manager_image: &self.cx.hosting.controller_manager_image,
            address,
            etcd: &etcd,
            files: &credentials.files,
        };
        let deployment = desired::deployment(&owner, &workload);
        self.enforce(cluster, &owner, &deployment).await?;

        let identity = credentials.identity.fingerprint();
        let secret_name = format!("{}/{}", owner.namespace, owner.control_plane());
        let issued = status::credentials(cluster, &identity, &secret_name, jiff::Timestamp::now());
        record.identity = Some(identity.clone());
        let template = &deployment["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CREDENTIALS];
        let server = desired::server_url(address);
        let report = match status::pods(&self.pods(&owner), template.as_str().unwrap_or_default()) {
            Pods::NotReady { reason, message } => {
                Report::not_ready(phase::PROGRESSING, &reason, message, record)
            }
            Pods::Ready => {
                if !status::was_ready(cluster, &identity) || !self.is_labelled(cluster, &server) {
                    let version = confirm(&connect(&credentials, address).await?).await?;
                    self.label(cluster, &version, &server).await?;
                }
                Report::ready(
                    "the API server answers and its system namespace exists",
                    server,
                    record,
                )
            }
        };
        Ok(Step::report(report.with(issued)))
    }

    /// The recorded address, or one that is claimed and recorded now.
    async fn address(&self, cluster: &Cluster, owner: &Owner) -> Result<Ipv4Addr, Fault> {
        let record = Record::of(cluster);
        if let Some(address) = record.address {
            return Ok(address);
        }
        let range: Range = self.cx.hosting.address_range;
        let others = self.cx.stores.clusters.all();
        let taken: HashSet<Ipv4Addr> = others
            .iter()
            .filter(|other| other.uid() != cluster.uid())
            .filter_map(|other| Record::of(other).address)
            .collect();
        let address = claim::claim(
            &self.cx.client,
            &self.cx.namespace,
            &self.cx.provider,
            owner,
            range,
            taken,
        )
        .await?;
        let record = Record {
            address: Some(address),
            etcd_prefix: Some(owner.etcd_prefix()),
            ..record
        };
        let report = Report::not_ready(
            phase::PROGRESSING,
            "AddressReserved",
            format!("the API server will be at {address}"),
            record,
        );
        self.show(cluster, &report).await?;
        Ok(address)
    }

    /// Applies the Deployment if it does not live as desired.
    async fn enforce(&self, cluster: &Cluster, owner: &Owner, deployment: &Value) -> Result<(), Fault> {
        let name = owner.control_plane();
        let live = self.cx.stores.deployments.get(&owner.namespace, &name);
        let live = live.and_then(|live| serde_json::to_value(&*live).ok());
        if live.as_ref().is_some_and(|live| covers(live, deployment)) {
            return Ok(());
        }
        let mark = Mark {
            label: LABEL_CLUSTER,
            value: owner.uid.clone(),
        };
        let applied = apply::ensure(&self.cx.client, &mark, deployment.clone()).await?;
        let was_up = conditions::is_true(status::live_conditions(cluster), status::READY);
        // A Deployment that we want otherwise than before did not drift.
        let drifted = live
            .as_ref()
            .is_none_or(|live| apply::last_applied(live) == apply::last_applied(&applied));
        if was_up && drifted {
            let how = if live.is_some() {
                "was changed"
            } else {
                "was deleted"
            };
            let note = format!("Deployment {}/{name} {how}: restored", owner.namespace);
            self.publish(cluster, true, "Repaired", note);
        }
        Ok(())
    }

    fn pods(&self, owner: &Owner) -> Vec<Arc<Pod>> {
        let mine = |pod: &Arc<Pod>| pod.labels().get(LABEL_CLUSTER) == Some(&owner.uid);
        self.cx.stores.pods.all().into_iter().filter(mine).collect()
    }
}

/// The version that is wanted, if it is not the one that is offered.
fn unsupported_version(cluster: &Cluster) -> Option<&str> {
    let wanted = cluster
        .spec
        .kubernetes
        .as_ref()?
        .version
        .as_deref()
        .filter(|it| !it.is_empty())?;
    (wanted.trim_start_matches('v') != KUBERNETES_VERSION).then_some(wanted)
}
