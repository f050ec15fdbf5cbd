//! Tenants take the finalizers off their ControlPlanes, on servers in memory: nothing is left on the platform, and
//! nobody gets what was another's.
#![allow(clippy::unwrap_used)]
use crate::rig::{Rig, SERVICE_GROUP, message};
use openmcp_api::names;
use openmcp_testkit::Server;
use serde_json::{Value, json};

fn control_plane() -> Value {
    json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"namespace": "project-a", "name": "one"},
        "spec": {"iam": {"tokens": [{"name": "ci", "roleRefs": [{"kind": "ClusterRole", "name": "view"}]}]}},
    })
}

fn home() -> String {
    names::control_plane_namespace("project-a", "one")
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home()}})
}

fn request() -> Value {
    json!({"apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest", "metadata": {"namespace": home(), "name": "one"}})
}

fn inventory() -> Value {
    json!({
        "apiVersion": "runtime.openmcp.cloud/v1alpha1", "kind": "Inventory",
        "metadata": {"namespace": home(), "name": "kro--kro--one"},
        "spec": {"provider": "kro", "owner": {"group": SERVICE_GROUP, "kind": "Kro", "namespace": "project-a", "name": "one", "uid": "1"}},
    })
}

fn add_tenant(onboarding: &Server) {
    let project = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "project-a"}});
    onboarding.create(&project).unwrap();
    onboarding.create(&control_plane()).unwrap();
}

/// What `kubectl delete --wait=false` and a patch of the finalizers do.
fn strip(onboarding: &Server) {
    onboarding.delete(&control_plane()).unwrap();
    let bare = json!({"metadata": {"finalizers": null}});
    onboarding.merge(&control_plane(), &bare).unwrap();
    assert!(onboarding.live(&control_plane()).is_none());
}

async fn with_control_plane() -> Rig {
    let rig = Rig::new(|_, onboarding| add_tenant(onboarding)).await;
    rig.open().await;
    rig.until("a ClusterRequest is made", |rig| {
        rig.platform.live(&request()).is_some()
    })
    .await;
    rig
}

fn uid(object: Option<Value>) -> String {
    object.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_control_plane_whose_finalizers_were_taken_off_leaves_nothing_once_its_providers_are_done() {
    let rig = with_control_plane().await;
    rig.platform.create(&inventory()).unwrap();
    strip(&rig.onboarding);
    let accesses = |rig: &Rig| {
        rig.platform
            .objects("clusters.openmcp.cloud/v1alpha1", "AccessRequest")
    };
    // A provider still has something on the cluster: neither it nor the way there goes.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(rig.platform.live(&request()).is_some() && !accesses(&rig).is_empty());
    rig.platform.delete(&inventory()).unwrap();
    rig.until("the namespace is gone", |rig| {
        rig.platform.live(&namespace()).is_none()
    })
    .await;
    assert!(rig.platform.live(&request()).is_none() && accesses(&rig).is_empty());
}

#[tokio::test]
async fn what_was_left_while_the_operator_was_down_is_removed_when_it_starts() {
    let rig = with_control_plane().await;
    let servers = (rig.platform.clone(), rig.onboarding.clone());
    drop(rig);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    strip(&servers.1);
    let rig = Rig::on(servers.0, servers.1).await;
    rig.open().await;
    rig.until("the namespace is gone", |rig| {
        rig.platform.live(&namespace()).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_new_control_plane_waits_until_what_an_earlier_one_of_its_name_had_is_gone() {
    let rig = with_control_plane().await;
    let held = json!({"metadata": {"finalizers": ["test/hold"]}});
    rig.platform.merge(&request(), &held).unwrap();
    let before = uid(rig.platform.live(&request()));
    strip(&rig.onboarding);
    rig.onboarding.create(&control_plane()).unwrap();
    rig.until("it says what it waits for", |rig| {
        let says = message(rig.onboarding.live(&control_plane()), "Meta");
        says.contains("an earlier ControlPlane of this name") && says.contains("ClusterRequest")
    })
    .await;
    assert_eq!(uid(rig.platform.live(&request())), before);
    let let_go = json!({"metadata": {"finalizers": null}});
    rig.platform.merge(&request(), &let_go).unwrap();
    rig.until("it has a ClusterRequest of its own", |rig| {
        rig.platform
            .live(&request())
            .is_some_and(|live| uid(Some(live)) != before)
    })
    .await;
    let recorded = rig.platform.live(&namespace()).unwrap();
    assert_eq!(
        recorded["metadata"]["annotations"]["core.openmcp.cloud/mcp-uid"].as_str(),
        Some(uid(rig.onboarding.live(&control_plane())).as_str())
    );
}

#[tokio::test]
async fn what_another_onboarding_cluster_or_nobody_recorded_is_not_removed() {
    let made_for = |annotations: Value| {
        let mut made = namespace();
        made["metadata"]["labels"] = json!({
            "openmcp.cloud/managed-by": "ManagedControlPlane",
            "core.openmcp.cloud/mcp-name": "one", "core.openmcp.cloud/mcp-namespace": "project-a",
        });
        made["metadata"]["annotations"] = annotations;
        made
    };
    let elsewhere =
        json!({"core.openmcp.cloud/mcp-uid": "1", "core.openmcp.cloud/onboarding-uid": "another"});
    for annotations in [json!({}), json!({"core.openmcp.cloud/mcp-uid": "1"}), elsewhere] {
        let rig =
            Rig::new(|platform, _| drop(platform.create(&made_for(annotations.clone())).unwrap())).await;
        rig.open().await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let live = rig.platform.live(&namespace()).unwrap();
        assert!(live["metadata"]["deletionTimestamp"].is_null(), "{annotations}");
    }
}
