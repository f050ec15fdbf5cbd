//! A ControlPlane and its Cluster, on servers in memory.
#![allow(clippy::unwrap_used)]
use crate::rig::Rig;
use openmcp_api::names;
use serde_json::json;

#[tokio::test]
async fn a_control_plane_without_accesses_is_ready_only_when_its_cluster_is() {
    let ordered = json!({
        "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
        "metadata": {"namespace": "project-a", "name": "one"}, "spec": {"iam": {}},
    });
    let rig = Rig::new(|_, onboarding| {
        let project = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "project-a"}});
        onboarding.create(&project).unwrap();
        onboarding.create(&ordered).unwrap();
    })
    .await;
    rig.open().await;
    let home = names::control_plane_namespace("project-a", "one");
    let of = |kind: &str| json!({"apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": kind, "metadata": {"namespace": home, "name": "one"}});
    let (request, mut cluster) = (of("ClusterRequest"), of("Cluster"));
    rig.until("a ClusterRequest is made", |rig| {
        rig.platform.live(&request).is_some()
    })
    .await;
    cluster["spec"] = json!({"profile": "hosted", "tenancy": "Exclusive", "purposes": ["mcp"]});
    rig.platform.create(&cluster).unwrap();
    let granted =
        json!({"observedGeneration": 1, "phase": "Granted", "cluster": {"namespace": home, "name": "one"}});
    rig.platform.merge_status(&request, &granted).unwrap();
    let phase = |rig: &Rig| rig.onboarding.live(&ordered).unwrap()["status"].clone();
    rig.until("it says what it waits for", |rig| {
        phase(rig).to_string().contains("has not been reported on yet")
    })
    .await;
    rig.calm().await;
    assert_eq!(phase(&rig)["phase"], "Progressing");
    let up = json!({"observedGeneration": 1, "phase": "Ready"});
    rig.platform.merge_status(&cluster, &up).unwrap();
    rig.until("it is ready", |rig| phase(rig)["phase"] == "Ready")
        .await;
}
