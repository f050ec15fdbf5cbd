//! What an AccessRequest needs next: pure, from the object and what it refers to.
use crate::meta::{has_finalizer, is_deleting};
use jiff::Timestamp;
use kube::ResourceExt;
use openmcp_api::{
    clusters::{AccessRequest, Cluster, ClusterProfile, ClusterRequest},
    common::{ObjectReference, phase},
    conditions,
    duration::InvalidDuration,
    keys::{finalizers, labels},
};
use std::time::Duration;

/// The condition that says whether it is known who serves the request.
pub(super) const RESOLVED: &str = "Resolved";

/// A foreign provider that cannot find the Cluster of a deleted AccessRequest may never let go of it; after this long it
/// is released.
pub(super) const PATIENCE_WITH_PROVIDER: Duration = Duration::from_secs(300);

/// Where an AccessRequest leads.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// To this Cluster, served by the provider.
    Found {
        cluster: ObjectReference,
        provider: String,
        profile: String,
    },
    /// Nowhere yet: why, and what must change.
    Waiting { reason: &'static str, message: String },
    /// It never will.
    Denied { reason: &'static str, message: String },
}

/// Follows spec.clusterRef, else spec.requestRef, to a Cluster and its profile.
pub(super) fn resolve(
    access: &AccessRequest,
    request: impl Fn(&ObjectReference) -> Option<std::sync::Arc<ClusterRequest>>,
    cluster: impl Fn(&ObjectReference) -> Option<std::sync::Arc<Cluster>>,
    profile: impl Fn(&str) -> Option<std::sync::Arc<ClusterProfile>>,
) -> Target {
    let at = match (&access.spec.cluster_ref, &access.spec.request_ref) {
        (Some(at), _) => at.clone(),
        (None, Some(by)) => match request(by) {
            None => {
                return waiting(
                    "WaitingForClusterRequest",
                    format!("ClusterRequest {by} does not exist"),
                );
            }
            Some(request) if request.is_denied() => {
                return Target::Denied {
                    reason: "ClusterRequestDenied",
                    message: format!("ClusterRequest {by} was denied"),
                };
            }
            Some(request) => match request.granted_cluster() {
                Some(at) => at.clone(),
                None => {
                    return waiting(
                        "WaitingForClusterRequest",
                        format!("ClusterRequest {by} is not granted yet"),
                    );
                }
            },
        },
        (None, None) => {
            let message = "one of spec.clusterRef and spec.requestRef must be set".to_owned();
            return Target::Denied {
                reason: "InvalidReference",
                message,
            };
        }
    };
    let Some(found) = cluster(&at) else {
        return waiting("WaitingForCluster", format!("Cluster {at} does not exist"));
    };
    let name = &found.spec.profile;
    let Some(profile) = profile(name) else {
        return waiting(
            "WaitingForClusterProfile",
            format!(
                "there is no ClusterProfile {name}, which Cluster {at} is of: is its ClusterProvider installed?"
            ),
        );
    };
    Target::Found {
        cluster: at,
        provider: profile.spec.provider_ref.name.clone(),
        profile: name.clone(),
    }
}

fn waiting(reason: &'static str, message: String) -> Target {
    Target::Waiting { reason, message }
}

/// How long until an AccessRequest's time is over; zero when it is. `None`: never.
pub(super) fn left_to_live(
    access: &AccessRequest,
    now: Timestamp,
) -> Result<Option<Duration>, InvalidDuration> {
    let end = access.expires_at()?;
    Ok(end.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default()))
}

/// Whether the labels and spec.clusterRef say already where it leads.
pub(super) fn is_addressed(
    access: &AccessRequest,
    cluster: &ObjectReference,
    provider: &str,
    profile: &str,
) -> bool {
    access.spec.cluster_ref.as_ref() == Some(cluster)
        && access
            .labels()
            .get(labels::PROVIDER)
            .is_some_and(|v| v == provider)
        && access.labels().get(labels::PROFILE).is_some_and(|v| v == profile)
}

/// Whether the cluster provider is to be asked (again): nothing was granted, or for another generation. A deletion
/// raises the generation, so that the provider is asked once more and cleans up.
pub(super) fn must_be_pending(access: &AccessRequest) -> bool {
    match &access.status {
        None => true,
        Some(status) => {
            let current = Some(status.observed_generation) == access.metadata.generation;
            match status.phase.as_str() {
                phase::PENDING => false,
                phase::GRANTED => !current,
                // What this controller denied, because it led nowhere, is asked for again when it leads somewhere.
                phase::DENIED => !current || !conditions::is_true(&status.conditions, RESOLVED),
                _ => true,
            }
        }
    }
}

/// What holds a deleted AccessRequest whose Cluster is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphan {
    /// Nothing of ours to do: it is not deleted, or no cluster provider holds it.
    No,
    /// Its provider still has time to let go.
    Patience(Duration),
    /// No provider will: release it.
    Release,
}

/// Decides about an AccessRequest whose Cluster does not exist. What was issued on the cluster went with it; where the
/// provider still runs, it is given time to see that for itself.
pub(super) fn orphan(access: &AccessRequest, provider_exists: bool, now: Timestamp) -> Orphan {
    if !is_deleting(access) || !has_finalizer(access, finalizers::CLUSTER_PROVIDER) {
        return Orphan::No;
    }
    let Some(deleted) = access.metadata.deletion_timestamp.as_ref().map(|t| t.0) else {
        return Orphan::No;
    };
    let age = Duration::try_from(now.duration_since(deleted)).unwrap_or_default();
    if !provider_exists || age >= PATIENCE_WITH_PROVIDER {
        return Orphan::Release;
    }
    Orphan::Patience(PATIENCE_WITH_PROVIDER - age)
}
