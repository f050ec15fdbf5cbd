//! Field types that several kinds share, and the phases that their status may show.
//!
//! Phases are strings on the wire and strings here: other implementations may write values that this one does not
//! know, and an object must stay readable then.
use k8s_openapi::api::rbac::v1::{PolicyRule, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Values of `status.phase`.
pub mod phase {
    /// On the way to Ready: something is being created or updated.
    pub const PROGRESSING: &str = "Progressing";
    /// Every condition is True.
    pub const READY: &str = "Ready";
    /// The object is being deleted.
    pub const TERMINATING: &str = "Terminating";
    /// A provider is being uninstalled.
    pub const UNINSTALLING: &str = "Uninstalling";
    /// A request that was neither granted nor denied yet.
    pub const PENDING: &str = "Pending";
    /// A request that was granted.
    pub const GRANTED: &str = "Granted";
    /// A request that cannot be granted.
    pub const DENIED: &str = "Denied";
}

/// An object in a namespace that is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct ObjectReference {
    /// The object's name.
    pub name: String,
    /// The object's namespace.
    pub namespace: String,
}

impl ObjectReference {
    /// A reference to `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}

impl std::fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object in the namespace of the object that refers to it, or a cluster-scoped one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalObjectReference {
    /// The object's name.
    #[serde(default)]
    pub name: String,
}

impl LocalObjectReference {
    /// A reference to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// A kind in an API group and version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupVersionKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

impl GroupVersionKind {
    /// A kind in a group and version.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }
}

impl From<&GroupVersionKind> for kube::core::GroupVersionKind {
    fn from(it: &GroupVersionKind) -> Self {
        Self::gvk(&it.group, &it.version, &it.kind)
    }
}

impl std::fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.kind, self.version, self.group)
    }
}

/// Where an API server can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// What the endpoint is for, e.g. `apiserver-external`.
    pub name: String,
    /// The endpoint's URL.
    pub url: String,
}

/// The kinds of roles that a role reference may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RoleKind {
    Role,
    ClusterRole,
}

impl RoleKind {
    /// The kind as it is written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
        }
    }
}

/// A Role or ClusterRole that is to be bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RoleRef {
    /// Name of the Role or ClusterRole. It need not exist: a binding to a missing role has no effect.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where the role is bound. A Role needs it; a ClusterRole without it is bound in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `Role` or `ClusterRole`.
    pub kind: RoleKind,
}

/// Subjects and the roles that they get.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleBindings {
    /// Who gets the roles. The provider's user name prefix is added to the names; do not write it here.
    #[schemars(schema_with = "schema::subjects")]
    pub subjects: Vec<Subject>,
    /// The roles that the subjects get.
    pub role_refs: Vec<RoleRef>,
}

/// Rights that are asked for: a ClusterRole, or a Role where a namespace is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermissionsRequest {
    /// Name of the Role or ClusterRole to create. Made up, and unique in the cluster, where it is not given. A role of
    /// this name that belongs to somebody else is never taken over: access is not granted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The namespace that the rights are for; the whole cluster without it. A missing namespace is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether a missing namespace is left missing. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_automatic_namespace_creation: Option<bool>,
    /// The rights. May be empty, e.g. to have only the namespace created.
    #[schemars(schema_with = "schema::policy_rules")]
    pub rules: Vec<PolicyRule>,
}

impl PermissionsRequest {
    /// The namespace, unless it is absent or empty.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|it| !it.is_empty())
    }

    /// Whether a missing namespace is to be created.
    pub fn creates_namespace(&self) -> bool {
        self.namespace().is_some() && !self.disable_automatic_namespace_creation.unwrap_or_default()
    }
}

/// An OpenID Connect provider whose users get access.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcProviderConfig {
    /// Name of the provider, unique in the installation. It becomes part of object names, and `<name>:` is the default
    /// prefix of its users and groups.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        extend("x-kubernetes-validations" = [{
            "rule": "self != \"system\"",
            "message": "'system' is a reserved string and may not be used as OIDC provider name",
        }])
    )]
    pub name: String,
    /// URL of the issuer.
    #[schemars(length(min = 1), regex(pattern = r"^https?://[^\s/$.?#].[^\s]*$"))]
    pub issuer: String,
    /// The client id to use with the provider.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// Prefix of group names. Default `<name>:`; the empty string means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_prefix: Option<String>,
    /// The claim that holds the groups.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// Prefix of user names. Default `<name>:`; the empty string means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_prefix: Option<String>,
    /// The claim that holds the user name.
    #[serde(default = "default_username_claim")]
    pub username_claim: String,
    /// Scopes to ask for beside the usual ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_scopes: Vec<String>,
    /// Users and groups of the provider and the roles that they get.
    pub role_bindings: Vec<RoleBindings>,
}

impl OidcProviderConfig {
    /// The prefix of group names that is in effect.
    pub fn groups_prefix(&self) -> String {
        self.groups_prefix
            .clone()
            .unwrap_or_else(|| format!("{}:", self.name))
    }

    /// The prefix of user names that is in effect.
    pub fn username_prefix(&self) -> String {
        self.username_prefix
            .clone()
            .unwrap_or_else(|| format!("{}:", self.name))
    }

    /// The claim that holds the groups: the default one where it is empty, as Go clients write it.
    pub fn groups_claim(&self) -> &str {
        if self.groups_claim.is_empty() {
            GROUPS_CLAIM
        } else {
            &self.groups_claim
        }
    }

    /// The claim that holds the user name: the default one where it is empty, as Go clients write it.
    pub fn username_claim(&self) -> &str {
        if self.username_claim.is_empty() {
            USERNAME_CLAIM
        } else {
            &self.username_claim
        }
    }
}

const GROUPS_CLAIM: &str = "groups";
const USERNAME_CLAIM: &str = "sub";

fn default_groups_claim() -> String {
    GROUPS_CLAIM.into()
}

fn default_username_claim() -> String {
    USERNAME_CLAIM.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oidc_provider_has_prefixes_made_of_its_name_unless_it_says_otherwise() {
        let mut provider = OidcProviderConfig {
            name: "corporate".into(),
            ..Default::default()
        };
        assert_eq!(
            (provider.groups_prefix(), provider.username_prefix()),
            ("corporate:".into(), "corporate:".into())
        );
        provider.groups_prefix = Some(String::new());
        provider.username_prefix = Some("corp-".into());
        assert_eq!(
            (provider.groups_prefix(), provider.username_prefix()),
            (String::new(), "corp-".into())
        );
    }

    #[test]
    fn an_empty_claim_is_the_default_claim() {
        let provider = OidcProviderConfig::default();
        assert_eq!(
            (provider.groups_claim(), provider.username_claim()),
            ("groups", "sub")
        );
    }

    #[test]
    fn a_namespace_is_created_unless_that_is_switched_off() {
        let request = |namespace: Option<&str>, disabled| PermissionsRequest {
            namespace: namespace.map(Into::into),
            disable_automatic_namespace_creation: disabled,
            ..Default::default()
        };
        assert!(request(Some("project-a"), None).creates_namespace());
        assert!(!request(Some("project-a"), Some(true)).creates_namespace());
        assert!(
            !request(Some(""), None).creates_namespace(),
            "Go clients write an empty one for none"
        );
        assert!(!request(None, None).creates_namespace());
    }
}
