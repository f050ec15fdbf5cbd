//! What is told: status and Events.
use crate::place::{MANAGER, Place, ours, until};
use anyhow::Result;
use k8s_openapi::api::{
    core::v1::{ObjectReference, Pod, ServiceAccount},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use openmcp_reconcile::{
    apply::upsert,
    events::{Note, Recorder},
    status::apply_status,
};
use serde_json::json;

#[tokio::test]
async fn a_status_is_written_once_and_an_object_that_is_gone_is_no_error() -> Result<()> {
    let place = Place::new("status").await?;
    let pods = Api::<Pod>::namespaced(place.client.clone(), &place.namespace);
    let new = json!({
        "metadata": {"name": "x"},
        "spec": {"schedulerName": "none", "automountServiceAccountToken": false,
                 "containers": [{"name": "c", "image": "none"}]},
    });
    let accounts = Api::<ServiceAccount>::namespaced(place.client.clone(), &place.namespace);
    let default = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    // Without a controller-manager nobody else makes it.
    let _exists = accounts.create(&PostParams::default(), &default).await;
    let pod = pods
        .create(&PostParams::default(), &serde_json::from_value(new)?)
        .await?;
    let status = json!({"nominatedNodeName": "n", "message": null});
    let written = apply_status(&pods, &pod, &json!({}), &status, MANAGER).await?;
    let live = pods.get("x").await?;
    assert_eq!(written.unwrap().resource_version(), live.resource_version());
    assert_eq!(
        live.status.as_ref().unwrap().nominated_node_name.as_deref(),
        Some("n")
    );
    let owned = json!({"nominatedNodeName": "n"});
    let spared = apply_status(&pods, &live, &owned, &status, MANAGER).await?;
    assert!(spared.is_none());
    assert_eq!(pods.get("x").await?.resource_version(), live.resource_version());
    pods.delete("x", &DeleteParams::default().grace_period(0)).await?;
    until("the pod is gone", async || {
        pods.get_opt("x").await.unwrap().is_none()
    })
    .await;
    let gone = apply_status(&pods, &live, &json!({}), &status, MANAGER).await?;
    assert!(gone.is_none());
    place.leave().await
}

#[tokio::test]
async fn an_event_names_its_object_and_repetition_makes_no_second_one() -> Result<()> {
    let place = Place::new("events").await?;
    let map = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({}))).await?;
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        name: Some("x".to_owned()),
        namespace: Some(place.namespace.clone()),
        uid: map["metadata"]["uid"].as_str().map(str::to_owned),
        ..ObjectReference::default()
    };
    let recorder = Recorder::new(place.client.clone(), MANAGER);
    let note = |text: String| Note {
        warning: true,
        reason: "DriftRepaired",
        action: "Repair",
        note: text,
    };
    recorder.publish(about.clone(), note("one".to_owned()));
    recorder.publish(about.clone(), note("one".to_owned()));
    recorder.publish(about, note("é".repeat(1000)));
    let events = Api::<Event>::namespaced(place.client.clone(), &place.namespace);
    until("two events", async || {
        events.list(&ListParams::default()).await.unwrap().items.len() == 2
    })
    .await;
    let events = events.list(&ListParams::default()).await?.items;
    assert!(
        events
            .iter()
            .all(|event| event.reason.as_deref() == Some("DriftRepaired"))
    );
    assert!(
        events
            .iter()
            .any(|event| (1000..=1024).contains(&event.note.as_ref().unwrap().len()))
    );
    place.leave().await
}
