//! What people see of a Cluster: its status, labels and Events.
use super::{
    reconcile::ClusterReconciler,
    status::{self, Report},
};
use crate::names::{MANAGER, PROFILE_HOST};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use openmcp_api::{
    Cluster, conditions,
    keys::{annotations, labels},
};
use openmcp_reconcile::{Fault, events::Note, status::apply_status};
use serde_json::json;

impl ClusterReconciler {
    pub(super) fn is_labelled(&self, cluster: &Cluster, server: &str) -> bool {
        cluster.labels().get(labels::PROVIDER) == Some(&self.cx.provider)
            && cluster.labels().contains_key(labels::K8S_VERSION)
            && cluster
                .annotations()
                .get(annotations::PROVIDER_INFO)
                .is_some_and(|info| *info == provider_info(cluster, server))
    }

    /// Writes what `kubectl get clusters` shows beside the status (contract §11.1).
    pub(super) async fn label(&self, cluster: &Cluster, version: &str, server: &str) -> Result<(), Fault> {
        let api: Api<Cluster> =
            Api::namespaced(self.cx.client.clone(), &cluster.namespace().unwrap_or_default());
        let patch = json!({
            "apiVersion": Cluster::api_version(&()), "kind": Cluster::kind(&()),
            "metadata": {
                // With the UID this can only change the object that was read, never make another one.
                "uid": cluster.uid(),
                "labels": {labels::PROVIDER: self.cx.provider, labels::K8S_VERSION: version},
                "annotations": {annotations::PROVIDER_INFO: provider_info(cluster, server)},
            },
        });
        api.patch_metadata(
            &cluster.name_any(),
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .map_err(|error| Fault::api(format!("label Cluster {}", cluster.name_any()), &error))?;
        Ok(())
    }

    /// Writes the status if it differs, and an Event if the Ready condition turned.
    pub(super) async fn show(&self, cluster: &Cluster, report: &Report) -> Result<(), Fault> {
        let api: Api<Cluster> =
            Api::namespaced(self.cx.client.clone(), &cluster.namespace().unwrap_or_default());
        let desired = report.status(cluster, jiff::Timestamp::now());
        let live = serde_json::to_value(&cluster.status).unwrap_or_default();
        apply_status(&api, cluster, &live, &desired, MANAGER).await?;
        for observed in &report.conditions {
            let before = conditions::find(status::live_conditions(cluster), &observed.type_);
            let status_text = if observed.status == Some(true) {
                conditions::TRUE
            } else {
                conditions::FALSE
            };
            if before.is_some_and(|before| before.status == status_text && before.reason == observed.reason) {
                continue;
            }
            if observed.type_ == status::READY {
                let reason = if observed.status == Some(true) {
                    "Ready"
                } else {
                    "NotReady"
                };
                let warning = before.is_some_and(|before| before.status == conditions::TRUE)
                    && observed.status != Some(true);
                self.publish(
                    cluster,
                    warning,
                    reason,
                    format!("{}: {}", observed.reason, observed.message),
                );
            } else if observed.reason == status::REISSUED {
                self.publish(cluster, true, "CredentialsReissued", observed.message.clone());
            }
        }
        Ok(())
    }

    pub(super) fn publish(&self, cluster: &Cluster, warning: bool, reason: &'static str, note: String) {
        self.cx.recorder.publish(
            cluster.object_ref(&()),
            Note {
                warning,
                reason,
                action: "Reconcile",
                note,
            },
        );
    }
}

fn provider_info(cluster: &Cluster, server: &str) -> String {
    if cluster.spec.profile == PROFILE_HOST {
        format!("platform cluster at {server}")
    } else {
        format!("hosted control plane at {server}")
    }
}
