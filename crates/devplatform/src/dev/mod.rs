//! `openmcp dev`: a local platform of real processes on loopback.
use crate::node::NodeConfig;
use anyhow::Context;
use clap::Subcommand;
use std::{fs, path::Path};

#[derive(Subcommand)]
pub(crate) enum Dev {
    /// Start the platform, or what is missing of it.
    Up,
}

/// Runs one `dev` subcommand.
pub(crate) fn run(command: Dev) -> anyhow::Result<()> {
    match command {
        Dev::Up => anyhow::bail!("not built yet"),
    }
}

/// Reads `<state>/node.json`.
pub(crate) fn node_config(state: &Path) -> anyhow::Result<NodeConfig> {
    let path = state.join("node.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a node configuration", path.display()))
}
