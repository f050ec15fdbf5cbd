//! Condition types and reasons that implementations agree on (contract §2.1, §11.3), and the rule for a missing reason.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// A condition's `status` when it holds.
pub const TRUE: &str = "True";
/// A condition's `status` when it does not hold.
pub const FALSE: &str = "False";
/// A condition's `status` when that is not known.
pub const UNKNOWN: &str = "Unknown";

/// Conditions of ServiceProvider, ClusterProvider and PlatformService.
pub mod provider {
    /// The init Job succeeded for the current generation.
    pub const INITIALIZED: &str = "Initialized";
    /// The Deployment is available.
    pub const READY: &str = "Ready";
    /// Everything that was installed is gone.
    pub const UNINSTALLED: &str = "Uninstalled";

    /// Goes with status Unknown.
    pub const INIT_PENDING: &str = "InitPending";
    pub const INIT_JOB_CREATION_FAILED: &str = "InitJobCreationFailed";
    pub const INIT_RUNNING: &str = "InitRunning";
    pub const INIT_COMPLETED: &str = "InitCompleted";
    /// Goes with status Unknown.
    pub const INSTALLATION_PENDING: &str = "ProviderInstallationPending";
    pub const INSTALLATION_FAILED: &str = "ProviderInstallationFailed";
    pub const NOT_READY: &str = "ProviderNotReady";
    pub const PROVIDER_READY: &str = "ProviderReady";
    pub const UNINSTALLING: &str = "Uninstalling";
    pub const UNINSTALL_FAILED: &str = "UninstallFailed";
}

/// Conditions of ControlPlane.
pub mod control_plane {
    /// Finalizers and the platform namespace are in place.
    pub const META: &str = "Meta";
    /// The ClusterRequest is granted.
    pub const CLUSTER_REQUEST_READY: &str = "ClusterRequestReady";
    /// The Cluster's conditions are shown here, as [`cluster`].
    pub const CLUSTER_CONDITIONS_SYNCED: &str = "ClusterConditionsSynced";
    /// Every access is ready.
    pub const ALL_ACCESS_READY: &str = "AllAccessReady";
    /// On deletion: every service object of the ControlPlane is gone.
    pub const ALL_SERVICES_DELETED: &str = "AllServicesDeleted";
    /// On deletion: every ClusterRequest of the ControlPlane is gone.
    pub const ALL_CLUSTER_REQUESTS_DELETED: &str = "AllClusterRequestsDeleted";

    /// What [`cluster`] begins with.
    pub const CLUSTER_PREFIX: &str = "Cluster.";
    /// What [`access_ready`] begins with.
    pub const ACCESS_READY_PREFIX: &str = "AccessReady.";

    /// The type under which a Cluster's condition is shown on the ControlPlane.
    pub fn cluster(condition_type: &str) -> String {
        format!("{CLUSTER_PREFIX}{condition_type}")
    }

    /// The condition of one access; `key` is `oidc_<name>` or `token_<name>` ([`crate::names::AccessKey`]).
    pub fn access_ready(key: &str) -> String {
        format!("{ACCESS_READY_PREFIX}{key}")
    }
}

/// Conditions of service objects.
pub mod service {
    pub const READY: &str = "Ready";

    pub const RECONCILE_SUCCESS: &str = "ReconcileSuccess";
    pub const RECONCILE_ERROR: &str = "ReconcileError";
    pub const RECONCILING: &str = "Reconciling";
    pub const TERMINATING: &str = "Terminating";
}

/// Reasons that several controllers use.
pub mod reasons {
    pub const PLATFORM_CLUSTER_INTERACTION_PROBLEM: &str = "PlatformClusterInteractionProblem";
    pub const ONBOARDING_CLUSTER_INTERACTION_PROBLEM: &str = "OnboardingClusterInteractionProblem";
    pub const INVALID_REFERENCE: &str = "InvalidReference";
    pub const CONFIGURATION_PROBLEM: &str = "ConfigurationProblem";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const CLUSTER_CONFLICT: &str = "ClusterConflict";
    pub const WAITING_FOR_NAMESPACE_DELETION: &str = "WaitingForNamespaceDeletion";
    pub const WAITING_FOR_CLUSTER_REQUEST: &str = "WaitingForClusterRequest";
    pub const WAITING_FOR_CLUSTER_REQUEST_DELETION: &str = "WaitingForClusterRequestDeletion";
    pub const WAITING_FOR_ACCESS_REQUEST: &str = "WaitingForAccessRequest";
    pub const WAITING_FOR_ACCESS_REQUEST_DELETION: &str = "WaitingForAccessRequestDeletion";
    pub const WAITING_FOR_SERVICES: &str = "WaitingForServices";
    pub const WAITING_FOR_SERVICE_DELETION: &str = "WaitingForServiceDeletion";
}

/// The reason to write: the given one, or `<Type>_<Status>` with every character that a reason may not have replaced by
/// `_`, since the API server refuses an empty reason.
///
/// ```
/// use openmcp_api::conditions::reason_or_default;
///
/// assert_eq!(reason_or_default("AccessReady.oidc_openmcp", "True", ""), "AccessReady_oidc_openmcp_True");
/// assert_eq!(reason_or_default("Ready", "False", "Reconciling"), "Reconciling");
/// ```
pub fn reason_or_default(condition_type: &str, status: &str, reason: &str) -> String {
    if !reason.is_empty() {
        return reason.to_owned();
    }
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | ':' | ',');
    format!("{condition_type}_{status}")
        .chars()
        .map(|it| if legal(it) { it } else { '_' })
        .collect()
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], condition_type: &str) -> Option<&'a Condition> {
    conditions.iter().find(|it| it.type_ == condition_type)
}

/// Whether the condition of that type exists and is True.
pub fn is_true(conditions: &[Condition], condition_type: &str) -> bool {
    find(conditions, condition_type).is_some_and(|it| it.status == TRUE)
}

/// Whether every condition is True.
pub fn all_true(conditions: &[Condition]) -> bool {
    conditions.iter().all(|it| it.status == TRUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reason_is_made_of_type_and_status_and_accepted_by_the_schema() {
        assert_eq!(
            reason_or_default("AccessReady.oidc_openmcp", FALSE, ""),
            "AccessReady_oidc_openmcp_False"
        );
        assert_eq!(
            reason_or_default("Cluster.example.org/Ready-ish", UNKNOWN, ""),
            "Cluster_example_org_Ready_ish_Unknown"
        );
        assert_eq!(reason_or_default("Ready", TRUE, "given.as-is"), "given.as-is");
    }

    #[test]
    fn no_condition_is_not_a_condition_that_holds() {
        assert!(!is_true(&[], "Ready"));
        assert!(all_true(&[]));
    }
}
