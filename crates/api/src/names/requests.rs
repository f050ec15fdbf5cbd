//! Names of namespaces, requests, clusters and Secrets.
use super::{
    MAX_LENGTH,
    hash::{name_hash, name_uuid, shortened},
};

/// Which cluster a service object's request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestTarget {
    /// The tenant's ControlPlane.
    Mcp,
    /// The cluster on which the service's controller runs.
    Workload,
}

impl RequestTarget {
    /// What names of requests end in.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Workload => "wl",
        }
    }

    /// How the label `openmcp.cloud/managed-purpose` says it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Workload => "workload",
        }
    }
}

/// What an access of a ControlPlane is called: in `status.access`, in the condition type, in the AccessRequest's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessKey<'a> {
    /// Through the OpenID Connect provider of that name.
    Oidc(&'a str),
    /// By the token access of that name.
    Token(&'a str),
}

impl std::fmt::Display for AccessKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Oidc(name) => write!(f, "oidc_{name}"),
            Self::Token(name) => write!(f, "token_{name}"),
        }
    }
}

/// The platform namespace of the ControlPlane `name` in the onboarding namespace `namespace`.
///
/// ```
/// # use openmcp_api::names;
/// assert_eq!(names::control_plane_namespace("default", "my-cp"), "mcp--176e1dce-efcd-8f3f-99a8-e567ed71d1f0");
/// ```
pub fn control_plane_namespace(namespace: &str, name: &str) -> String {
    format!("mcp--{}", name_uuid(&[namespace, name]))
}

/// The AccessRequest for one access of a ControlPlane, in its platform namespace.
pub fn control_plane_access_request(control_plane: &str, key: AccessKey<'_>) -> String {
    name_hash(&[control_plane, &key.to_string()])
}

/// The ClusterRequest and the AccessRequest of a service object, in the ControlPlane's platform namespace.
///
/// ```
/// # use openmcp_api::names::{RequestTarget, request};
/// assert_eq!(request("Velero", "My-CP", RequestTarget::Mcp), "velero--my-cp--mcp");
/// ```
pub fn request(controller: &str, object: &str, target: RequestTarget) -> String {
    let suffix = target.suffix();
    let base = format!("{controller}--{object}").to_lowercase();
    format!("{}--{suffix}", shortened(&base, MAX_LENGTH - 2 - suffix.len()))
}

/// A request that a controller makes for itself, in its own namespace.
pub fn static_request(controller: &str, local_name: &str) -> String {
    shortened(&format!("{controller}--{local_name}").to_lowercase(), MAX_LENGTH)
}

/// The value of the label `openmcp.cloud/managed-purpose` on a service object's requests. The Go library shortens none,
/// and its requests are refused where it is too long for a label: there it is shortened here.
///
/// ```
/// # use openmcp_api::names::{RequestTarget, managed_purpose};
/// assert_eq!(managed_purpose("default", "my-cp", RequestTarget::Workload), "default.my-cp.workload");
/// ```
pub fn managed_purpose(namespace: &str, name: &str, target: RequestTarget) -> String {
    label_value(&format!("{namespace}.{name}.{}", target.id()))
}

/// A label value that may be a longer text: shortened to what a label can hold.
pub fn label_value(text: &str) -> String {
    shortened(text, MAX_LENGTH)
}

/// A prefix that leaves no room for the hash behind it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name prefix {prefix:?} has {} characters; at most 55 leave room for the hash of a Cluster's name", .prefix.len())]
pub struct PrefixTooLong {
    /// The prefix.
    pub prefix: String,
}

/// What the name of a Cluster begins with: the template's generateName, else its purpose.
pub fn cluster_prefix(generate_name: Option<&str>, purpose: &str) -> String {
    match generate_name {
        Some(it) if !it.is_empty() => it.to_owned(),
        _ => format!("{purpose}-"),
    }
}

/// The Cluster that the scheduler makes for a ClusterRequest. The same request has the same Cluster, whatever happens in
/// between.
///
/// # Errors
/// [`PrefixTooLong`] if the prefix is longer than 55 characters.
pub fn cluster(prefix: &str, request_namespace: &str, request_name: &str) -> Result<String, PrefixTooLong> {
    let hash = name_hash(&[request_namespace, request_name]);
    if prefix.len() + hash.len() > MAX_LENGTH {
        return Err(PrefixTooLong {
            prefix: prefix.to_owned(),
        });
    }
    Ok(format!("{prefix}{hash}"))
}

/// The Secret that a granted AccessRequest refers to, beside it.
pub fn secret_of_access_request(access_request: &str) -> String {
    format!("{access_request}.kubeconfig")
}

/// The Secret with a user's kubeconfig, beside the ControlPlane on the onboarding cluster.
///
/// ```
/// # use openmcp_api::names::{AccessKey, user_secret};
/// assert_eq!(user_secret(AccessKey::Oidc("openmcp"), "foo"), "oidc-openmcp.foo.kubeconfig");
/// ```
pub fn user_secret(key: AccessKey<'_>, control_plane: &str) -> String {
    const SUFFIX: &str = ".kubeconfig";
    let base = format!("{}.{control_plane}", key.to_string().replace('_', "-"));
    format!("{}{SUFFIX}", shortened(&base, MAX_LENGTH - SUFFIX.len()))
}

/// The Inventory of a service object, in the ControlPlane's platform namespace. `kind` is the service object's kind.
///
/// A provider whose name contains `--` could make two objects look the same, so its Inventories also bear a hash.
pub fn inventory(provider: &str, kind: &str, object: &str) -> String {
    const MAX: usize = 253;
    let plain = format!("{provider}--{kind}--{object}").to_lowercase();
    if !provider.contains("--") {
        return shortened(&plain, MAX);
    }
    format!(
        "{}--{}",
        shortened(&plain, MAX - 10),
        name_hash(&[provider, kind, object])
    )
}
