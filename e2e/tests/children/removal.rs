//! What is removed, and when.
use crate::rig::{PATIENCE, Rig};
use anyhow::{Result, ensure};
use k8s_openapi::{
    api::rbac::v1::ClusterRole,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use serde_json::json;
use std::time::{Duration, Instant};

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
    rig.torn_down().await?;
    ensure!(roles.get_opt(&name).await?.is_none() && rig.entries().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_to_be_retained_is_recorded_although_the_object_does_not_change() -> Result<()> {
    let rig = Rig::new("retained-later").await?;
    let one = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    let mut kept = rig.wanted(rig.config_map("z", json!({"a": "1"})));
    rig.settle(&[one.clone(), kept.clone()]).await?;
    kept.retain = true;
    ensure!(rig.settle(&[one.clone(), kept]).await?.applied == 0);
    rig.settle(std::slice::from_ref(&one)).await?;
    ensure!(rig.config_maps().get("z").await?.labels().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_end_of_what_is_pruned_wakes_although_its_kind_is_wanted_on_another_cluster() -> Result<()> {
    let rig = Rig::new("prune-elsewhere").await?;
    let here = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    let there = rig.wanted_on("there", rig.config_map("y", json!({"a": "1"})));
    rig.settle(&[here.clone(), there]).await?;
    let held = json!({"metadata": {"finalizers": ["children.test/hold"]}});
    rig.edit("y", "somebody", held).await?;
    let report = rig.pass(std::slice::from_ref(&here), false).await?;
    ensure!(report.wake.is_none() && !report.missing.is_empty(), "{report:?}");
    rig.rested(std::slice::from_ref(&here)).await?;
    rig.edit("y", "somebody", json!({"metadata": {"finalizers": null}}))
        .await?;
    rig.woken(PATIENCE).await?;
    rig.settle(std::slice::from_ref(&here)).await?;
    ensure!(rig.entries().len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_definition_with_objects_of_others_stays_until_they_are_gone_and_with_it_what_comes_after()
-> Result<()> {
    let rig = Rig::new("defined").await?;
    let group = format!("{}.test", rig.namespace);
    let name = format!("things.{group}");
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name}, "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let thing = |name: &str| {
        let metadata = json!({"name": name, "namespace": rig.namespace});
        json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": metadata})
    };
    let map = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    let all = [
        rig.wanted(definition),
        map.clone(),
        rig.wanted(rig.config_map("y", json!({"a": "1"}))),
        rig.wanted(thing("ours")),
    ];
    let end = Instant::now() + PATIENCE;
    rig.settle(&all).await?;
    while rig.entries().iter().any(|entry| entry.uid.is_none()) {
        ensure!(Instant::now() < end, "not made: {:?}", rig.entries());
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.settle(&all).await?;
    }
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1", "Thing"), "things");
    let things = Api::<DynamicObject>::namespaced_with(rig.client.clone(), &rig.namespace, &kind);
    let theirs: DynamicObject = serde_json::from_value(thing("theirs"))?;
    things.create(&PostParams::default(), &theirs).await?;

    let left = [map];
    let report = rig.settle(&left).await?;
    ensure!(report.complete && report.kept.len() == 1, "{report:?}");
    let place = format!("{name} is not wanted any more");
    let blocker = format!("Thing {}/theirs", rig.namespace);
    ensure!(
        report.kept[0].contains(&place) && report.kept[0].ends_with(&blocker),
        "{report:?}"
    );
    ensure!(things.get_opt("ours").await?.is_none(), "ours is still there");
    ensure!(
        rig.config_maps().get_opt("y").await?.is_some(),
        "it may serve theirs"
    );
    rig.rested(&left).await?;
    let saves = rig.saves();
    ensure!(rig.pass(&left, false).await?.kept == report.kept && rig.saves() == saves);

    things.delete("theirs", &DeleteParams::default()).await?;
    let end = Instant::now() + PATIENCE;
    while rig.entries().len() > 1 {
        rig.woken_by(end).await?;
        rig.settle(&left).await?;
    }
    let definitions = Api::<Definition>::all(rig.client.clone());
    ensure!(definitions.get_opt(&name).await?.is_none(), "it is still there");
    ensure!(rig.config_maps().get_opt("y").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_was_made_in_a_version_that_is_not_served_any_more_is_removed() -> Result<()> {
    let rig = Rig::new("old-version").await?;
    let group = format!("{}.test", rig.namespace);
    let version = |name: &str, served: bool| {
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        json!({"name": name, "served": served, "storage": name == "v2", "schema": schema})
    };
    let versions = |old: bool| json!([version("v1", old), version("v2", true)]);
    let name = format!("things.{group}");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name}, "spec": {"group": group, "scope": "Namespaced", "versions": versions(true),
            "names": {"plural": "things", "kind": "Thing"}}});
    let definitions = Api::<Definition>::all(rig.client.clone());
    definitions
        .create(&PostParams::default(), &serde_json::from_value(definition)?)
        .await?;
    tokio::time::timeout(
        PATIENCE,
        await_condition(definitions.clone(), &name, is_crd_established()),
    )
    .await??;
    let metadata = json!({"name": "x", "namespace": rig.namespace});
    let thing = json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": metadata});
    rig.settle(&[rig.wanted(thing)]).await?;
    let change = Patch::Merge(json!({"spec": {"versions": versions(false)}}));
    definitions.patch(&name, &PatchParams::default(), &change).await?;
    let end = Instant::now() + PATIENCE;
    while serves(&rig.client, &format!("{group}/v1")).await? {
        ensure!(Instant::now() < end, "v1 of {group} is still served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Another process: this one knows how the kind was served.
    let rig = rig.restarted();
    rig.torn_down().await?;
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v2", "Thing"), "things");
    let things = Api::<DynamicObject>::namespaced_with(rig.client.clone(), &rig.namespace, &kind);
    ensure!(things.get_opt("x").await?.is_none(), "it is still there");
    definitions.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

/// Whether discovery names the version.
async fn serves(client: &Client, api_version: &str) -> Result<bool> {
    let groups = client.list_api_groups().await?.groups;
    let mut versions = groups.iter().flat_map(|group| &group.versions);
    Ok(versions.any(|version| version.group_version == api_version))
}
