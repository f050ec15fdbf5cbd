//! Where a platform keeps what it needs: the folder of one platform, its lock, its loopback block.
//!
//! Knows names and files; knows nothing of Kubernetes or of processes.
pub(crate) mod block;
mod lock;

pub(crate) use block::Block;
pub(crate) use lock::Lock;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The two folders that this program writes to.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Platforms, one folder each: `$OPENMCP_HOME`, else `$XDG_STATE_HOME/openmcp`, else `~/.local/state/openmcp`.
    pub(crate) state: PathBuf,
    /// Built programs: `$OPENMCP_CACHE`, else `$XDG_CACHE_HOME/openmcp`, else `~/.cache/openmcp`.
    pub(crate) cache: PathBuf,
}

impl Home {
    /// Reads the environment. Nothing is created.
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        Self::resolve(|name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        })
    }

    fn resolve(var: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = |own: &str, xdg: &str, usual: &str| {
            var(own)
                .or_else(|| Some(var(xdg)?.join("openmcp")))
                .or_else(|| Some(var("HOME")?.join(usual).join("openmcp")))
                .with_context(|| {
                    format!("neither {own}, {xdg} nor HOME is set: set {own} to a folder of yours")
                })
        };
        Ok(Self {
            state: folder("OPENMCP_HOME", "XDG_STATE_HOME", ".local/state")?,
            cache: folder("OPENMCP_CACHE", "XDG_CACHE_HOME", ".cache")?,
        })
    }
}

/// One platform on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    /// `--name`.
    pub(crate) name: String,
    /// Its state folder.
    pub(crate) folder: PathBuf,
    /// Its loopback addresses.
    pub(crate) block: Block,
}

/// `platform.json`: what must not change while the platform exists.
#[derive(Serialize, Deserialize)]
struct Identity {
    name: String,
    number: u8,
}

impl Platform {
    /// The platform of this name, if it has a state folder.
    pub(crate) fn find(home: &Home, name: &str) -> anyhow::Result<Option<Self>> {
        let folder = home.state.join(name);
        let path = folder.join("platform.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let identity: Identity = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged: delete the folder {}",
                path.display(),
                folder.display()
            )
        })?;
        Ok(Some(Self {
            name: identity.name,
            folder,
            block: Block::new(identity.number)?,
        }))
    }

    /// The platform of this name, or an error that says how to start it.
    pub(crate) fn require(home: &Home, name: &str) -> anyhow::Result<Self> {
        Self::find(home, name)?.with_context(|| {
            format!(
                "there is no platform {name:?} in {}: `openmcp dev up --name {name}` starts one",
                home.state.display()
            )
        })
    }

    /// The platform of this name; a new one gets the first loopback block that is free. The caller holds the
    /// platform's lock.
    pub(crate) fn find_or_create(home: &Home, name: &str) -> anyhow::Result<Self> {
        if let Some(platform) = Self::find(home, name)? {
            return Ok(platform);
        }
        private_folder(&home.state)?;
        // Two platforms that are created at once must not choose the same block.
        let _allocation = Lock::acquire(&home.state.join(".blocks.lock"), "chooses its addresses")?;
        let taken: Vec<u8> = Self::all(home)?
            .iter()
            .map(|platform| platform.block.number())
            .collect();
        let block = Block::first_free(&taken)?;
        let folder = home.state.join(name);
        private_folder(&folder)?;
        let identity = serde_json::to_vec_pretty(&Identity {
            name: name.to_owned(),
            number: block.number(),
        })?;
        write_private(&folder.join("platform.json"), &identity)?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            block,
        })
    }

    fn all(home: &Home) -> anyhow::Result<Vec<Self>> {
        let entries =
            fs::read_dir(&home.state).with_context(|| format!("cannot list {}", home.state.display()))?;
        entries
            .filter_map(|entry| parse_name(entry.ok()?.file_name().to_str()?).ok())
            .filter_map(|name| Self::find(home, &name).transpose())
            .collect()
    }

    /// The lock of the platform of this name. It lies beside the folder, so that it survives `down`.
    pub(crate) fn lock(home: &Home, name: &str) -> anyhow::Result<Lock> {
        private_folder(&home.state)?;
        Lock::acquire(
            &home.state.join(format!(".{name}.lock")),
            &format!("works on the platform {name:?}"),
        )
    }

    /// A file or folder of this platform.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.join(relative)
    }

    /// The processes of the platform.
    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.path("processes.json")
    }

    /// Where a process's output goes.
    pub(crate) fn log_path(&self, process: &str) -> PathBuf {
        self.path("logs").join(format!("{process}.log"))
    }

    /// The kubeconfig of one identity (`platform-owner`, `onboarding`, `admin`, …).
    pub(crate) fn kubeconfig_path(&self, identity: &str) -> PathBuf {
        self.path("kubeconfigs").join(format!("{identity}.yaml"))
    }
}

/// A platform's name becomes a folder and part of messages: a DNS label of at most 30 characters.
pub(crate) fn parse_name(text: &str) -> anyhow::Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 30
        || !text.chars().all(plain)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        bail!("a platform's name is 1 to 30 of a-z, 0-9 and -, and neither begins nor ends with -");
    }
    Ok(text.to_owned())
}

/// Creates a folder that only its owner may read, and proves that it can be written to.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the folder {}", path.display()))?;
    tempfile::Builder::new()
        .prefix(".probe")
        .tempfile_in(path)
        .with_context(|| format!("the folder {} is not writable", path.display()))?;
    Ok(())
}

/// Writes a file of mode 0600 as a whole: a reader sees the old content or the new one.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(content)?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home {
            state: folder.path().join("state"),
            cache: folder.path().join("cache"),
        };
        (folder, home)
    }

    #[test]
    fn own_variables_come_before_xdg_and_home() {
        let var = |name: &str| match name {
            "OPENMCP_HOME" => Some(PathBuf::from("/own")),
            "XDG_CACHE_HOME" => Some(PathBuf::from("/xdg")),
            "HOME" => Some(PathBuf::from("/home/me")),
            _ => None,
        };
        let home = Home::resolve(var).unwrap();
        assert_eq!(home.state, Path::new("/own"));
        assert_eq!(home.cache, Path::new("/xdg/openmcp"));
        let message = Home::resolve(|_| None).unwrap_err().to_string();
        assert!(message.contains("OPENMCP_HOME"), "{message}");
    }

    #[test]
    fn two_platforms_get_two_blocks_and_keep_them() {
        let (_folder, home) = home();
        let a = Platform::find_or_create(&home, "a").unwrap();
        let b = Platform::find_or_create(&home, "b").unwrap();
        assert_ne!(a.block.number(), b.block.number());
        assert_eq!(
            Platform::find_or_create(&home, "a").unwrap().block.number(),
            a.block.number()
        );
        assert!(Platform::find(&home, "c").unwrap().is_none());
        let message = Platform::require(&home, "c").unwrap_err().to_string();
        assert!(message.contains("dev up"), "{message}");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let message = format!("{:#}", private_folder(&file.join("state")).unwrap_err());
        assert!(message.contains(&file.display().to_string()), "{message}");
    }

    #[test]
    fn private_files_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, b"1").unwrap();
        write_private(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn names_are_dns_labels() {
        assert!(parse_name("dev-2").is_ok());
        for bad in ["", "-a", "a-", "A", "../x", "a.b", &"x".repeat(31)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
