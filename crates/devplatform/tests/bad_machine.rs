//! A machine that is not as it should be: `openmcp dev up` says what is wrong and what to do, fails, and starts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A machine with nothing but bubblewrap, and folders of its own.
struct Machine {
    folder: TempDir,
    state: PathBuf,
    cache: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        program(&at("bin/bwrap"));
        fs::create_dir(at("assets")).unwrap();
        Self {
            state: at("state"),
            cache: at("cache"),
            folder,
        }
    }

    /// Programs that stand for those of a control plane; none of them is ever run.
    fn with_programs(self) -> Self {
        for name in [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubectl",
        ] {
            program(&self.folder.path().join("assets").join(name));
        }
        self
    }

    /// What `openmcp dev up` says when it fails.
    fn up(&self) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_openmcp"))
            .args(["dev", "up", "--kubernetes-only", "--name", "bad"])
            .env_clear()
            .env("PATH", self.folder.path().join("bin"))
            .env("OPENMCP_HOME", &self.state)
            .env("OPENMCP_CACHE", &self.cache)
            .env("OPENMCP_ASSETS", self.folder.path().join("assets"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let ledger = fs::read_to_string(self.state.join("bad/processes.json")).unwrap_or_default();
        assert!(!ledger.contains("pid"), "something was started: {ledger}");
        said
    }
}

fn program(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[track_caller]
fn says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
}

#[test]
fn without_go_and_without_a_download_it_says_what_is_missing_and_what_helps() {
    let machine = Machine::new();
    says(
        &machine.up(),
        &[
            "kube-apiserver",
            "Go is not installed",
            "https://go.dev/dl",
            "OPENMCP_ASSETS",
        ],
    );
    assert!(!machine.state.join("bad").exists(), "a platform was made");
}

#[test]
fn a_folder_of_programs_that_is_not_there_is_named() {
    let machine = Machine::new();
    let assets = machine.folder.path().join("assets");
    fs::remove_dir(&assets).unwrap();
    says(
        &machine.up(),
        &["OPENMCP_ASSETS", &assets.display().to_string(), "no such folder"],
    );
    assert!(!machine.state.join("bad").exists(), "a platform was made");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let mut machine = Machine::new().with_programs();
    // Root may write everywhere, but not below a file.
    machine.state = machine.folder.path().join("bin/bwrap/state");
    says(
        &machine.up(),
        &["cannot create the folder", &machine.state.display().to_string()],
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let mut machine = Machine::new();
    machine.cache = machine.folder.path().join("bin/bwrap/cache");
    says(
        &machine.up(),
        &["cannot create the folder", &machine.cache.display().to_string()],
    );
    assert!(!machine.state.join("bad").exists(), "a platform was made");
}

#[test]
fn a_port_in_use_is_named_with_who_needs_it_and_how_to_find_who_has_it() {
    let machine = Machine::new().with_programs();
    // A platform that was made when the address was free.
    fs::create_dir_all(machine.state.join("bad")).unwrap();
    fs::write(
        machine.state.join("bad/platform.json"),
        r#"{"name": "bad", "number": 153}"#,
    )
    .unwrap();
    let _other_program = TcpListener::bind("127.253.0.1:2379").unwrap();
    says(
        &machine.up(),
        &[
            "127.253.0.1:2379 is in use by another program",
            "etcd",
            "ss -ltnp 'sport = :2379'",
            "--name",
        ],
    );
}
