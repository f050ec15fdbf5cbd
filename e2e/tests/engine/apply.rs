//! Whose an object is, and what an apply changes.
use crate::place::{MANAGER, Place, ours, theirs};
use anyhow::Result;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use openmcp_reconcile::{
    apply::{upsert, upsert_if_changed},
    fault::Class,
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_upsert_creates_repairs_and_removes_and_writes_nothing_else() -> Result<()> {
    let place = Place::new("upsert").await?;
    let maps = place.config_maps();
    let full = || place.config_map("x", json!({"a": "1", "b": "2"}));
    let first = upsert(&place.client, MANAGER, &ours(), full()).await?;
    let again = upsert(&place.client, MANAGER, &ours(), full()).await?;
    assert_eq!(
        first["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );

    let break_it = json!({"data": {"a": "broken", "foreign": "stays"}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(break_it))
        .await?;
    upsert(&place.client, MANAGER, &ours(), full()).await?;
    let data = maps.get("x").await?.data.unwrap();
    assert_eq!((data["a"].as_str(), data["foreign"].as_str()), ("1", "stays"));

    upsert(
        &place.client,
        MANAGER,
        &ours(),
        place.config_map("x", json!({"a": "1"})),
    )
    .await?;
    let live = maps.get("x").await?;
    assert!(
        !live.data.as_ref().unwrap().contains_key("b"),
        "what is not desired any more is removed"
    );
    let object = place.config_map("x", json!({"a": "1"}));
    assert!(
        upsert_if_changed(&place.client, MANAGER, &ours(), Some(&live), object)
            .await?
            .is_none()
    );
    place.leave().await
}

#[tokio::test]
async fn a_foreign_object_is_named_and_not_touched() -> Result<()> {
    let place = Place::new("foreign").await?;
    let maps = place.config_maps();
    let foreign: ConfigMap = serde_json::from_value(place.config_map("x", json!({"a": "theirs"})))?;
    let before = maps.create(&PostParams::default(), &foreign).await?;
    for live in [None, Some(&before)] {
        let object = place.config_map("x", json!({"b": "ours"}));
        let fault = upsert_if_changed(&place.client, MANAGER, &ours(), live, object)
            .await
            .unwrap_err();
        assert_eq!(fault.reason, "Conflict");
        assert!(
            fault
                .message
                .contains(&format!("ConfigMap {}/x exists and is not ours", place.namespace)),
            "{fault}"
        );
    }
    let fault = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({})))
        .await
        .unwrap_err();
    assert_eq!(fault.reason, "Conflict");
    assert_eq!(maps.get("x").await?.resource_version(), before.resource_version());
    place.leave().await
}

#[tokio::test]
async fn a_lost_mark_is_put_back_and_another_owners_mark_respected() -> Result<()> {
    let place = Place::new("mark").await?;
    let object = || place.config_map("x", json!({"a": "1"}));
    upsert(&place.client, MANAGER, &ours(), object()).await?;
    let relabel = async |value: Value| {
        let patch = json!({"metadata": {"labels": {ours().label: value}}});
        let params = PatchParams::default();
        place
            .config_maps()
            .patch("x", &params, &Patch::Merge(patch))
            .await
    };
    relabel(Value::Null).await?;
    let live = upsert(&place.client, MANAGER, &ours(), object()).await?;
    assert!(ours().is_on(&live));
    let unmarked = relabel(Value::Null).await?;
    let stored = ConfigMap {
        metadata: kube::core::ObjectMeta {
            managed_fields: None,
            ..unmarked.metadata
        },
        ..unmarked
    };
    let live = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&stored), object()).await?;
    assert!(ours().is_on(&live.unwrap()));
    relabel(json!("them")).await?;
    let fault = upsert(&place.client, MANAGER, &ours(), object())
        .await
        .unwrap_err();
    assert_eq!(fault.reason, "Conflict");
    place.leave().await
}

#[tokio::test]
async fn of_two_who_create_at_once_exactly_one_wins_and_the_other_changes_nothing() -> Result<()> {
    let place = Place::new("race").await?;
    for nth in 0..20 {
        let (one, two) = (ours(), theirs());
        let tries = [&one, &two].map(|mark| {
            let object = place.config_map(&format!("x{nth}"), json!({ mark.value.clone(): "was here" }));
            upsert_if_changed(&place.client, &mark.value, mark, None::<&Value>, object)
        });
        let won = join_all(tries).await;
        assert_eq!(won.iter().filter(|one| one.is_ok()).count(), 1);
        let live = place.config_maps().get(&format!("x{nth}")).await?;
        assert_eq!(live.data.unwrap().len(), 1);
    }
    place.leave().await
}

#[tokio::test]
async fn an_update_never_lands_on_a_successor() -> Result<()> {
    let place = Place::new("successor").await?;
    let object = |value: &str| place.config_map("x", json!({ "a": value }));
    let old = upsert(&place.client, MANAGER, &ours(), object("old")).await?;
    place.config_maps().delete("x", &DeleteParams::default()).await?;
    let new = upsert(&place.client, MANAGER, &ours(), object("new")).await?;
    let stale = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&old), object("stale"))
        .await
        .unwrap_err();
    assert_eq!((stale.class, stale.reason), (Class::Retry, "Conflict"), "{stale}");
    place.config_maps().delete("x", &DeleteParams::default()).await?;
    let absent = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&new), object("stale"))
        .await
        .unwrap_err();
    assert_eq!(
        (absent.class, absent.reason),
        (Class::Retry, "Conflict"),
        "{absent}"
    );
    assert!(place.config_maps().get_opt("x").await?.is_none());
    place.leave().await
}
