//! The roles that a platform owner applies are those that the provider prints.
#![allow(clippy::unwrap_used)]
use std::process::Command;

#[test]
fn the_roles_beside_the_provider_are_those_that_it_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_service-provider-kro"))
        .args(["rbac", "--provider-name=kro"])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        include_str!("../rbac.yaml"),
        "write it anew: service-provider-kro rbac --provider-name=kro >examples/kro/rbac.yaml"
    );
}
