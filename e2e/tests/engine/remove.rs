//! When an object is gone, and when its kind is.
use crate::place::{MANAGER, Place, ours, until};
use anyhow::Result;
use kube::api::{Patch, PatchParams};
use openmcp_reconcile::{
    apply::{Deletion, delete, upsert},
    cluster::Connection,
    fault::Class,
};
use serde_json::json;

#[tokio::test]
async fn gone_is_a_404_or_another_uid_and_nothing_else() -> Result<()> {
    let place = Place::new("delete").await?;
    let maps = place.config_maps();
    let live = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({}))).await?;
    let uid = live["metadata"]["uid"].as_str().unwrap();
    assert_eq!(place.delete("x", "another").await?, Deletion::Gone);
    assert!(maps.get_opt("x").await?.is_some(), "a successor is not touched");

    let hold = json!({"metadata": {"finalizers": ["test.openmcp.cloud/hold"]}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(hold))
        .await?;
    assert_eq!(place.delete("x", uid).await?, Deletion::Waiting);
    let nobody = Connection::from_kubeconfig(&place.nobody("nobody").await?, "engine-test").await?;
    let denied = delete(
        &nobody.client(),
        "v1",
        "ConfigMap",
        Some(&place.namespace),
        "x",
        uid,
    )
    .await
    .unwrap_err();
    assert_eq!(denied.class, Class::Denied, "{denied}");
    let let_go = json!({"metadata": {"finalizers": null}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(let_go))
        .await?;
    assert_eq!(place.delete("x", uid).await?, Deletion::Gone);
    assert_eq!(place.delete("never-was", uid).await?, Deletion::Gone);
    place.leave().await
}

#[tokio::test]
async fn an_odd_plural_is_found_and_a_kind_that_is_gone_takes_its_objects_along() -> Result<()> {
    let place = Place::new("plural").await?;
    let group = format!("{}.test.openmcp.cloud", place.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("geese.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "Goose", "listKind": "GooseList", "plural": "geese", "singular": "goose"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true
            }}}],
        },
    });
    let crd = upsert(&place.client, MANAGER, &ours(), crd).await?;
    let api_version = format!("{group}/v1");
    let goose = json!({
        "apiVersion": api_version, "kind": "Goose", "spec": {"a": 1},
        "metadata": {"name": "g", "namespace": place.namespace},
    });
    let mut made = None;
    until("geese are served", async || {
        made = upsert(&place.client, MANAGER, &ours(), goose.clone()).await.ok();
        made.is_some()
    })
    .await;
    let uid = made.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let gone = async || {
        delete(
            &place.client,
            &api_version,
            "Goose",
            Some(&place.namespace),
            "g",
            &uid,
        )
        .await
    };
    assert_eq!(gone().await?, Deletion::Gone);

    let made = upsert(&place.client, MANAGER, &ours(), goose.clone()).await?;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let name = crd["metadata"]["name"].as_str().unwrap();
    let crd_uid = crd["metadata"]["uid"].as_str().unwrap();
    until("the CRD is gone", async || {
        let kind = "CustomResourceDefinition";
        delete(
            &place.client,
            "apiextensions.k8s.io/v1",
            kind,
            None,
            name,
            crd_uid,
        )
        .await
            == Ok(Deletion::Gone)
    })
    .await;
    let mut last = None;
    until("the goose is gone with its kind", async || {
        last = Some(
            delete(
                &place.client,
                &api_version,
                "Goose",
                Some(&place.namespace),
                "g",
                uid,
            )
            .await,
        );
        last == Some(Ok(Deletion::Gone))
    })
    .await;
    place.leave().await
}
