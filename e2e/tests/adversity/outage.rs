//! An API server ends, and another one takes its place and its endpoint.
use super::{Stage, is_repaired};
use anyhow::{Context, Result, ensure};
use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
};
use openmcp_e2e::{
    Platform,
    kinds::{self, api},
    people,
    service::{edit, uid},
    wait,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub(super) async fn the_api_server_of_a_control_plane_ends_and_comes_back_and_only_its_service_says_so(
    stage: &Stage,
) -> Result<()> {
    let Stage { one, other } = stage;
    let before = one.children().await?;
    let request = one_named(&one.platform, &kinds::cluster_request(), &one.name).await?;
    let at = &request["status"]["cluster"];
    let (namespace, name) = (text(&at["namespace"]), text(&at["name"]));
    let cluster = api(&one.platform.client, &kinds::cluster(), namespace)
        .get(name)
        .await?;
    let server = text(&cluster.data["status"]["apiServer"]);
    ensure!(!server.is_empty(), "no apiServer in {}", cluster.data);

    let texts = [server];
    let (said, beside) = tokio::join!(
        async {
            tokio::select! {
                said = one.unready(&texts) => said,
                never = keep_ending_api_servers(&one.platform, namespace, name) => never.map(|()| Value::Null),
            }
        },
        is_repaired(other),
    );
    beside.context("the other service")?;
    let said = said?;
    ensure!(said["reason"] == "Unreachable", "{said}");
    let ready = other.kros().get(&other.name).await?;
    let ready = wait::find(&ready.data, "Ready").cloned().unwrap_or_default();
    ensure!(ready["status"] == "True", "the other service: {ready}");

    api_server_is_back(&one.platform, namespace, name).await?;
    one.ready().await?;
    let after = one.children().await?;
    ensure!(after == before, "{before:#?} became {after:#?}");
    is_repaired(one).await?;
    one.ready().await
}

pub(super) async fn the_api_server_of_onboarding_ends_and_comes_back_and_the_provider_goes_on(
    stage: &Stage,
) -> Result<()> {
    let one = &stage.one;
    let (before, pod) = (one.children().await?, provider_pod(&one.platform).await?);
    let (inventory, kro) = (one.inventory().await?, one.kros().get(&one.name).await?);

    let (ended, repaired) = tokio::join!(
        end_api_server(&one.platform, people::SYSTEM, "onboarding"),
        is_repaired(one),
    );
    ended?;
    repaired.context("while onboarding is away")?;
    api_server_is_back(&one.platform, people::SYSTEM, "onboarding").await?;
    let there = wait::until(&one.kros(), &one.name, "there", |live| live.is_some()).await?;
    ensure!(uid(&there).as_str() == kro.uid().as_deref(), "{there}");

    // It is asked for something on onboarding, and sees it.
    let reconcile = json!({"metadata": {"annotations": {"openmcp.cloud/operation": "reconcile"}}});
    edit(&one.kros(), &one.name, "tenant", reconcile).await?;
    wait::until(&one.kros(), &one.name, "the operation taken", |live| {
        live.is_some_and(|live| live["metadata"]["annotations"]["openmcp.cloud/operation"].is_null())
    })
    .await?;
    one.ready().await?;
    ensure!(
        uid(&one.inventory().await?) == uid(&inventory),
        "another Inventory"
    );
    let uids = |them: &BTreeMap<String, (Value, Value)>| {
        them.values().map(|(uid, _)| uid.clone()).collect::<Vec<_>>()
    };
    ensure!(
        uids(&one.children().await?) == uids(&before),
        "something was made anew"
    );
    ensure!(
        provider_pod(&one.platform).await? == pod,
        "the provider was started anew"
    );
    Ok(())
}

/// The pod of a Cluster's control plane goes, and the one that takes its place, and so on: one alone would be back too
/// soon to be worth a word.
async fn keep_ending_api_servers(platform: &Platform, namespace: &str, cluster: &str) -> Result<()> {
    loop {
        end_api_server(platform, namespace, cluster).await?;
    }
}

/// The pod of a Cluster's control plane goes.
async fn end_api_server(platform: &Platform, namespace: &str, cluster: &str) -> Result<()> {
    let pods = api(&platform.client, &kinds::pod(), namespace);
    let patience = Instant::now() + wait::PATIENCE;
    let pod = loop {
        if let Some(pod) = pods_of(platform, namespace, cluster).await?.first() {
            break pod.name_any();
        }
        ensure!(
            Instant::now() < patience,
            "no pod of Cluster {namespace}/{cluster}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    pods.delete(&pod, &DeleteParams::default()).await?;
    wait::gone(&pods, &pod).await
}

/// Waits until there is one pod, which is ready and stays.
async fn api_server_is_back(platform: &Platform, namespace: &str, cluster: &str) -> Result<()> {
    let patience = Instant::now() + wait::PATIENCE;
    loop {
        let pods = pods_of(platform, namespace, cluster).await?;
        let stays = |pod: &DynamicObject| {
            let ready = wait::find(&pod.data, "Ready").is_some_and(|it| it["status"] == "True");
            ready && pod.metadata.deletion_timestamp.is_none()
        };
        if pods.len() == 1 && pods.iter().all(stays) {
            return Ok(());
        }
        ensure!(
            Instant::now() < patience,
            "Cluster {namespace}/{cluster} does not come back"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pods_of(platform: &Platform, namespace: &str, cluster: &str) -> Result<Vec<DynamicObject>> {
    let pods = api(&platform.client, &kinds::pod(), namespace);
    let mut all = pods.list(&ListParams::default()).await?.items;
    let prefix = format!("{cluster}-control-plane-");
    all.retain(|pod| pod.name_any().starts_with(&prefix));
    Ok(all)
}

/// Which pod runs the provider, and how often it was started in it.
async fn provider_pod(platform: &Platform) -> Result<(Option<String>, Value)> {
    let pods = api(&platform.client, &kinds::pod(), people::SYSTEM);
    let all = pods.list(&ListParams::default()).await?;
    let of_provider = |pod: &&DynamicObject| {
        let name = pod.name_any();
        name.starts_with("sp-kro-") && !name.starts_with("sp-kro-init")
    };
    let pod = all
        .items
        .iter()
        .find(of_provider)
        .context("the provider has no pod")?;
    let starts = &pod.data["status"]["containerStatuses"][0]["restartCount"];
    ensure!(starts.is_number(), "{}", pod.data["status"]);
    Ok((pod.uid(), starts.clone()))
}

async fn one_named(platform: &Platform, kind: &kube::api::ApiResource, name: &str) -> Result<Value> {
    let all = api(&platform.client, kind, "")
        .list(&ListParams::default())
        .await?;
    let found = all.items.into_iter().find(|it| it.name_any() == name);
    let found = found.with_context(|| format!("no {} {name}", kind.kind))?;
    Ok(serde_json::to_value(found)?)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
