//! `dev down`: everything that is recorded is ended and removed.
use crate::{
    control_plane::end_all,
    node::forget_memory,
    process::Ledger,
    state::{Home, Platform},
};
use anyhow::Context;
use std::{fs, io};
use tokio::task::spawn_blocking;

/// Ends and removes a platform; one that does not exist is said, not an error.
pub(crate) async fn down(home: &Home, name: &str) -> anyhow::Result<()> {
    let (home, name) = (home.clone(), name.to_owned());
    spawn_blocking(move || {
        let folder = home.state.join(&name);
        if !folder.exists() {
            say!("there is no platform {name:?}: nothing to end");
            return Ok(());
        }
        let _lock = Platform::lock(&home, &name)?;
        // A start that was killed in its first moments left a folder and nothing in it.
        if let Some(platform) = Platform::find(&home, &name)? {
            end_all(&platform, &mut Ledger::open(platform.ledger_path())?)?;
        }
        // A node that was killed has left its pods' Secrets in memory, outside the folder.
        forget_memory(&folder.join("node"));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => {
                say!("platform {name:?} is down; nothing of it is left");
                Ok(())
            }
        }
    })
    .await?
}
