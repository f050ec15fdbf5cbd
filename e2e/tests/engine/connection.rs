//! Watches and the connection under them.
use crate::place::{MANAGER, Place, ours, soon, until};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use openmcp_reconcile::{
    apply::{delete, upsert},
    cluster::Connection,
    fault::Class,
    watch::{Change, watch},
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_watch_tells_what_appears_changes_and_leaves() -> Result<()> {
    let place = Place::new("watch").await?;
    let maps = place.config_maps();
    let labelled = |name: &str| {
        let mut object = place.config_map(name, json!({"a": "1"}));
        object["metadata"]["labels"] = json!({"watched": "yes"});
        serde_json::from_value::<ConfigMap>(object).unwrap()
    };
    for nth in 0..7 {
        maps.create(&PostParams::default(), &labelled(&format!("early-{nth}")))
            .await?;
    }
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let log = seen.clone();
    let shutdown = CancellationToken::new();
    let config = watcher::Config::default().labels("watched=yes").page_size(3);
    let store = watch(maps.clone(), config, shutdown.clone(), move |change| {
        let name = change.object().name_any();
        log.lock().unwrap().push(match change {
            Change::Applied { first: true, .. } => format!("first {name}"),
            Change::Applied { old: Some(_), .. } => format!("changed {name}"),
            Change::Applied { .. } => format!("new {name}"),
            Change::Deleted { .. } => format!("left {name}"),
            _ => "unknown".to_owned(),
        });
    });
    soon("the first list", store.synced()).await?;
    assert_eq!(store.len(), 7);
    assert!(
        store
            .all()
            .iter()
            .all(|map| map.metadata.managed_fields.is_none())
    );
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .all(|line| line.starts_with("first early-"))
    );
    seen.lock().unwrap().clear();

    maps.create(&PostParams::default(), &labelled("late")).await?;
    let change = json!({"data": {"a": "2"}});
    maps.patch("late", &PatchParams::default(), &Patch::Merge(change))
        .await?;
    let unlabel = json!({"metadata": {"labels": null}});
    maps.patch("late", &PatchParams::default(), &Patch::Merge(unlabel))
        .await?;
    maps.delete("early-0", &DeleteParams::default()).await?;
    until("four changes", async || seen.lock().unwrap().len() == 4).await;
    assert_eq!(
        *seen.lock().unwrap(),
        ["new late", "changed late", "left late", "left early-0"]
    );
    assert_eq!(
        (store.len(), store.get(&place.namespace, "late").is_none()),
        (6, true)
    );
    shutdown.cancel();
    place.leave().await
}

#[tokio::test]
async fn credentials_are_swapped_under_a_running_watch() -> Result<()> {
    let place = Place::new("swap").await?;
    let (old, new) = (place.nobody("old").await?, place.nobody("new").await?);
    let connection = Connection::from_kubeconfig(&old, "engine-test").await?;
    let denied = connection.identity().await.unwrap_err();
    assert_eq!(denied.class, Class::Denied);
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": place.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": place.namespace, "name": "new"},
                     {"kind": "ServiceAccount", "namespace": place.namespace, "name": "old"}],
    });
    let binding = upsert(&place.client, MANAGER, &ours(), rights).await?;
    until("the rights have arrived", async || {
        matches!(connection.identity().await, Ok(Some(_)))
    })
    .await;

    let maps = Api::<ConfigMap>::namespaced(connection.client(), &place.namespace);
    let lists = Arc::new(Mutex::new(0));
    let firsts = lists.clone();
    let shutdown = CancellationToken::new();
    let store = watch(
        maps.clone(),
        watcher::Config::default(),
        shutdown.clone(),
        move |change| {
            if matches!(change, Change::Applied { first: true, .. }) {
                *firsts.lock().unwrap() += 1;
            }
        },
    );
    soon("the first list", store.synced()).await?;
    let accounts = Api::<ServiceAccount>::namespaced(place.client.clone(), &place.namespace);
    accounts.delete("old", &DeleteParams::default()).await?;
    until(
        "the old token is refused",
        async || matches!(connection.identity().await, Err(fault) if fault.class == Class::Denied),
    )
    .await;
    assert!(connection.swap(&new).await?);
    assert!(connection.identity().await?.is_some());
    maps.list(&ListParams::default()).await?;
    upsert(
        &place.client,
        MANAGER,
        &ours(),
        place.config_map("after", json!({})),
    )
    .await?;
    until("the watch goes on", async || {
        store.get(&place.namespace, "after").is_some()
    })
    .await;
    shutdown.cancel();
    let uid = binding["metadata"]["uid"].as_str().unwrap();
    let group = "rbac.authorization.k8s.io/v1";
    delete(
        &place.client,
        group,
        "ClusterRoleBinding",
        None,
        &place.namespace,
        uid,
    )
    .await?;
    place.leave().await
}

/// Known fault 27: at a library's default of five requests a second this would take a minute.
#[tokio::test]
async fn requests_are_not_held_back_by_the_client() -> Result<()> {
    let place = Place::new("rate").await?;
    let kubeconfig = std::fs::read(std::env::var("OPENMCP_PLATFORM_KUBECONFIG")?)?;
    let connection = Connection::from_kubeconfig(&kubeconfig, "engine-test").await?;
    let maps = Api::<ConfigMap>::namespaced(connection.client(), &place.namespace);
    let since = Instant::now();
    for _ in 0..300 {
        maps.list(&ListParams::default().limit(1)).await?;
    }
    let took = since.elapsed();
    ensure!(took < Duration::from_secs(20), "300 requests took {took:?}");
    place.leave().await
}
