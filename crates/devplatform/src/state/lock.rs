//! A lock between processes: a file that is locked as long as its holder lives, however the holder ends.
use anyhow::Context;
use std::{
    fs::{File, TryLockError},
    path::Path,
};

/// Held until dropped. The file stays: removing it would let two holders lock two files of one name.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever holds it; `what` completes the sentence "another openmcp command …".
    pub(crate) fn acquire(path: &Path, what: &str) -> anyhow::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.with_context(|| format!("cannot open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("another openmcp command {what}: waiting for it");
                file.lock()
                    .with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Self { _file: file })
    }
}
