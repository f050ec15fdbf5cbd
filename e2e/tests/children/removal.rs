//! What is removed, and when.
use crate::rig::{PATIENCE, Rig};
use anyhow::{Result, ensure};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{Api, ResourceExt};
use serde_json::json;

#[tokio::test]
async fn what_is_not_wanted_any_more_is_pruned_but_not_while_something_is_waited_for() -> Result<()> {
    let rig = Rig::new("prune").await?;
    let one = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    let two = rig.wanted(rig.config_map("y", json!({"a": "1"})));
    let mut kept = rig.wanted(rig.config_map("z", json!({"a": "1"})));
    kept.retain = true;
    rig.settle(&[one.clone(), two, kept]).await?;
    rig.pass(std::slice::from_ref(&one), true).await?;
    assert_eq!(rig.entries().len(), 3, "waiting forbids prune");
    rig.settle(std::slice::from_ref(&one)).await?;
    assert_eq!(rig.entries().len(), 1);
    assert!(rig.config_maps().get_opt("y").await?.is_none());
    let retained = rig.config_maps().get("z").await?;
    assert!(retained.labels().is_empty(), "released: {:?}", retained.labels());
    Ok(())
}

#[tokio::test]
async fn a_role_stops_being_aggregated_before_it_is_removed() -> Result<()> {
    let rig = Rig::new("aggregated").await?;
    let name = format!("{}-x", rig.namespace);
    let selector = json!({"matchLabels": {"aggregate-to": name}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "aggregationRule": {"clusterRoleSelectors": [selector]}});
    rig.settle(&[rig.wanted(role)]).await?;
    let roles = Api::<ClusterRole>::all(rig.client.clone());
    ensure!(
        !rig.tear_down().await?.waiting.is_empty(),
        "it was removed at once"
    );
    ensure!(roles.get(&name).await?.aggregation_rule.is_none());
    while !rig.tear_down().await?.waiting.is_empty() {
        rig.woken(PATIENCE).await?;
    }
    ensure!(roles.get_opt(&name).await?.is_none() && rig.entries().is_empty());
    Ok(())
}
