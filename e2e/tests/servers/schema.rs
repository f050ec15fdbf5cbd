//! Fault 15: the schema of the service objects changes under them.
use crate::site::Site;
use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use openmcp_e2e::{
    kinds::{self, api},
    service::edit,
    wait,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEFINITION: &str = "notesets.notes.services.open-control-plane.io";

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_field_has_another_type_now_says_so_keeps_all_and_concerns_no_other() -> Result<()> {
    let site = Site::new(None).await?;
    let provider = site.served().await?;
    for name in ["odd", "ended", "other", "left"] {
        site.order(name, 2).await?;
    }
    for name in ["odd", "ended", "other", "left"] {
        site.ready(name).await?;
    }
    let had = site.uids("odd").await?;

    retype(&site, json!({"type": "integer"})).await?;
    for name in ["odd", "ended"] {
        change(&site, name, json!({"text": 7})).await?;
        let said = site
            .unready(name, &format!("cannot read NoteSet team/{name}"))
            .await?;
        ensure!(said["reason"] == "ObjectUnreadable", "{said}");
        ensure!(
            said["message"]
                .as_str()
                .is_some_and(|it| it.contains("expected a string")),
            "{said}"
        );
        site.told(name, &["cannot read NoteSet"]).await?;
    }
    // What the schema would not take any more is still served, and its status written, though nothing can be applied to
    // it: the API server answers 500.
    site.is_repaired("other-0").await?;
    change(&site, "other", json!({"count": 3})).await?;
    wait::until(&site.notes(), "other-2", "made", |live| live.is_some()).await?;
    wait::until(&site.orders(), "other", "Ready as it is now", is_current).await?;
    ensure!(is_refused(&site, "other").await?, "it could be applied to");
    ensure!(site.uids("odd").await? == had, "{:?}", site.uids("odd").await?);

    // A process that has never seen it otherwise takes it for nothing else.
    provider.end().await?;
    let provider = site.run(crate::notes::Notes, "two", "1").await?;
    site.is_repaired("other-1").await?;
    ensure!(site.uids("odd").await? == had, "{:?}", site.uids("odd").await?);
    for name in ["ended", "left"] {
        site.orders().delete(name, &DeleteParams::default()).await?;
        wait::gone(&site.orders(), name).await?;
        ensure!(site.uids(name).await?.is_empty(), "{:?}", site.uids(name).await?);
    }

    retype(&site, json!({"type": "string"})).await?;
    change(&site, "odd", json!({"text": "again"})).await?;
    for name in ["odd", "other"] {
        wait::until(&site.orders(), name, "Ready as it is now", is_current).await?;
    }
    ensure!(site.uids("odd").await? == had, "{:?}", site.uids("odd").await?);
    ensure!(site.notes().get("odd-0").await?.data["data"]["text"] == "again");
    provider.end().await
}

fn is_current(live: Option<&Value>) -> bool {
    live.is_some_and(|live| {
        live["status"]["phase"] == "Ready"
            && live["status"]["observedGeneration"] == live["metadata"]["generation"]
    })
}

/// Whether the API server refuses to apply anything to an order, for what is stored does not conform.
async fn is_refused(site: &Site, name: &str) -> Result<bool> {
    let label = json!({"apiVersion": "notes.services.open-control-plane.io/v1alpha1", "kind": "NoteSet",
        "metadata": {"name": name, "labels": {"somebody": "else"}}});
    let (orders, params) = (site.orders(), PatchParams::apply("somebody"));
    match orders.patch(name, &params, &Patch::Apply(label)).await {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) if status.code == 500 => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// `spec.text` gets another type.
async fn retype(site: &Site, schema: Value) -> Result<()> {
    let definitions = api(&site.home.client, &kinds::crd(), "");
    let mut versions = definitions.get(DEFINITION).await?.data["spec"]["versions"].clone();
    let text = versions.pointer_mut("/0/schema/openAPIV3Schema/properties/spec/properties/text");
    *text.context("no spec.text")? = schema;
    edit(
        &definitions,
        DEFINITION,
        "owner",
        json!({"spec": {"versions": versions}}),
    )
    .await
}

/// What the schema refuses is tried again: another one is served a moment after it was taken.
async fn change(site: &Site, name: &str, spec: Value) -> Result<()> {
    let (patch, end) = (
        Patch::Merge(json!({"spec": spec})),
        Instant::now() + wait::PATIENCE,
    );
    loop {
        match site.orders().patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 422 && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
