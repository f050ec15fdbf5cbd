//! What must be on the machine before anything starts, and what is done about it when it is not.
use anyhow::{Context, bail};
use nix::unistd::geteuid;
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Package managers that install without a question, and how.
const INSTALLERS: [(&str, &[&[&str]]); 3] = [
    (
        "apt-get",
        &[
            &["apt-get", "update", "-q"],
            &["apt-get", "install", "-q", "-y", "bubblewrap"],
        ],
    ),
    ("dnf", &[&["dnf", "install", "-q", "-y", "bubblewrap"]]),
    ("apk", &[&["apk", "add", "-q", "bubblewrap"]]),
];

/// A program on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    find_in(&env::var_os("PATH")?, name)
}

fn find_in(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// bubblewrap runs the node's pods. Missing, it is installed where that needs no question (root with a package
/// manager) and said so, else the one command that installs it is named.
pub(crate) fn ensure_bubblewrap() -> anyhow::Result<()> {
    if find_program("bwrap").is_some() {
        return Ok(());
    }
    let Some((_, commands)) = INSTALLERS.iter().find(|(name, _)| find_program(name).is_some()) else {
        bail!("bubblewrap (bwrap) is not installed: install it with your package manager and run this again");
    };
    if !geteuid().is_root() {
        let command = commands.last().map(|words| words.join(" ")).unwrap_or_default();
        bail!("bubblewrap (bwrap) is not installed: `sudo {command}` installs it");
    }
    for words in *commands {
        say!("  bubblewrap is missing: running `{}`", words.join(" "));
        install(words)?;
    }
    if find_program("bwrap").is_none() {
        bail!("bubblewrap was installed, but bwrap is not on PATH");
    }
    Ok(())
}

fn install(words: &[&str]) -> anyhow::Result<()> {
    let Some((program, args)) = words.split_first() else {
        return Ok(());
    };
    let output = Command::new(program)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    // An index that cannot be renewed may still know the package: only the installation decides.
    if !output.status.success() && args.first() != Some(&"update") {
        bail!(
            "`{}` failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The folder of this very program: the workspace's other binaries lie beside it.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let program = env::current_exe().context("cannot tell where this program lies")?;
    // A program that was rebuilt while it runs: the kernel marks the old file, the new one has the plain name.
    let name = program.to_string_lossy();
    Ok(name
        .strip_suffix(" (deleted)")
        .map_or(program.clone(), |plain| Path::new(plain).to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn programs_are_found_on_the_search_path_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tool"), "").unwrap();
        let path = env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(find_in(&path, "tool"), Some(folder.path().join("tool")));
        assert_eq!(find_in(&path, "other"), None);
    }
}
