//! Whose an object is: what is not ours is neither changed nor removed.
use crate::rig::{OWNER, PROVIDER, Rig};
use anyhow::Result;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use openmcp_reconcile::{
    children::Adoption,
    inventory::{Entry, Store},
};
use serde_json::json;

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
