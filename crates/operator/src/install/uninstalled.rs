//! Uninstalling on servers in memory: who waits is woken.
#![allow(clippy::unwrap_used)]
use crate::rig::{self, Rig, message, provider, service_definition};
use serde_json::json;

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
