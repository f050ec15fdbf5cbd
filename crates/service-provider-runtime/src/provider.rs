//! The traits that a provider implements, and the types in them.
use crate::{
    desired::Desired,
    desired::Role,
    external::Externals,
    inputs::{Inputs, Invalid},
};
use k8s_openapi::{api::rbac::v1::PolicyRule, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    CustomResourceExt, Resource,
    core::{ClusterResourceScope, NamespaceResourceScope, object::HasStatus},
};
use openmcp_reconcile::children::{Child, Health};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// A service provider: what tenants order, what the platform configures, and what should exist for it.
///
/// Everything here is free of I/O. The runtime calls [`desired`](Self::desired) whenever an input changes, applies
/// the difference, repairs what others change, and removes what is not desired any more.
pub trait ServiceProvider: Send + Sync + 'static {
    /// The tenant-facing kind, on the onboarding cluster. An object has the name and namespace of its ControlPlane.
    type Api: ServiceApi;
    /// The platform-facing kind. The object that counts bears the provider's name.
    type Config: ProviderConfig;

    /// What the provider may do on the clusters that it is given, and whether it needs a workload cluster at all.
    /// Asked for by AccessRequests, so it is all that the provider can do there.
    fn access(&self) -> Access;

    /// The objects that should exist. No I/O: the same inputs give the same output. Reading an input through `cx`
    /// registers its watch. An error keeps what exists as it is and tells the tenant.
    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid>
    where
        Self: Sized;

    /// The back ends of [`Desired::external`]. None by default. Asked once, when the process starts.
    fn externals(&self) -> Externals {
        Externals::new()
    }

    /// The health of the service, from its live objects. By default all of them must be ready.
    fn health(&self, live: &LiveView<'_>) -> Health {
        kstatus(live)
    }
}

/// The tenant-facing kind: a namespaced custom resource with [`ServiceStatus`]. Implemented by every such kind.
pub trait ServiceApi:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + CustomResourceExt
    + HasStatus<Status = ServiceStatus>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> ServiceApi for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + CustomResourceExt
        + HasStatus<Status = ServiceStatus>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The platform-facing kind: a cluster-scoped custom resource.
pub trait ProviderConfig:
    Resource<DynamicType = (), Scope = ClusterResourceScope>
    + CustomResourceExt
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Whether tenants may pause the reconciles of their own objects by annotation. Deletions are never paused.
    fn tenants_may_pause(&self) -> bool {
        false
    }
}

/// The status of a service object (contract §2.5).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The generation that was last acted on.
    #[serde(default)]
    pub observed_generation: i64,
    /// Progressing, Ready or Terminating.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Ready sums up Synced (everything wanted is applied) and Healthy (what is applied works); Progressing and
    /// Stalled tell waiting from being stuck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "openmcp_api::schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What a provider may do on the clusters that it is given.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub(crate) mcp: Vec<PolicyRule>,
    pub(crate) workload: Option<Vec<PolicyRule>>,
    pub(crate) generates: bool,
}

impl Access {
    /// These rights on the tenant's ControlPlane.
    pub fn mcp(rules: impl IntoIterator<Item = PolicyRule>) -> Self {
        Self {
            mcp: rules.into_iter().collect(),
            workload: None,
            generates: false,
        }
    }

    /// These rights on the workload cluster, which the provider then gets for each service object.
    #[must_use]
    pub fn workload(mut self, rules: impl IntoIterator<Item = PolicyRule>) -> Self {
        self.workload = Some(rules.into_iter().collect());
        self
    }

    /// The rights on the clusters of a role.
    pub(crate) fn on(self, role: Role) -> Vec<PolicyRule> {
        match role {
            Role::Mcp => self.mcp,
            Role::Workload => self.workload.unwrap_or_default(),
        }
    }

    /// The right to make Secrets on the platform, for [`Inputs::generated`].
    #[must_use]
    pub fn generated_values(mut self) -> Self {
        self.generates = true;
        self
    }
}

/// Building blocks of [`Access`].
pub mod rules {
    use k8s_openapi::api::rbac::v1::PolicyRule;

    /// These verbs on these resources of a group.
    pub fn allow(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(owned(resources)),
            verbs: owned(verbs),
            ..PolicyRule::default()
        }
    }

    /// What the runtime needs to make, watch, repair and remove objects.
    pub fn manage(group: &str, resources: &[&str]) -> PolicyRule {
        allow(
            group,
            resources,
            &["get", "list", "watch", "create", "patch", "delete"],
        )
    }

    /// What the runtime needs on the kinds that the service brings: to see whether tenants still use them, and to take
    /// finalizers off their objects when a platform owner ends the service by force.
    pub fn domain(group: &str) -> PolicyRule {
        allow(group, &["*"], &["get", "list", "watch", "patch"])
    }

    /// `manage` for ClusterRoles and their bindings, and the right to give exactly the named roles although the
    /// provider does not hold what they grant.
    pub fn grant(cluster_roles: &[&str]) -> Vec<PolicyRule> {
        let named = allow(
            "rbac.authorization.k8s.io",
            &["clusterroles"],
            &["bind", "escalate"],
        );
        let names = cluster_roles.iter().map(ToString::to_string).collect();
        vec![
            manage(
                "rbac.authorization.k8s.io",
                &["clusterroles", "clusterrolebindings"],
            ),
            PolicyRule {
                resource_names: Some(names),
                ..named
            },
        ]
    }

    /// What [`crate::WorkloadIdentity`] needs on the ControlPlane.
    pub fn identity() -> Vec<PolicyRule> {
        vec![
            manage("", &["serviceaccounts"]),
            allow("", &["serviceaccounts/token"], &["create"]),
        ]
    }
}

/// The live objects of one service object, as far as they exist.
pub struct LiveView<'a> {
    pub(crate) children: Vec<(String, Child)>,
    pub(crate) missing: &'a [String],
}

impl LiveView<'_> {
    /// "Deployment x/kro" and its health, in no order.
    pub fn healths(&self) -> impl Iterator<Item = (&str, &Health)> {
        self.children
            .iter()
            .map(|(name, child)| (name.as_str(), child.health()))
    }
}

/// Everything must be ready; the first thing that is not is named, what failed before what is on its way.
pub fn kstatus(live: &LiveView<'_>) -> Health {
    let mut on_its_way = None;
    for (name, child) in &live.children {
        match child.health() {
            Health::Ready => {}
            Health::Failed(why) => return Health::Failed(format!("{name}: {why}").into()),
            Health::Progressing(why) => on_its_way = on_its_way.or_else(|| Some(format!("{name}: {why}"))),
            Health::Terminating => {
                let held = match child.holders().unwrap_or_default() {
                    [] => String::new(),
                    holders => format!(" (held by {})", holders.join(", ")),
                };
                on_its_way = on_its_way.or_else(|| Some(format!("{name} is being deleted{held}")))
            }
        }
    }
    match on_its_way.or_else(|| live.missing.first().cloned()) {
        Some(why) => Health::Progressing(why.into()),
        None => Health::Ready,
    }
}
