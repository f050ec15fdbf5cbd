//! The sandbox of one process: what bubblewrap is told, and the thread that spawns it.
//!
//! The process is PID 1 of its own PID namespace, sees a root in memory with the machine's system folders read-only,
//! its binary at `/entry` (without the folder that it lies in) and its volumes, and nothing of this user's files. It
//! shares the machine's network. Environment values travel in a file descriptor: a command line is for all to read.
mod launcher;

pub(super) use launcher::{Launched, Launcher};

use super::content::Mount;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Where the image's binary is.
pub(super) const ENTRY: &str = "/entry";

/// Files and folders in /etc that programs look for; bound where the machine has them.
const ETC: [&str; 10] = [
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// How this machine lays out its system folders: `/bin` may be a folder or a link into `/usr`.
#[derive(Debug, Clone, Default)]
pub(super) struct HostLayout {
    links: Vec<(PathBuf, PathBuf)>,
    folders: Vec<PathBuf>,
}

impl HostLayout {
    /// Looks at `/usr`, `/bin`, `/lib` and their like.
    pub(super) fn of_this_machine() -> Self {
        let mut layout = Self::default();
        for name in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
            let path = PathBuf::from(name);
            match fs::read_link(&path) {
                Ok(target) => layout.links.push((target, path)),
                Err(_) if path.is_dir() => layout.folders.push(path),
                Err(_) => {}
            }
        }
        layout
    }
}

/// One process to be.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    /// Bound read-only at [`ENTRY`].
    pub(super) binary: PathBuf,
    pub(super) hostname: String,
    /// Files of the pod's own, bound read-only: (file, place).
    pub(super) files: Vec<(PathBuf, String)>,
    /// The file that takes the termination message: (file, place).
    pub(super) termination_log: (PathBuf, String),
    pub(super) mounts: Vec<Mount>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) working_dir: String,
    pub(super) read_only_root: bool,
    pub(super) argv: Vec<String>,
}

/// The text that would end an option early; nothing that comes from an object may hold one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} holds a NUL byte")]
pub(super) struct NulByte(String);

impl Sandbox {
    /// bubblewrap's options, without the command.
    pub(super) fn options(&self, host: &HostLayout) -> Result<Vec<OsString>, NulByte> {
        let mut options = Options::default();
        options.add([
            "--unshare-pid",
            "--as-pid-1",
            "--die-with-parent",
            "--new-session",
        ]);
        options.add(["--cap-drop", "ALL", "--unshare-uts", "--hostname", &self.hostname]);
        options.add(["--tmpfs", "/"]);
        // What bubblewrap makes on the way to a mount would be for its owner alone.
        for folder in ["/etc", "/run", "/var", "/var/run"] {
            options.add(["--perms", "0755", "--dir", folder]);
        }
        for folder in &host.folders {
            options.bind("--ro-bind", folder, folder);
        }
        for (target, link) in &host.links {
            options.bind("--symlink", target, link);
        }
        options.add([
            "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp",
        ]);
        for path in ETC {
            options.add(["--ro-bind-try", path, path]);
        }
        for (file, place) in &self.files {
            options.bind("--ro-bind", file, Path::new(place));
        }
        options.bind("--ro-bind", &self.binary, Path::new(ENTRY));
        options.bind(
            "--bind",
            &self.termination_log.0,
            Path::new(&self.termination_log.1),
        );
        // A mount may lie inside another: the outer one first.
        let mut mounts: Vec<&Mount> = self.mounts.iter().collect();
        mounts.sort_by_key(|mount| Path::new(&mount.place).components().count());
        for mount in mounts {
            let how = if mount.read_only { "--ro-bind" } else { "--bind" };
            options.bind(how, &mount.folder, Path::new(&mount.place));
        }
        options.add(["--dir", &self.working_dir]);
        if self.read_only_root {
            options.add(["--remount-ro", "/"]);
        }
        options.add(["--chdir", &self.working_dir, "--clearenv"]);
        for (name, value) in &self.environment {
            options.add(["--setenv", name, value]);
        }
        options.finish()
    }
}

#[derive(Default)]
struct Options(Vec<OsString>);

impl Options {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn bind(&mut self, how: &str, from: &Path, to: &Path) {
        self.0.extend([OsString::from(how), from.into(), to.into()]);
    }

    /// The options are handed over separated by NUL bytes, so none of them may hold one.
    fn finish(self) -> Result<Vec<OsString>, NulByte> {
        match self
            .0
            .iter()
            .position(|word| word.as_encoded_bytes().contains(&0))
        {
            None => Ok(self.0),
            Some(at) => {
                let before = at.checked_sub(1).and_then(|at| self.0.get(at));
                Err(NulByte(format!(
                    "what follows {}",
                    before.map(|word| word.to_string_lossy()).unwrap_or_default()
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sandbox() -> Sandbox {
        let mount = |folder: &str, place: &str, read_only| Mount {
            folder: PathBuf::from(folder),
            place: place.to_owned(),
            read_only,
        };
        Sandbox {
            binary: PathBuf::from("/build/openmcp-operator"),
            hostname: "web-1".to_owned(),
            files: vec![(PathBuf::from("/state/hosts"), "/etc/hosts".to_owned())],
            termination_log: (
                PathBuf::from("/state/termination"),
                "/dev/termination-log".to_owned(),
            ),
            mounts: vec![
                mount("/state/inner", "/data/inner", true),
                mount("/state/outer", "/data", false),
            ],
            environment: BTreeMap::from([("A".to_owned(), "1 2".to_owned())]),
            working_dir: "/data".to_owned(),
            read_only_root: false,
            argv: vec!["/entry".to_owned()],
        }
    }

    fn host() -> HostLayout {
        HostLayout {
            links: vec![(PathBuf::from("usr/bin"), PathBuf::from("/bin"))],
            folders: vec![PathBuf::from("/usr")],
        }
    }

    fn line(sandbox: &Sandbox) -> String {
        let options = sandbox.options(&host()).unwrap();
        let words: Vec<&str> = options.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn the_entry_is_pid_1_sees_its_binary_alone_and_dies_with_the_node() {
        let line = line(&sandbox());
        for part in [
            "--unshare-pid --as-pid-1 --die-with-parent",
            "--ro-bind /usr /usr",
            "--symlink usr/bin /bin",
            "--ro-bind /build/openmcp-operator /entry",
            "--ro-bind /state/hosts /etc/hosts",
            "--clearenv --setenv A 1 2",
            "--chdir /data",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("/build "), "the binary's folder stays hidden");
        assert!(!line.contains("--remount-ro"));
    }

    #[test]
    fn an_outer_mount_comes_before_the_mounts_inside_it() {
        let line = line(&sandbox());
        let outer = line.find("--bind /state/outer /data").unwrap();
        let inner = line.find("--ro-bind /state/inner /data/inner").unwrap();
        assert!(outer < inner);
    }

    #[test]
    fn a_value_cannot_smuggle_in_an_option() {
        let mut sandbox = sandbox();
        sandbox
            .environment
            .insert("EVIL".to_owned(), "x\0--bind\0/\0/host".to_owned());
        let error = sandbox.options(&host()).unwrap_err();
        assert!(error.to_string().contains("EVIL"), "{error}");
    }
}
