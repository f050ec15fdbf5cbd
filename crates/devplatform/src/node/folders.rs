//! Where the node keeps what belongs to a pod: emptyDirs and logs on disk, rendered volumes in memory.
//!
//! Secrets are kept on a file system in memory where there is one, in a folder of this user alone.
use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// The node's folders.
pub(super) struct Folders {
    pods: PathBuf,
    volatile: PathBuf,
}

/// The folders of one pod.
#[derive(Debug, Clone)]
pub(super) struct PodFolders {
    durable: PathBuf,
    volatile: PathBuf,
}

impl Folders {
    /// Makes the folders below the node's state folder. `volatile` there is a link to the folder in memory, so that
    /// whoever removes the state finds it.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let pods = state.join("pods");
        private_folder(&pods)?;
        Ok(Self {
            pods,
            volatile: volatile_folder(state)?,
        })
    }

    /// The folders of the pod with this UID; they exist on return.
    pub(super) fn pod(&self, uid: &str) -> io::Result<PodFolders> {
        let folders = PodFolders {
            durable: self.pods.join(uid),
            volatile: self.volatile.join(uid),
        };
        private_folder(&folders.durable)?;
        private_folder(&folders.volatile)?;
        Ok(folders)
    }

    /// Removes what belongs to pods that are not among these.
    pub(super) fn keep_only(&self, uids: &HashSet<String>) {
        retain(&self.pods, uids);
        retain(&self.volatile, uids);
    }
}

/// Removes what the node with this state folder keeps in memory, Secrets above all. It is rendered again when the node
/// starts. Nothing happens where there is none.
pub(crate) fn forget_memory(state: &Path) {
    let link = state.join("volatile");
    if let Ok(target) = fs::read_link(&link) {
        remove(&target);
        let _ = fs::remove_file(&link);
    }
}

impl PodFolders {
    /// The folder of an emptyDir: kept while the pod lives, restarts of the node included.
    pub(super) fn empty_dir(&self, volume: &str, in_memory: bool) -> PathBuf {
        let root = if in_memory { &self.volatile } else { &self.durable };
        root.join("empty").join(volume)
    }

    /// The folder that a rendered volume is bound from.
    pub(super) fn rendered(&self, volume: &str) -> PathBuf {
        self.volatile.join("rendered").join(volume)
    }

    /// The folder of a container's logs.
    pub(super) fn logs(&self, container: &str) -> PathBuf {
        self.durable.join("logs").join(container)
    }

    /// The file that becomes a container's termination log.
    pub(super) fn termination_log(&self, container: &str) -> PathBuf {
        self.durable.join("termination").join(container)
    }

    /// A file that becomes one of the sandbox's files in /etc.
    pub(super) fn etc(&self, name: &str) -> PathBuf {
        self.durable.join("etc").join(name)
    }

    /// Removes all of it.
    pub(super) fn remove(&self) {
        remove(&self.durable);
        remove(&self.volatile);
    }
}

fn retain(root: &Path, names: &HashSet<String>) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| names.contains(name))
        {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove a pod's folder");
        }
        _ => {}
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// The folder behind the link `volatile`: the one of the last start if it is still there, else a fresh one.
fn volatile_folder(state: &Path) -> io::Result<PathBuf> {
    let link = state.join("volatile");
    if let Ok(target) = fs::read_link(&link)
        && target.is_dir()
    {
        return Ok(target);
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let bases = [runtime, Some(PathBuf::from("/dev/shm")), Some(state.to_owned())];
    let fresh = bases
        .into_iter()
        .flatten()
        .filter(|base| base.is_dir())
        .find_map(|base| {
            let mut builder = tempfile::Builder::new();
            Some(builder.prefix("openmcp-node-").tempdir_in(base).ok()?.keep())
        })
        .ok_or_else(|| io::Error::other("no folder for volumes can be made"))?;
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(&fresh, &link)?,
    }
    Ok(fresh)
}
