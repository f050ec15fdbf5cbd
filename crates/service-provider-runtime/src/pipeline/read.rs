//! Step 1: the ProviderConfig, and the ControlPlane that the object belongs to.
use crate::{provider::ServiceProvider, stop::Stop, world::World};
use kube::Resource;
use openmcp_reconcile::Key;
use std::sync::Arc;

/// An input that is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("there is no ProviderConfig {0}: the platform owner has to create it")]
    NoConfig(&'static str),
    #[error(
        "there is no ControlPlane {namespace}/{name}: a {kind} must bear the name of the ControlPlane that it is for; {}",
        known(.others)
    )]
    NoControlPlane {
        kind: &'static str,
        namespace: String,
        name: String,
        others: Vec<String>,
    },
    #[error("ControlPlane {0}/{1} is being deleted")]
    ControlPlaneTerminating(String, String),
}

fn known(others: &[String]) -> String {
    if others.is_empty() {
        "its namespace has none".to_owned()
    } else {
        format!("its namespace has {}", others.join(", "))
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::NoConfig(_) => Self::stuck("ProviderConfigMissing", message),
            ReadError::NoControlPlane { .. } => Self::stuck("ControlPlaneMissing", message),
            ReadError::ControlPlaneTerminating(..) => Self::wait("ControlPlaneTerminating", message),
        }
    }
}

/// The configuration of a provider whose object has a ControlPlane.
pub(super) fn inputs<P: ServiceProvider>(world: &World<P>, key: &Key) -> Result<Arc<P::Config>, ReadError> {
    let name = world.names.provider;
    let config = world
        .configs
        .get("", name)
        .filter(|config| config.meta().deletion_timestamp.is_none());
    let config = config.ok_or(ReadError::NoConfig(name))?;
    match world.control_planes.get(&key.namespace, &key.name) {
        Some(found) if !found.terminates => Ok(config),
        Some(_) => Err(ReadError::ControlPlaneTerminating(
            key.namespace.to_string(),
            key.name.to_string(),
        )),
        None => Err(ReadError::NoControlPlane {
            kind: world.names.kind,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            others: neighbours(world, &key.namespace),
        }),
    }
}

/// The ControlPlanes beside the object: one of them is probably meant.
fn neighbours<P: ServiceProvider>(world: &World<P>, namespace: &str) -> Vec<String> {
    let places = world.control_planes.places().into_iter();
    let mut names: Vec<String> = places
        .filter(|(beside, _)| beside == namespace)
        .map(|(_, name)| name)
        .collect();
    names.sort_unstable();
    names
}
