//! Building one program with `go build`, from a go.mod and a go.sum that pin every source.
use super::{
    progress::Progress,
    tool::{Suite, Tool},
};
use crate::process::{Ledger, gated};
use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

/// How often the picture of progress is renewed.
const TICK: Duration = Duration::from_millis(200);

/// Builds `tool` into `folder`. The program appears there when it is complete, not before.
pub(super) fn program(
    go: &Path,
    tool: Tool,
    workspace: &Path,
    folder: &Path,
    building: &mut Ledger,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    write_module(tool.suite(), workspace)?;
    if tool == Tool::Kro {
        copy_crds(go, workspace, &folder.join("crds"))?;
    }
    let unfinished = folder.join(format!(".{}.unfinished", tool.binary()));
    let log = workspace.join(format!("{}.log", tool.binary()));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = gated(go);
    command
        .current_dir(workspace)
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(tool.suite().ldflags())
        .arg("-o")
        .arg(&unfinished)
        .arg(tool.package())
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = building.start(tool.binary(), command)?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress.tick();
        thread::sleep(TICK);
    };
    building.forget(tool.binary())?;
    if !status.success() {
        let reason = last_lines(&log, 12);
        progress.failed();
        bail!(
            "`go build {}` failed ({status}):\n{reason}\nthe whole output is in {}",
            tool.package(),
            log.display()
        );
    }
    let path = folder.join(tool.binary());
    fs::rename(&unfinished, &path).with_context(|| format!("cannot write {}", path.display()))?;
    progress.done();
    Ok(())
}

fn write_module(suite: Suite, workspace: &Path) -> anyhow::Result<()> {
    let (module, sums) = suite.module();
    let write = || -> io::Result<()> {
        fs::create_dir_all(workspace)?;
        fs::write(workspace.join("go.mod"), module)?;
        fs::write(workspace.join("go.sum"), sums)
    };
    write().with_context(|| format!("cannot write the Go module {}", workspace.display()))
}

/// True when kro's CRDs have been copied.
pub(super) fn has_crds(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Copies kro's CRDs out of its module's chart folder.
fn copy_crds(go: &Path, workspace: &Path, target: &Path) -> anyhow::Result<()> {
    if has_crds(target) {
        return Ok(());
    }
    let module = "github.com/kubernetes-sigs/kro";
    let output = Command::new(go)
        .current_dir(workspace)
        .args(["mod", "download", "-json", module])
        .env("GOWORK", "off")
        .output()
        .with_context(|| format!("cannot run {}", go.display()))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(source) = answer["Dir"].as_str() else {
        bail!(
            "the Go module {module} cannot be downloaded: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    };
    let unfinished = target.with_extension("unfinished");
    let copy = || -> io::Result<()> {
        fs::create_dir_all(&unfinished)?;
        for entry in fs::read_dir(Path::new(source).join("helm/crds"))? {
            let entry = entry?;
            // Read and written, not copied: files of the module cache are read-only.
            fs::write(unfinished.join(entry.file_name()), fs::read(entry.path())?)?;
        }
        fs::rename(&unfinished, target)
    };
    copy().with_context(|| format!("cannot copy kro's CRDs to {}", target.display()))
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake_go(folder: &Path, script: &str) -> std::path::PathBuf {
        let path = folder.join("go");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn build(script: &str) -> (tempfile::TempDir, anyhow::Result<()>) {
        let folder = tempfile::tempdir().unwrap();
        let go = fake_go(folder.path(), script);
        let mut ledger = Ledger::open(folder.path().join("building.json")).unwrap();
        let mut progress = Progress::start("etcd", Duration::from_secs(1));
        let workspace = folder.path().join("build");
        let result = program(
            &go,
            Tool::Etcd,
            &workspace,
            folder.path(),
            &mut ledger,
            &mut progress,
        );
        assert!(ledger.names().is_empty());
        (folder, result)
    }

    #[test]
    fn a_program_appears_when_its_build_has_succeeded() {
        // The argument after -o is the sixth and seventh word of the build command.
        let (folder, result) = build(r#"grep -q etcd go.mod && echo program > "$7""#);
        result.unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("etcd")).unwrap(),
            "program\n"
        );
    }

    #[test]
    fn a_failed_build_shows_what_go_said_and_leaves_no_program() {
        let (folder, result) =
            build(r#"echo half > "$7"; echo 'no required module provides it' >&2; exit 1"#);
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains("no required module") && message.contains("etcd.log"),
            "{message}"
        );
        assert!(!folder.path().join("etcd").exists());
    }
}
