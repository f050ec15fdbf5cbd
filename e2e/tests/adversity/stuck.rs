//! What is to go hangs, and what is to stay was deleted.
use super::{Stage, is_repaired};
use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use openmcp_e2e::{
    Service,
    kinds::{self, api},
    people,
    service::{ROLE, edit, uid},
    wait,
};
use serde_json::json;

const FINALIZER: &str = "e2e.test/nobody-removes-it";
/// kro's namespace on the ControlPlane, and something in it that hangs.
const NAMESPACE: &str = "kro-system";
const HELD: &str = "held";

pub(super) async fn a_definition_that_somebody_deletes_comes_back(stage: &Stage) -> Result<()> {
    let one = &stage.one;
    let name = "resourcegraphdefinitions.kro.run";
    let definitions = api(&one.mcp, &kinds::crd(), "");
    let before = serde_json::to_value(definitions.get(name).await?)?;
    definitions.delete(name, &DeleteParams::default()).await?;
    wait::until(&definitions, name, "established again", |live| {
        live.is_some_and(|live| {
            let established = wait::find(live, "Established").is_some_and(|it| it["status"] == "True");
            established && uid(live) != uid(&before)
        })
    })
    .await?;
    one.told(&["CustomResourceDefinition", name, "re-created"])
        .await?;
    one.ready().await
}

pub(super) async fn a_namespace_that_does_not_end_is_named_with_what_holds_it_and_all_else_goes_on(
    stage: &Stage,
) -> Result<()> {
    let one = &stage.one;
    let namespaces = api(&one.mcp, &kinds::namespace(), "");
    let before = serde_json::to_value(namespaces.get(NAMESPACE).await?)?;
    hold_namespace(one).await?;
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    one.unready(&["Namespace kro-system is being deleted", FINALIZER])
        .await?;
    is_repaired(one).await?;
    release_namespace(one).await?;
    wait::until(&namespaces, NAMESPACE, "made again", |live| {
        live.is_some_and(|live| uid(live) != uid(&before))
    })
    .await?;
    one.ready().await
}

pub(super) async fn a_deletion_says_what_holds_it_and_goes_on_with_all_else(stage: &Stage) -> Result<()> {
    let other = &stage.other;
    let inventory = other.inventory().await?;
    let entries = inventory["spec"]["entries"].as_array().context("no entries")?;
    hold_namespace(other).await?;
    other
        .edit_role("holder", json!({"metadata": {"finalizers": [FINALIZER]}}))
        .await?;
    other.kros().delete(&other.name, &DeleteParams::default()).await?;
    other
        .unready(&[&format!("ClusterRole {ROLE} (held by {FINALIZER})")])
        .await?;
    let kinds = ["CustomResourceDefinition", "Deployment", "ClusterRole"];
    let others = entries
        .iter()
        .filter(|it| kinds.iter().any(|kind| it["kind"] == *kind) && it["name"] != ROLE);
    let others: Vec<_> = others.collect();
    ensure!(others.len() >= 4, "{entries:?}");
    for entry in others {
        let (objects, name) = other.place(entry).await?;
        wait::gone(&objects, &name).await?;
    }

    other
        .edit_role("holder", json!({"metadata": {"finalizers": null}}))
        .await?;
    other
        .unready(&["Namespace kro-system (held by", FINALIZER])
        .await?;
    release_namespace(other).await?;
    wait::gone(&other.kros(), &other.name).await
}

async fn hold_namespace(one: &Service) -> Result<()> {
    let held = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": HELD, "namespace": NAMESPACE, "finalizers": [FINALIZER]},
    });
    people::apply(&one.mcp, &kinds::config_map(), held)
        .await
        .map(drop)
}

async fn release_namespace(one: &Service) -> Result<()> {
    let maps = api(&one.mcp, &kinds::config_map(), NAMESPACE);
    edit(&maps, HELD, "holder", json!({"metadata": {"finalizers": null}})).await
}
