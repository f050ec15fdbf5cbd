//! `init`: the platform's CRDs. Idempotent; fails loudly.
use crate::{cli::Common, config::Config, crds, onboarding::NAME};
use anyhow::Context;
use openmcp_api::crds::{InstalledOn, installed_on};
use openmcp_reconcile::cluster::Connection;

/// Installs the platform's CRDs and waits until they are served. A configuration that `run` would refuse is refused
/// here already, before anything is changed.
pub(crate) async fn init(flags: &Common) -> anyhow::Result<()> {
    if let Some(path) = &flags.config {
        Config::read(path)?;
    }
    let connection = Connection::infer(NAME).await?;
    let crds = installed_on(InstalledOn::Platform);
    let count = crds.len();
    crds::install(&connection.client(), NAME, crds)
        .await
        .with_context(|| format!("install the platform's CRDs on {}", connection.server()))?;
    tracing::info!(
        environment = flags.environment,
        crds = count,
        "the platform's CRDs are served"
    );
    Ok(())
}
