//! Whose an object is: what is not ours is neither changed nor removed.
use crate::rig::{OWNER, PATIENCE, PROVIDER, Rig};
use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use openmcp_reconcile::{
    children::Adoption,
    inventory::{Entry, Store},
    metrics,
};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_foreign_object_of_the_same_name_is_left_as_it_is_until_it_goes() -> Result<()> {
    let rig = Rig::new("foreign").await?;
    let foreign = serde_json::from_value(rig.config_map("x", json!({"theirs": "1"})))?;
    rig.config_maps().create(&PostParams::default(), &foreign).await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    let report = rig.settle(&wanted).await?;
    assert_eq!(report.failures[0].fault.reason, "ForeignObject");
    let live = rig.config_maps().get("x").await?;
    assert_eq!(json!(live.data), json!({"theirs": "1"}));
    assert!(live.labels().is_empty());
    // Nor is it removed with the owner.
    let torn = rig.tear_down().await?;
    assert!(torn.waiting.is_empty());
    assert!(rig.entries().is_empty());
    rig.config_maps().get("x").await?;
    // Adopted, where that is allowed.
    let mut adopting = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    adopting.adoption = Adoption::Adopt;
    rig.settle(&[adopting]).await?;
    assert_eq!(rig.data("x").await?, json!({"a": "1", "theirs": "1"}));
    Ok(())
}

#[tokio::test]
async fn a_crash_before_the_uid_was_written_makes_no_second_object() -> Result<()> {
    let rig = Rig::new("crash").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let uid = rig.uid("x").await?;
    let store = &rig.record;
    let lost = rig.entries().into_iter().map(|entry| Entry {
        uid: None,
        desired: None,
        live: None,
        ..entry
    });
    store.save(lost.collect()).await?;
    let report = rig.settle(&wanted).await?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(rig.entries()[0].uid.as_ref(), Some(&uid));
    assert_eq!(rig.uid("x").await?, uid);
    Ok(())
}

#[tokio::test]
async fn what_bears_our_label_and_is_in_no_inventory_is_told_once_counted_and_left_alone() -> Result<()> {
    let rig = Rig::new("unrecorded").await?;
    let wanted = ["x", "y"].map(|name| rig.wanted(rig.config_map(name, json!({"a": "1"}))));
    rig.settle(&wanted).await?;
    // Of two copies one says that it belongs to what a controller looks after.
    let mut copy = rig.wanted(rig.config_map("copy", json!({"a": "1"}))).object;
    let copied: ConfigMap = serde_json::from_value(copy.clone())?;
    let before = rig.config_maps().create(&PostParams::default(), &copied).await?;
    copy["metadata"]["name"] = json!("derived");
    copy["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": rig.uid("x").await?, "controller": true}]);
    let derived = serde_json::from_value(copy)?;
    rig.config_maps().create(&PostParams::default(), &derived).await?;
    let expected = [format!(
        "ConfigMap {}/copy on cluster test/platform",
        rig.namespace
    )];
    assert_eq!(rig.unrecorded().await?, expected);
    let counted = |count| {
        let line = format!("sp_unrecorded_objects{{kind=\"ConfigMap\"}} {count}");
        metrics::encode().is_ok_and(|text| text.contains(&line))
    };
    assert!(counted(1));
    for _ in 0..3 {
        assert!(rig.unfollowed().await.is_empty(), "told already");
    }

    // A process that has seen nothing yet, and in which nobody wants y for now.
    let rig = rig.restarted();
    let end = Instant::now() + PATIENCE;
    while !rig.pass(&wanted[..1], true).await?.reading.is_empty() {
        rig.woken_by(end).await?;
    }
    assert_eq!(rig.unrecorded().await?, expected);
    let live = rig.config_maps().get("copy").await?;
    assert_eq!(live.resource_version(), before.resource_version());
    rig.config_maps().delete("copy", &DeleteParams::default()).await?;
    let deadline = Instant::now() + PATIENCE;
    while !counted(0) && Instant::now() < deadline {
        rig.unfollowed().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(counted(0));
    Ok(())
}

#[tokio::test]
async fn an_object_with_another_uid_is_never_removed() -> Result<()> {
    let rig = Rig::new("uid").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    rig.config_maps().delete("x", &DeleteParams::default()).await?;
    let theirs = serde_json::from_value(rig.config_map("x", json!({"theirs": "1"})))?;
    rig.config_maps().create(&PostParams::default(), &theirs).await?;
    let torn = rig.tear_down().await?;
    assert!(torn.waiting.is_empty() && rig.entries().is_empty());
    assert_eq!(rig.data("x").await?, json!({"theirs": "1"}));
    Ok(())
}

#[tokio::test]
async fn what_bears_nothing_of_ours_any_more_is_reported_not_removed() -> Result<()> {
    let rig = Rig::new("released").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let labels = json!({PROVIDER: null, OWNER: null});
    rig.edit(
        "x",
        "them",
        json!({"metadata": {"labels": labels, "managedFields": [{}]}}),
    )
    .await?;
    let torn = rig.tear_down().await?;
    assert_eq!(torn.foreign.len(), 1);
    rig.config_maps().get("x").await?;
    Ok(())
}
