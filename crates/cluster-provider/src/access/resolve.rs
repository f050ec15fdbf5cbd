//! Where an AccessRequest leads: its Cluster's API server, reached with the identity that this provider keeps for it.
use super::{reconcile::AccessReconciler, target::Target};
use crate::{
    cluster::{
        desired::{admin_kubeconfig, server_url},
        pki::{Identity, file},
        reconcile::owner,
        status::{READY as CLUSTER_READY, Record, live_conditions},
    },
    context::{HostEndpoint, texts},
    names::{MANAGER, PROFILE_HOST},
};
use kube::{Api, ResourceExt};
use openmcp_api::{AccessRequest, Cluster, common::ObjectReference, conditions, keys::labels};
use openmcp_reconcile::{Fault, cluster::Connection};
use std::sync::Arc;

/// The connection of profile `host` is the platform's own, whichever Cluster asks for it.
const HOST_TARGET: &str = "host";

/// Where an AccessRequest leads.
pub(super) enum Resolved {
    Connected(Arc<Target>),
    /// Not reachable now; `reason` and `message` say why.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// There is nothing any more that could be reached.
    Gone {
        message: String,
    },
}

impl AccessReconciler {
    /// Finds the target and connects to it. Sends nothing to it.
    pub(super) async fn resolve(&self, request: &AccessRequest) -> Result<Resolved, Fault> {
        if leads_to_platform(request) {
            // The platform itself is always there, whatever became of the Cluster object.
            let target = self.targets.get(HOST_TARGET, "").unwrap_or_else(|| {
                self.targets
                    .connect(HOST_TARGET, "", self.cx.host.clone(), self.cx.client.clone())
            });
            return Ok(Resolved::Connected(target));
        }
        let Some(reference) = &request.spec.cluster_ref else {
            let message = "spec.clusterRef is not set".to_owned();
            return Ok(Resolved::Waiting {
                reason: "NoClusterRef",
                message,
            });
        };
        match self.cx.stores.clusters.get(&reference.namespace, &reference.name) {
            Some(cluster) => self.connect(&cluster).await,
            None => self.confirm_gone(reference).await,
        }
    }

    async fn connect(&self, cluster: &Cluster) -> Result<Resolved, Fault> {
        let name = format!(
            "Cluster {}/{}",
            cluster.namespace().unwrap_or_default(),
            cluster.name_any()
        );
        let deleting = cluster.metadata.deletion_timestamp.is_some();
        let uid = cluster.uid().unwrap_or_default();
        let owner = owner(cluster);
        let secret = self
            .cx
            .stores
            .control_plane_secrets
            .get(&owner.namespace, &owner.control_plane());
        let identity = secret.map(|secret| Identity::from_files(texts(&secret)));
        let (Some(address), Some(identity)) = (Record::of(cluster).address, identity) else {
            return Ok(if deleting {
                Resolved::Gone {
                    message: format!("{name} is being deleted"),
                }
            } else {
                Resolved::Waiting {
                    reason: "ClusterNotReady",
                    message: format!("{name} has no API server yet"),
                }
            });
        };
        let fingerprint = identity.fingerprint();
        if let Some(target) = self.targets.get(&uid, &fingerprint) {
            return Ok(Resolved::Connected(target));
        }
        if deleting {
            return Ok(Resolved::Gone {
                message: format!("{name} is being deleted"),
            });
        }
        if !conditions::is_true(live_conditions(cluster), CLUSTER_READY) {
            return Ok(Resolved::Waiting {
                reason: "ClusterNotReady",
                message: format!("{name} is not Ready"),
            });
        }
        let broken = |error: &dyn std::error::Error| {
            Fault::retry("IdentityIncomplete", format!("the identity of {name}: {error}"))
        };
        let kubeconfig = admin_kubeconfig(&identity, address).map_err(|error| broken(&error))?;
        let ca = identity
            .get(file::CA_CERT)
            .map_err(|error| broken(&error))?
            .to_owned();
        let client = Connection::from_kubeconfig(kubeconfig.as_bytes(), MANAGER)
            .await?
            .client();
        let endpoint = HostEndpoint {
            server: server_url(address),
            ca,
        };
        Ok(Resolved::Connected(self.targets.connect(
            &uid,
            &fingerprint,
            endpoint,
            client,
        )))
    }

    /// Whether the target is a cluster that is being deleted; the platform itself is none of them.
    pub(super) fn is_ending(&self, request: &AccessRequest) -> bool {
        let cluster = request.spec.cluster_ref.as_ref().and_then(|reference| {
            let clusters = &self.cx.stores.clusters;
            clusters.get(&reference.namespace, &reference.name)
        });
        !leads_to_platform(request) && cluster.is_some_and(|it| it.metadata.deletion_timestamp.is_some())
    }

    /// Absence from a store is no proof.
    async fn confirm_gone(&self, reference: &ObjectReference) -> Result<Resolved, Fault> {
        let api: Api<Cluster> = Api::namespaced(self.cx.client.clone(), &reference.namespace);
        let live = api.get_metadata_opt(&reference.name).await;
        Ok(
            match live.map_err(|error| Fault::api(format!("read Cluster {reference}"), &error))? {
                Some(_) => Resolved::Waiting {
                    reason: "ClusterNotReady",
                    message: format!("Cluster {reference} is new"),
                },
                None => Resolved::Gone {
                    message: format!("Cluster {reference} does not exist"),
                },
            },
        )
    }
}

fn leads_to_platform(request: &AccessRequest) -> bool {
    let profile = request.labels().get(labels::PROFILE);
    profile.is_some_and(|profile| profile == PROFILE_HOST)
}
