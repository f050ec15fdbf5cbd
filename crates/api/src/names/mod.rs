//! How objects are named, so that every implementation finds what another one made (contract §5, §11.4–11.6).
//!
//! Names are stable functions of their inputs; nothing here is random.
mod hash;
mod provider;
mod requests;

pub use hash::{MaxTooSmall, name_hash, name_uuid, shorten};
pub use provider::{Component, ProviderNames};
pub use requests::{
    AccessKey, PrefixTooLong, RequestTarget, cluster, cluster_prefix, control_plane_access_request,
    control_plane_namespace, inventory, label_value, managed_purpose, request, secret_of_access_request,
    static_request, user_secret,
};

/// Longest name that Kubernetes accepts wherever a DNS label is wanted, and longest label value.
pub const MAX_LENGTH: usize = 63;
