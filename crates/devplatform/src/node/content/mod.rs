//! What a pod gets to see: environment variables and volumes, from Secrets, ConfigMaps, tokens and the pod itself.
//!
//! The rules are pure: [`env`], [`downward`] and [`volumes`] compute from what is known now and name what is missing.
//! [`keeper`] keeps the rendered volumes of one pod up to date; [`swap`] replaces a folder's files in one step.
mod downward;
mod env;
mod keeper;
mod quantity;
mod swap;
mod volumes;

pub(super) use env::{expand, resolve};
pub(super) use keeper::{Keeper, VolumesReady};
pub(super) use volumes::{Mount, mounts, references};

use super::objects::{Data, ObjectKey, Observed, Subscriptions};
use k8s_openapi::api::core::v1::Pod;
use std::net::Ipv4Addr;

/// What the downward API may tell about a pod, beside the pod itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) pod: &'a Pod,
    pub(super) pod_ip: Ipv4Addr,
    pub(super) host_ip: Ipv4Addr,
}

/// Why content cannot be made now. The message is shown in the container's status.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum ContentError {
    #[error("waiting for the first answer about {0}")]
    Pending(ObjectKey),
    #[error("{0} is not readable by this node: {1}")]
    Refused(ObjectKey, String),
    #[error("{0} not found")]
    NotFound(ObjectKey),
    #[error("key {key:?} not found in {object}")]
    NoKey { object: ObjectKey, key: String },
    #[error("key {key:?} of {object} cannot be an environment variable: it is not text")]
    NotText { object: ObjectKey, key: String },
    #[error("field {0:?} is not one that the downward API knows")]
    NoField(String),
    #[error("resource {0:?} cannot be computed")]
    NoResource(String),
    #[error("no token for service account {account}: {problem}")]
    Token { account: String, problem: String },
    #[error("it cannot be written: {0}")]
    Write(String),
}

impl ContentError {
    fn write(error: std::io::Error) -> Self {
        Self::Write(error.to_string())
    }
}

/// The look-up that all of them use: `Ok(None)` is an optional object that does not exist.
fn object(
    objects: &Subscriptions,
    key: &ObjectKey,
    optional: Option<bool>,
) -> Result<Option<Data>, ContentError> {
    judge(objects.get(key), key, optional == Some(true))
}

fn judge(observed: Observed, key: &ObjectKey, optional: bool) -> Result<Option<Data>, ContentError> {
    match observed {
        Observed::Present(data) => Ok(Some(data)),
        Observed::Absent if optional => Ok(None),
        Observed::Absent => Err(ContentError::NotFound(key.clone())),
        Observed::Refused(problem) => Err(ContentError::Refused(key.clone(), problem)),
        Observed::Unknown => Err(ContentError::Pending(key.clone())),
    }
}
