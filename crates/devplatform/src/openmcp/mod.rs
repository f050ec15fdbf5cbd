//! Installs openMCP.
use crate::{console::Steps, control_plane::ControlPlane, images::Images, state::Platform};
use kube::Client;

pub(crate) async fn install(_: &Platform, _: &ControlPlane<'_>, _: &Images, _: &Steps) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: use --kubernetes-only")
}
pub(crate) async fn state(_: &Client) -> anyhow::Result<Option<Vec<(String, String, bool)>>> {
    Ok(None)
}
