//! Uninstalling on servers in memory: who waits is woken, and what an init left that was stopped in its middle is found.
#![allow(clippy::unwrap_used)]
use crate::rig::{self, Rig, SERVICE_GROUP, SYSTEM, message, provider, service_definition};
use openmcp_testkit::Server;
use serde_json::{Value, json};

#[tokio::test]
async fn a_provider_that_is_deleted_while_the_operator_starts_is_uninstalled_without_another_event() {
    let rig = Rig::new(|platform, onboarding| {
        rig::add_provider(platform);
        let mut held = service_definition();
        held["metadata"]["finalizers"] = json!(["test/hold"]);
        onboarding.create(&held).unwrap();
        platform.delete(&provider()).unwrap();
    })
    .await;
    rig.run_providers();
    let says = |rig: &Rig, text: &str| message(rig.platform.live(&provider()), "Uninstalled").contains(text);
    rig.until("it waits for the onboarding cluster", |rig| {
        says(rig, "waiting for access to the onboarding cluster")
    })
    .await;
    let onboarding = rig.open().await;
    rig.until("it waits for the kind's objects", |rig| {
        says(rig, "the list of all Kro")
    })
    .await;
    rig.calm().await;
    // There are none: no change tells it, only the list.
    Rig::follow(&onboarding);
    rig.until("it waits for the definition", |rig| {
        says(rig, "CustomResourceDefinition kros.")
    })
    .await;
    rig.calm().await;
    let let_go = json!({"metadata": {"finalizers": null}});
    rig.onboarding.merge(&service_definition(), &let_go).unwrap();
    rig.until("it is gone", |rig| rig.platform.live(&provider()).is_none())
        .await;
}

/// As the runtime marks what its init makes.
fn marked(mut object: Value) -> Value {
    object["metadata"]["labels"]["runtime.openmcp.cloud/provider"] = "kro".into();
    object
}

/// The definition of the provider's configuration.
fn configuration() -> Value {
    let mut definition = marked(service_definition());
    definition["metadata"]["name"] = format!("providerconfigs.{SERVICE_GROUP}").into();
    definition["metadata"]["labels"]["openmcp.cloud/cluster"] = "platform".into();
    definition["spec"]["scope"] = "Cluster".into();
    definition["spec"]["names"] = json!({"kind": "ProviderConfig", "plural": "providerconfigs",
        "singular": "providerconfig", "listKind": "ProviderConfigList"});
    definition
}

/// The requests by which init gets onto the onboarding cluster.
fn requests() -> [Value; 2] {
    let request = |kind: &str, spec: Value| {
        marked(json!({
            "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": kind,
            "metadata": {"name": format!("{SERVICE_GROUP}--onboarding-init"), "namespace": SYSTEM,
                "labels": {"openmcp.cloud/managed-by": SERVICE_GROUP}},
            "spec": spec,
        }))
    };
    let reference = json!({"name": format!("{SERVICE_GROUP}--onboarding-init"), "namespace": SYSTEM});
    [
        request("ClusterRequest", json!({"purpose": "onboarding"})),
        request(
            "AccessRequest",
            json!({"requestRef": reference, "token": {"permissions": [{"rules": []}]}}),
        ),
    ]
}

/// A provider whose init has asked for access to the onboarding cluster, and then was stopped.
fn stopped_before_it_registered(platform: &Server) {
    platform
        .create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}))
        .unwrap();
    platform.create(&provider()).unwrap();
    let status = json!({"observedGeneration": 1, "phase": "Progressing"});
    platform.merge_status(&provider(), &status).unwrap();
    platform.create(&configuration()).unwrap();
    for request in requests() {
        platform.create(&request).unwrap();
    }
    platform.delete(&provider()).unwrap();
}

fn nothing_is_left(rig: &Rig) -> bool {
    let made = requests().into_iter().chain([configuration(), provider()]);
    made.into_iter().all(|it| rig.platform.live(&it).is_none())
}

#[tokio::test]
async fn an_init_that_never_reached_onboarding_leaves_nothing_and_waits_for_nobody() {
    let rig = Rig::new(|platform, _| stopped_before_it_registered(platform)).await;
    rig.run_providers();
    rig.until("all of it is gone", nothing_is_left).await;
}

#[tokio::test]
async fn kinds_that_init_installed_and_did_not_register_are_registered_and_removed_like_others() {
    let rig = Rig::new(|platform, onboarding| {
        stopped_before_it_registered(platform);
        let [_, access] = requests();
        let granted = json!({"observedGeneration": 1, "phase": "Granted", "secretRef": {"name": "it"}});
        platform.merge_status(&access, &granted).unwrap();
        onboarding.create(&marked(service_definition())).unwrap();
        onboarding
            .create(&json!({
                "apiVersion": format!("{SERVICE_GROUP}/v1alpha1"), "kind": "Kro",
                "metadata": {"name": "quick", "namespace": "default"}, "spec": {},
            }))
            .unwrap();
    })
    .await;
    rig.run_providers();
    let says = |rig: &Rig, text: &str| message(rig.platform.live(&provider()), "Uninstalled").contains(text);
    rig.until("it waits for the onboarding cluster", |rig| {
        says(rig, "may have installed kinds there")
    })
    .await;
    let onboarding = rig.open().await;
    rig.until("the kind is registered", |rig| {
        let live = rig.platform.live(&provider()).unwrap_or_default();
        live["status"]["resources"][0]["kind"] == "Kro"
    })
    .await;
    Rig::follow(&onboarding);
    rig.until(
        "it stays for the object that a tenant was quick to order",
        |rig| says(rig, "Kro default/quick"),
    )
    .await;
    rig.onboarding
        .delete(&json!({
            "apiVersion": format!("{SERVICE_GROUP}/v1alpha1"), "kind": "Kro",
            "metadata": {"name": "quick", "namespace": "default"},
        }))
        .unwrap();
    rig.until("all of it is gone", |rig| {
        nothing_is_left(rig) && rig.onboarding.live(&service_definition()).is_none()
    })
    .await;
}
