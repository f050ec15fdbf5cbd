//! What a platform owner may say on the Inventory: keep everything, or take everything away by force; and what the
//! provider tells who asks.
use super::stage::{NAME, Stage, text};
use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    kinds::{self, api},
    people,
    service::edit,
    wait,
};
use serde_json::{Value, json};
use std::process::Command;

const POLICY: &str = "runtime.openmcp.cloud/deletion-policy";
const RECEIPT: &str = "runtime.openmcp.cloud/receipt";

/// The platform owner says it.
async fn say(stage: &Stage, policy: &str) -> Result<()> {
    let inventories = api(&stage.platform.client, &kinds::inventory(), &stage.home().await?);
    let ours = stage.inventory().await?;
    let patch = json!({"metadata": {"annotations": {POLICY: policy}}});
    edit(&inventories, text(&ours, "name"), "the-owner", patch).await
}

/// What was left in writing; it is removed, so that the next scene finds none.
async fn receipt(stage: &Stage, policy: &str) -> Result<Value> {
    let inventories = api(&stage.platform.client, &kinds::inventory(), people::SYSTEM);
    let all = inventories
        .list(&ListParams::default().labels(&format!("{RECEIPT}={policy}")))
        .await?;
    ensure!(all.items.len() == 1, "{} receipts", all.items.len());
    let receipt = serde_json::to_value(&all.items[0])?;
    ensure!(
        receipt["metadata"]["annotations"]["runtime.openmcp.cloud/asked-by"] == "the-owner",
        "{receipt}"
    );
    inventories
        .delete(text(&receipt, "name"), &DeleteParams::default())
        .await?;
    Ok(receipt)
}

pub(crate) async fn an_orphaned_service_goes_and_everything_that_it_consists_of_stays_without_our_marks(
    stage: &Stage,
) -> Result<()> {
    stage.order().await?;
    say(stage, "Orphan").await?;
    stage.delete().await?;
    let receipt = receipt(stage, "Orphan").await?;
    let entries = receipt["spec"]["entries"].as_array().context("no entries")?;
    ensure!(entries.len() > 5, "{receipt}");
    // Namespaces last: they take what is in them along.
    let (namespaces, rest): (Vec<_>, Vec<_>) = entries.iter().partition(|it| it["kind"] == "Namespace");
    for entry in rest.into_iter().chain(namespaces) {
        let (objects, name) = stage.place(entry).await?;
        let live = objects
            .get(&name)
            .await
            .with_context(|| format!("{entry} is gone"))?;
        let labels = live.metadata.labels.unwrap_or_default();
        ensure!(
            !labels
                .keys()
                .any(|label| label.starts_with("runtime.openmcp.cloud/")),
            "{name} bears our marks: {labels:?}"
        );
        ensure!(
            live.metadata.uid.as_deref() == entry["uid"].as_str(),
            "{name} was made anew"
        );
        objects.delete(&name, &DeleteParams::background()).await?;
        wait::gone(&objects, &name).await?;
    }
    stage.nothing_but(&[]).await
}

pub(crate) async fn force_takes_the_tenants_objects_along_and_says_which_finalizers_it_stripped(
    stage: &Stage,
) -> Result<()> {
    stage.order().await?;
    let rgds = api(&stage.mcp, &kinds::resource_graph_definition(), "");
    let stuck = json!({
        "apiVersion": "kro.run/v1alpha1", "kind": "ResourceGraphDefinition",
        "metadata": {"name": "stuck", "finalizers": ["example.com/nobody-removes-it"]},
        "spec": {"schema": {"apiVersion": "v1alpha1", "kind": "Stuck", "spec": {"name": "string"}}, "resources": []},
    });
    people::apply(&stage.mcp, &kinds::resource_graph_definition(), stuck).await?;
    stage.kros().delete(NAME, &DeleteParams::default()).await?;
    wait::condition(
        &stage.kros(),
        NAME,
        "Ready",
        "False",
        "ResourceGraphDefinition stuck",
    )
    .await?;

    say(stage, "force").await?;
    let wrong = wait::condition(
        &stage.kros(),
        NAME,
        "Ready",
        "False",
        "must be Delete, Orphan or Force",
    )
    .await?;
    ensure!(wrong["reason"] == "InvalidDeletionPolicy", "{wrong}");
    ensure!(
        rgds.get_opt("stuck").await?.is_some(),
        "a word that is none did something"
    );

    say(stage, "Force").await?;
    wait::gone(&stage.kros(), NAME).await?;
    let receipt = receipt(stage, "Force").await?;
    let notes = &receipt["metadata"]["annotations"]["runtime.openmcp.cloud/notes"];
    ensure!(
        notes
            .as_str()
            .unwrap_or_default()
            .contains("example.com/nobody-removes-it"),
        "{receipt}"
    );
    stage
        .nothing_but(&["CustomResourceDefinition /stucks.kro.run"])
        .await
}

pub(crate) async fn who_asks_is_told_what_there_is_what_differs_and_what_comes_next(
    stage: &Stage,
) -> Result<()> {
    stage.order().await?;
    let object = format!("{}/{NAME}", stage.tenant.namespace);
    let told = explain(&object, "kro")?;
    for text in [
        "Ready=True",
        "ProviderConfig kro",
        "the ControlPlane (Cluster",
        "ClusterRole kro:controller:static",
        "next  nothing",
        "Next attempt",
    ] {
        ensure!(told.contains(text), "no {text:?} in\n{told}");
    }
    ensure!(
        !told.contains("next  repair") && !told.contains("next  change"),
        "{told}"
    );

    stage.pause().await?;
    stage.edit_role("meddler", json!({"rules": []})).await?;
    let told = explain(&object, "kro")?;
    for text in [
        "paused by the platform owner",
        "next  repair: ClusterRole kro:controller:static .rules changed by meddler",
    ] {
        ensure!(told.contains(text), "no {text:?} in\n{told}");
    }
    stage.resume().await?;
    stage.leave().await?;
    let told = explain(&object, "kro")?;
    ensure!(
        told.contains("does not exist") && told.contains("nothing is left"),
        "{told}"
    );
    let wrong = explain("nonsense", "kro").unwrap_err().to_string();
    ensure!(wrong.contains("namespace/name"), "{wrong}");
    let wrong = explain(&object, "nobody").unwrap_err().to_string();
    ensure!(wrong.contains("no ServiceProvider nobody"), "{wrong}");
    Ok(())
}

/// The provider's own command, as the platform owner runs it: it finds the platform by KUBECONFIG.
fn explain(object: &str, name: &str) -> Result<String> {
    let openmcp = std::env::var("OPENMCP_BIN").context("OPENMCP_BIN")?;
    let provider = std::path::Path::new(&openmcp).with_file_name("service-provider-kro");
    let output = Command::new(provider)
        .args(["explain", object, "--provider-name", name])
        .env("KUBECONFIG", std::env::var("OPENMCP_PLATFORM_KUBECONFIG")?)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
