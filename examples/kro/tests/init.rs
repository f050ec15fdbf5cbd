//! `init` that fails must not look like success to its Job (known fault 16).
#![allow(clippy::unwrap_used)]
use std::{path::Path, process::Command};

#[test]
fn an_init_that_cannot_do_its_work_says_why_and_fails() {
    let kubeconfig = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nobody-listens.yaml");
    let text = "{apiVersion: v1, kind: Config, current-context: c, \
                contexts: [{name: c, context: {cluster: k, user: u}}], \
                clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}], \
                users: [{name: u, user: {token: t}}]}";
    std::fs::write(&kubeconfig, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_service-provider-kro"))
        .args(["init", "--environment=test", "--provider-name=kro"])
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
}
