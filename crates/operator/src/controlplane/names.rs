//! Names that cannot be served, on servers in memory: each is named on its object, and stops nothing else.
#![allow(clippy::unwrap_used)]
use crate::rig::{Rig, message};
use openmcp_testkit::Server;
use serde_json::{Value, json};

fn control_plane(name: &str, tokens: &[&str]) -> Value {
    let view = json!([{"kind": "ClusterRole", "name": "view"}]);
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|name| json!({"name": name, "roleRefs": view}))
        .collect();
    json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"namespace": "project-a", "name": name}, "spec": {"iam": {"tokens": tokens}},
    })
}

async fn with(ordered: &Value) -> Rig {
    let rig = Rig::new(|_, onboarding: &Server| {
        let project = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "project-a"}});
        onboarding.create(&project).unwrap();
        onboarding.create(ordered).unwrap();
    })
    .await;
    rig.open().await;
    rig
}

#[tokio::test]
async fn a_token_whose_name_cannot_be_used_is_named_and_the_others_are_served() {
    let bad = ["CI pipeline", "-a", "a.", "a..b", "", "\u{e4}"];
    let good = ["ci", "a_b", "a-1.b"];
    let ordered = control_plane("one", &[&bad[..], &good[..]].concat());
    let rig = with(&ordered).await;
    rig.until("it is named", |rig| {
        let says = message(rig.onboarding.live(&ordered), "AllAccessReady");
        says.contains("\"CI pipeline\" cannot be the name of a token (6 of 9 are like that)")
    })
    .await;
    rig.until("the others are served", |rig| {
        rig.platform
            .objects("clusters.openmcp.cloud/v1alpha1", "AccessRequest")
            .len()
            == good.len()
    })
    .await;
    rig.calm().await;
    let live = rig.onboarding.live(&ordered).unwrap();
    assert_eq!(live["status"]["phase"], "Progressing");
    let told = live["status"]["conditions"].to_string();
    assert!(!told.contains("AccessReady.token_CI"), "{told}");
}

#[tokio::test]
async fn a_control_plane_whose_name_is_too_long_says_how_long_it_may_be_and_nothing_is_made() {
    let ordered = control_plane(&"a".repeat(64), &["ci"]);
    let rig = with(&ordered).await;
    rig.until("it is told", |rig| {
        message(rig.onboarding.live(&ordered), "Meta")
            .contains("may have 63 characters at most, this one has 64")
    })
    .await;
    rig.calm().await;
    assert!(rig.onboarding.live(&ordered).unwrap()["metadata"]["finalizers"].is_null());
    let made = rig.platform.objects("v1", "Namespace");
    assert!(
        !made.iter().any(|it| it.to_string().contains("mcp--")),
        "{made:?}"
    );
}
