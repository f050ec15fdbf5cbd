//! `cargo demo` on a machine without Go: said before anything is built.
#![allow(clippy::unwrap_used)]
use std::{path::Path, process::Command};

#[test]
fn without_go_it_says_what_is_missing_where_and_what_helps() {
    let nothing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nothing");
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("demo")
        .env_clear()
        .env("PATH", &nothing)
        .env("OPENMCP_CACHE", &nothing)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in [
        "Go is not installed",
        "kube-apiserver",
        "OPENMCP_ASSETS",
        &nothing.display().to_string(),
    ] {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
}
