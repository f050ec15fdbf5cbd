//! Release archives: taken only when their checksum is the one that the release names.
//!
//! A release is a folder on a web server with `SHA256SUMS` and `<suite>-<version>-<os>-<arch>.tar.gz`, each holding
//! the suite's programs at its top.
use super::tool::Suite;
use anyhow::{Context, bail};
use std::{
    env::consts::{ARCH, OS},
    fs,
    path::Path,
    process::Command,
};

/// Downloads one suite into `folder`, which gets its programs as a whole or not at all.
pub(super) fn suite(url: &str, suite: Suite, folder: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("the cache has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let scratch = tempfile::tempdir_in(parent).context("no scratch folder in the cache")?;
    let archive = format!("{}-{}-{OS}-{ARCH}.tar.gz", suite.name(), suite.version());
    for file in ["SHA256SUMS", &archive] {
        let address = format!("{}/{file}", url.trim_end_matches('/'));
        run(
            scratch.path(),
            "curl",
            &[
                "--fail",
                "--silent",
                "--show-error",
                "--location",
                "--output",
                file,
                &address,
            ],
        )?;
    }
    let sums = fs::read_to_string(scratch.path().join("SHA256SUMS"))?;
    let Some(line) = sums
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(&archive))
    else {
        bail!("SHA256SUMS does not name {archive}");
    };
    fs::write(scratch.path().join("expected"), format!("{line}\n"))?;
    run(scratch.path(), "sha256sum", &["--check", "--status", "expected"])
        .with_context(|| format!("the checksum of {archive} is not the one that SHA256SUMS names"))?;
    fs::create_dir(scratch.path().join("programs"))?;
    run(scratch.path(), "tar", &["-xzf", &archive, "-C", "programs"])?;
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(scratch.path().join("programs"))? {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(())
}

fn run(folder: &Path, program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .current_dir(folder)
        .args(args)
        .output()
        .with_context(|| format!("{program} is not installed"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// A release on disk: curl reads file:// as well.
    fn release(sums: impl Fn(&Path) -> String) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("etcd"), "program").unwrap();
        let archive = format!("etcd-v3.6.8-{OS}-{ARCH}.tar.gz");
        run(folder.path(), "tar", &["-czf", &archive, "etcd"]).unwrap();
        fs::write(
            folder.path().join("SHA256SUMS"),
            sums(&folder.path().join(&archive)),
        )
        .unwrap();
        let url = format!("file://{}", folder.path().display());
        (folder, url)
    }

    #[test]
    fn a_release_with_the_right_checksum_is_taken() {
        let (folder, url) = release(|archive| {
            let output = Command::new("sha256sum")
                .arg(archive.file_name().unwrap())
                .current_dir(archive.parent().unwrap())
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        let target = folder.path().join("cache/etcd");
        suite(&url, Suite::Etcd, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("etcd")).unwrap(), "program");
    }

    #[test]
    fn a_release_with_another_checksum_is_refused() {
        let (folder, url) = release(|archive| {
            format!(
                "{}  {}\n",
                "0".repeat(64),
                archive.file_name().unwrap().to_string_lossy()
            )
        });
        let target = folder.path().join("cache/etcd");
        let message = format!("{:#}", suite(&url, Suite::Etcd, &target).unwrap_err());
        assert!(message.contains("checksum"), "{message}");
        assert!(!target.exists());
    }
}
