//! What ControlPlanes that are gone left on the platform. A tenant may write what holds its ControlPlane, its finalizers:
//! so whose a platform namespace is stands on the namespace, out of the tenant's reach, as the ControlPlane's UID and
//! that of the onboarding cluster it lives on.
//!
//! A namespace without that record, as other implementations make it, is whose its labels say. Absence of information
//! never removes anything: a ControlPlane is gone if the complete list lacks it, and the API server of the onboarding
//! cluster that the record names says so of the object by its name.
use super::{conditions::Conditions, create::Stop, desired::Plan, reconcile::Reconcile};
use crate::platform::record;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams, core::ObjectMeta};
use openmcp_api::{
    ControlPlane, Inventory,
    conditions::{control_plane::META, reasons},
    keys::annotations,
};
use openmcp_reconcile::{Fault, Key, Outcome};

/// Whose a platform namespace is, seen from one ControlPlane of its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nobody recorded it.
    Unrecorded,
    Its,
    /// Of an earlier ControlPlane with this UID.
    Former(String),
    /// Of a ControlPlane with this UID on another onboarding cluster.
    Elsewhere(String),
}

/// `uid` is the ControlPlane's, if there is one; `onboarding` the cluster's that it is on.
pub(super) fn whose(namespace: &Namespace, uid: Option<&str>, onboarding: &str) -> Whose {
    let Some(recorded) = record(namespace) else {
        return Whose::Unrecorded;
    };
    let there = namespace.annotations().get(annotations::ONBOARDING_UID);
    if Some(recorded) == uid {
        Whose::Its
    } else if there.is_some_and(|there| there == onboarding) {
        Whose::Former(recorded.to_owned())
    } else {
        Whose::Elsewhere(recorded.to_owned())
    }
}

impl Reconcile {
    /// Whose the platform namespace of this name is, if it was made for a ControlPlane of this name.
    pub(super) fn whose(&self, plan: &Plan<'_>) -> Option<Whose> {
        let namespace = self.platform.namespaces.get("", &plan.platform_namespace)?;
        let uid = plan.object.metadata.uid.as_deref();
        plan.owns(namespace.labels())
            .then(|| whose(&namespace, uid, &self.onboarding.identity))
    }

    /// There is no ControlPlane of this name: what was made for one goes as if it had been deleted.
    pub(super) async fn leftovers(&self, key: &Key) -> Result<Outcome, Fault> {
        let nobody = former(&key.namespace, &key.name, None);
        let Some(Whose::Former(uid)) = self.whose(&Plan::new(&nobody)) else {
            return Ok(Outcome::Settled);
        };
        if !self.is_gone(key).await? {
            return Ok(Outcome::Settled);
        }
        let former = former(&key.namespace, &key.name, Some(uid));
        let mut conditions = Conditions::default();
        let gone = self.delete(&former, &mut conditions).await;
        match conditions.first_not_true("") {
            Some(first) => {
                tracing::warn!(%key, "the ControlPlane is gone without having been let go: {}", first.message)
            }
            None => tracing::warn!(%key, "what the ControlPlane left on the platform is gone"),
        }
        gone.map(|_| Outcome::Settled)
    }

    /// Whether the API server says so of the object itself.
    async fn is_gone(&self, key: &Key) -> Result<bool, Fault> {
        let api: Api<ControlPlane> = Api::namespaced(self.onboarding.client.clone(), &key.namespace);
        match api.get(&key.name).await {
            Ok(_) => Ok(false),
            // Of an unknown path or kind a 404 says nothing about the object.
            Err(kube::Error::Api(status))
                if status.code == 404 && status.details.as_ref().is_some_and(|d| d.name == *key.name) =>
            {
                Ok(true)
            }
            Err(error) => Err(Fault::api(format!("look for {key}"), &error)),
        }
    }

    /// Removes what was made for an earlier ControlPlane of this name, before anything is made for this one.
    pub(super) async fn finish_former(
        &self,
        plan: &Plan<'_>,
        uid: String,
        conditions: &mut Conditions,
    ) -> Result<(), Stop> {
        let why =
            format!("what was made for an earlier ControlPlane of this name (UID {uid}) is removed first");
        let former = former(&plan.namespace, &plan.name, Some(uid));
        let mut its = Conditions::default();
        let removed = self.backwards(&Plan::new(&former), &mut its).await;
        if removed.is_err() {
            let message = match its.first_not_true("") {
                Some(first) => format!("{why}: {}", first.message),
                None => why,
            };
            conditions.no(META, reasons::WAITING_FOR_NAMESPACE_DELETION, message);
        }
        removed
    }

    /// Inventories in the platform namespace: a provider still has something to remove, also where its service object
    /// is gone already.
    pub(super) async fn inventories(&self, plan: &Plan<'_>) -> Result<Vec<String>, Fault> {
        let api: Api<Inventory> = Api::namespaced(self.platform.client.clone(), &plan.platform_namespace);
        match api.list_metadata(&ListParams::default()).await {
            Ok(left) => Ok(left
                .iter()
                .map(|it| format!("Inventory {}", it.name_any()))
                .collect()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(Fault::api(
                format!("list Inventories in {}", plan.platform_namespace),
                &error,
            )),
        }
    }
}

/// A ControlPlane of which only this is known.
fn former(namespace: &str, name: &str, uid: Option<String>) -> ControlPlane {
    ControlPlane {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid,
            ..ObjectMeta::default()
        },
        ..ControlPlane::default()
    }
}
