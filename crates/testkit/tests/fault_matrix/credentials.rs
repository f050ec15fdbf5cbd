//! Credentials that are rotated or revoked, and rights that are missing.
use crate::{
    common::{is_ready, order, seconds},
    stage::{MCP, conditions, greeting, is_well, served},
};
use openmcp_testkit::{Process, Trouble, World, children};

#[test]
fn fault_12_rotated_credentials_are_swapped_in_without_a_new_list() {
    let (world, mut process) = served(1);
    let lists = |process: &Process| {
        let is_list = |line: &&String| line.ends_with(&format!("GET {MCP}/api/v1/configmaps"));
        process.network().trace().iter().filter(is_list).count()
    };
    assert_eq!(lists(&process), 1);
    world.rotate_credentials(MCP);
    process.drive(seconds(600), |_| false);
    world.server(MCP).delete(&greeting(0)).unwrap();
    is_well(&world, &mut process, 1);
    assert_eq!(lists(&process), 1);
}

#[test]
fn fault_12_a_rotated_ca_is_trusted_without_a_new_list_and_only_for_the_same_cluster() {
    let (world, mut process) = served(1);
    let lists = |process: &Process| {
        let is_list = |line: &&String| line.ends_with(&format!("GET {MCP}/api/v1/configmaps"));
        process.network().trace().iter().filter(is_list).count()
    };
    for host in [MCP, "workload", "onboarding"] {
        world.rotate_ca(host);
        process.network().close_watches(host);
    }
    process.drive(seconds(600), |_| false);
    order(&world, 2);
    world.server(MCP).delete(&greeting(0)).unwrap();
    is_well(&world, &mut process, 2);
    assert_eq!(lists(&process), 1);
    // Somebody else answers under the address, with a certificate that the new kubeconfig trusts.
    world.replace_server(MCP);
    order(&world, 3);
    process.drive(seconds(600), |_| false);
    assert!(
        conditions(&world).contains("leads to another cluster than before: refused"),
        "{}",
        conditions(&world)
    );
    let theirs = world.server(MCP).objects("v1", "ConfigMap");
    assert!(theirs.is_empty(), "{theirs:?}");
}

#[test]
fn fault_12_revoked_credentials_and_missing_rights_are_a_condition_and_no_hot_loop() {
    let (world, mut process) = served(1);
    world.server(MCP).accept_only([]);
    order(&world, 2);
    let before = process.network().requests();
    process.drive(seconds(600), |_| false);
    let sent = process.network().requests() - before;
    assert!(sent < 600, "{sent} requests in ten minutes");
    assert!(
        !is_ready(&world) && conditions(&world).contains("Unauthorized"),
        "{}",
        conditions(&world)
    );
    world.rotate_credentials(MCP);
    is_well(&world, &mut process, 2);
    process
        .network()
        .trouble(MCP, usize::MAX, Trouble::Status(403, None), |request| {
            request.method() == "PATCH"
        });
    order(&world, 3);
    let before = process.network().requests();
    process.drive(seconds(600), |_| false);
    let sent = process.network().requests() - before;
    assert!(sent < 300, "{sent} requests in ten minutes");
    assert!(conditions(&world).contains("forbidden"), "{}", conditions(&world));
    process.network().heal();
    is_well(&world, &mut process, 3);
}

/// When the workload's token is to be renewed.
fn renewal(world: &World) -> String {
    let secret = children(world)
        .into_iter()
        .find(|(_, child)| child["kind"] == "Secret");
    let (_, secret) = secret.unwrap();
    secret["metadata"]["annotations"]["reconcile/renew-at"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn fault_12_a_token_is_renewed_in_time_although_another_object_is_refused_for_good() {
    let (world, mut process) = served(1);
    process
        .network()
        .trouble(MCP, usize::MAX, Trouble::Status(413, None), |request| {
            request.method() == "PATCH" && request.uri().path().ends_with("/greeting-1")
        });
    order(&world, 2);
    process.drive(seconds(60), |_| false);
    assert!(
        conditions(&world).contains("ObjectTooLarge"),
        "{}",
        conditions(&world)
    );
    let before = process.network().requests();
    for _ in 0..3 {
        let last = renewal(&world);
        process.drive(seconds(4 * 3600), |_| false);
        assert!(renewal(&world) > last, "{last}");
    }
    let sent = process.network().trace().split_off(before);
    let refused = sent.iter().filter(|line| line.contains("/greeting-1")).count();
    assert!(refused < 10, "{refused} times in twelve hours");
    process.network().heal();
    order(&world, 1);
    is_well(&world, &mut process, 1);
}
