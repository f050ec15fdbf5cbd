//! The programs of a control plane: where they come from, and how they are made when they are nowhere.
//!
//! In this order: `$OPENMCP_ASSETS`, `$KUBEBUILDER_ASSETS` (its Kubernetes must be of our minor version), the
//! cache, a release that `$OPENMCP_ASSETS_URL` offers (checksum verified), the Go modules whose go.mod and go.sum
//! are compiled into this program. Each program is made once and appears in the cache as a whole.
mod build;
mod download;
mod progress;
mod tool;

pub(crate) use tool::Tool;

use crate::{
    process::Ledger,
    state::{Home, Lock, private_folder},
};
use anyhow::{Context, bail};
use progress::Progress;
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tool::Suite;

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub(crate) struct Assets {
    /// `$OPENMCP_ASSETS`: a folder with the programs, trusted as it is.
    given: Option<PathBuf>,
    /// `$KUBEBUILDER_ASSETS`, which many developers have set for other purposes.
    kubebuilder: Option<PathBuf>,
    /// `$OPENMCP_ASSETS_URL`: a place that offers release archives and their checksums.
    url: Option<String>,
    cache: PathBuf,
}

impl Assets {
    /// Reads the environment.
    pub(crate) fn from_env(home: &Home) -> Self {
        let folder = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            given: folder("OPENMCP_ASSETS"),
            kubebuilder: folder("KUBEBUILDER_ASSETS"),
            url: env::var("OPENMCP_ASSETS_URL").ok().filter(|url| !url.is_empty()),
            cache: home.cache.clone(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(cache: &Path) -> Self {
        Self {
            given: None,
            kubebuilder: None,
            url: None,
            cache: cache.to_owned(),
        }
    }

    /// The program, if it is there already.
    pub(crate) fn find(&self, tool: Tool) -> Option<PathBuf> {
        let given = self
            .given
            .iter()
            .map(|folder| folder.join(tool.binary()))
            .find(|path| is_program(path));
        given.or_else(|| self.find_kubebuilder(tool)).or_else(|| {
            let path = self.cached(tool);
            is_program(&path).then_some(path)
        })
    }

    /// Programs of another minor version would run, and behave otherwise than everything here is tested with.
    fn find_kubebuilder(&self, tool: Tool) -> Option<PathBuf> {
        let path = self.kubebuilder.as_ref()?.join(tool.binary());
        if !is_program(&path) {
            return None;
        }
        let output = Command::new(&path).args(tool.version_args()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains(tool.minor_version()).then_some(path)
    }

    /// Where the cache keeps a program.
    fn cached(&self, tool: Tool) -> PathBuf {
        self.suite_folder(tool.suite()).join(tool.binary())
    }

    fn suite_folder(&self, suite: Suite) -> PathBuf {
        self.cache
            .join("assets")
            .join(format!("{}-{}", suite.name(), suite.version()))
    }

    /// The folder with kro's CustomResourceDefinitions, one YAML file each; [`Assets::ensure`] of kro makes it.
    pub(crate) fn kro_crds(&self) -> PathBuf {
        self.suite_folder(Suite::Kro).join("crds")
    }

    /// Makes sure that every tool is there and says where. What is missing is made: first it is said what and how
    /// long that will take, then each program is shown while it is made. Blocks; interrupted, it goes on where it
    /// was. Whoever interrupts it calls [`Assets::abandon`].
    pub(crate) fn ensure(&self, tools: &[Tool]) -> anyhow::Result<()> {
        if let Some(given) = self.given.as_ref().filter(|given| !given.is_dir()) {
            bail!(
                "OPENMCP_ASSETS is {}, and there is no such folder",
                given.display()
            );
        }
        if self.missing(tools).is_empty() {
            return Ok(());
        }
        private_folder(&self.cache)?;
        let _lock = Lock::acquire(&self.cache.join("assets.lock"), "builds programs")?;
        self.end_leftovers()?;
        // Whoever held the lock may have built them.
        let mut missing = self.missing(tools);
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(url) = &self.url {
            missing = self.download(url, &missing);
        }
        self.build(&missing)
    }

    fn missing(&self, tools: &[Tool]) -> Vec<Tool> {
        let absent = |tool: &Tool| {
            self.find(*tool).is_none() || (*tool == Tool::Kro && !build::has_crds(&self.kro_crds()))
        };
        tools.iter().copied().filter(absent).collect()
    }

    /// Takes what a release offers; what it does not offer, or not with the right checksum, is still missing.
    fn download(&self, url: &str, missing: &[Tool]) -> Vec<Tool> {
        let mut suites: Vec<Suite> = missing.iter().map(|tool| tool.suite()).collect();
        suites.dedup();
        for suite in suites {
            let folder = self.suite_folder(suite);
            match download::suite(url, suite, &folder) {
                Ok(()) => say!("  downloaded {} {} from {url}", suite.name(), suite.version()),
                Err(error) => say!(
                    "  {} {} cannot be downloaded: {error:#}",
                    suite.name(),
                    suite.version()
                ),
            }
        }
        self.missing(missing)
    }

    fn build(&self, missing: &[Tool]) -> anyhow::Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|tool| tool.binary()).collect();
        let Some(go) = crate::prerequisites::find_program("go") else {
            bail!(
                "{} must be built once from Go modules, and Go is not installed: install Go 1.26 or newer \
                 (https://go.dev/dl) and run this again, or set OPENMCP_ASSETS to a folder that holds the programs",
                names.join(", ")
            );
        };
        let estimate: Duration = missing.iter().map(|tool| tool.estimate()).sum();
        say!(
            "  building {} from Go modules, once: about {} on two cores",
            names.join(", "),
            progress::words(estimate)
        );
        let mut building = Ledger::open(self.building())?;
        for tool in missing {
            let folder = self.suite_folder(tool.suite());
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let workspace = self.cache.join("build").join(tool.suite().name());
            let mut progress = Progress::start(tool.binary(), tool.estimate());
            build::program(&go, *tool, &workspace, &folder, &mut building, &mut progress)?;
        }
        Ok(())
    }

    fn building(&self) -> PathBuf {
        self.cache.join("building.json")
    }

    /// A build whose starter was killed still runs: it would only compete with ours.
    fn end_leftovers(&self) -> anyhow::Result<()> {
        let mut building = Ledger::open(self.building())?;
        let names = building.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        building.end(&names, Duration::from_secs(2))?;
        Ok(())
    }

    /// Ends a build that is under way in this process; what is complete stays.
    pub(crate) fn abandon(&self) {
        if let Err(error) = self.end_leftovers() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Whether it is a file that may be executed.
pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_given_folder_comes_before_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let mut assets = Assets::for_tests(folder.path());
        assert_eq!(assets.find(Tool::Etcd), None);
        let cached = program(&folder.path().join("assets/etcd-v3.6.8"), "etcd", "");
        assert_eq!(assets.find(Tool::Etcd), Some(cached.clone()));
        let given = folder.path().join("given");
        assets.given = Some(given.clone());
        assert_eq!(
            assets.find(Tool::Etcd),
            Some(cached),
            "the given folder has no etcd"
        );
        let own = program(&given, "etcd", "");
        assert_eq!(assets.find(Tool::Etcd), Some(own));
    }

    #[test]
    fn kubebuilders_programs_are_used_only_when_their_minor_version_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut assets = Assets::for_tests(&folder.path().join("cache"));
        assets.kubebuilder = Some(folder.path().to_owned());
        program(folder.path(), "kube-apiserver", "echo Kubernetes v1.30.0");
        assert_eq!(assets.find(Tool::KubeApiserver), None);
        let right = program(folder.path(), "kube-apiserver", "echo Kubernetes v1.36.1");
        assert_eq!(assets.find(Tool::KubeApiserver), Some(right));
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut assets = Assets::for_tests(&folder.path().join("cache"));
        assets.given = Some(folder.path().to_owned());
        program(folder.path(), "etcd", "");
        assets.ensure(&[Tool::Etcd]).unwrap();
        assert!(!folder.path().join("cache").exists(), "nothing was written");
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "etcd", "");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut assets = Assets::for_tests(&folder.path().join("cache"));
        assets.given = Some(folder.path().to_owned());
        assert_eq!(assets.find(Tool::Etcd), None);
    }
}
