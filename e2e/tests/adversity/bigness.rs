//! Objects that are too big or too new: the schema of the service's kind becomes another one, as a newer release, or
//! whoever owns the onboarding cluster, would make it.
use super::{Stage, is_repaired};
use anyhow::{Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use openmcp_e2e::{
    Service,
    kinds::{self, api},
    kro,
    service::edit,
    wait,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEFINITION: &str = "kros.kro.services.open-control-plane.io";
/// etcd takes a million and a half.
const BYTES: usize = 1_300_000;
const BRIEF: usize = 2_048;

pub(super) async fn an_order_of_a_megabyte_is_answered_in_a_few_words_on_that_object_only(
    stage: &Stage,
) -> Result<()> {
    let Stage { one, other } = stage;
    let before = other.children().await?;
    let schema = Schema::of(one).await?;
    schema.loosen().await?;
    order(other, &"9".repeat(BYTES)).await?;
    let said = other.unready(&["choose one of"]).await?;
    ensure!(said["reason"] == "UnknownVersion", "{}", said["reason"]);
    let live = serde_json::to_value(other.kros().get(&other.name).await?)?;
    for condition in live["status"]["conditions"].as_array().into_iter().flatten() {
        let length = condition["message"].as_str().unwrap_or_default().len();
        ensure!(length <= BRIEF, "{} says {length} bytes", condition["type"]);
    }
    other.told(&["UnknownVersion", kro::VERSION]).await?;
    is_repaired(one).await?;
    one.ready().await?;

    order(other, kro::VERSION).await?;
    other.ready().await?;
    ensure!(
        other.children().await? == before,
        "a wrong order changed what was there"
    );
    schema.restore().await
}

pub(super) async fn fields_that_the_provider_does_not_know_are_kept_or_pruned_without_harm(
    stage: &Stage,
) -> Result<()> {
    let one = &stage.one;
    let before = one.children().await?;
    let schema = Schema::of(one).await?;
    schema.add_field("flavour").await?;
    let patience = Instant::now() + wait::PATIENCE;
    // An API server serves another schema a moment after it has taken it.
    let live = loop {
        let spec = json!({"spec": {"flavour": "vanilla", "nobodyKnowsIt": {"a": ["b"]}}});
        edit(&one.kros(), &one.name, "tenant", spec).await?;
        let live = serde_json::to_value(one.kros().get(&one.name).await?)?;
        if live["spec"]["flavour"] == "vanilla" {
            break live;
        }
        ensure!(Instant::now() < patience, "the field is pruned: {}", live["spec"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(live["spec"]["nobodyKnowsIt"].is_null(), "{}", live["spec"]);
    let generation = &live["metadata"]["generation"];
    let seen = wait::until(&one.kros(), &one.name, "the newest spec observed", |live| {
        let ready = live.and_then(|live| wait::find(live, "Ready"));
        ready.is_some_and(|it| it["status"] == "True" && it["observedGeneration"] == *generation)
    })
    .await?;
    ensure!(
        seen["spec"]["flavour"] == "vanilla",
        "our writes took it away: {}",
        seen["spec"]
    );
    ensure!(one.children().await? == before, "it changed what was there");
    schema.restore().await?;
    is_repaired(one).await?;
    one.ready().await
}

/// Orders a version by a merge patch. What the schema refuses is tried again: another one is served a moment after it
/// was taken.
async fn order(service: &Service, version: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"version": version}}));
    let patience = Instant::now() + wait::PATIENCE;
    loop {
        match service
            .kros()
            .patch(&service.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 422 && Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The schema of Kro on onboarding, to be changed and put back.
struct Schema {
    definitions: Api<DynamicObject>,
    versions: Value,
}

impl Schema {
    async fn of(service: &Service) -> Result<Self> {
        let definitions = api(&service.platform.onboarding().await?, &kinds::crd(), "");
        let versions = definitions.get(DEFINITION).await?.data["spec"]["versions"].clone();
        ensure!(versions[0]["schema"].is_object(), "{versions}");
        Ok(Self {
            definitions,
            versions,
        })
    }

    /// Versions may have any length.
    async fn loosen(&self) -> Result<()> {
        let mut versions = self.versions.clone();
        if let Some(version) = properties(&mut versions)["version"].as_object_mut() {
            version.remove("maxLength");
        }
        self.put(versions).await
    }

    async fn add_field(&self, name: &str) -> Result<()> {
        let mut versions = self.versions.clone();
        properties(&mut versions)[name] = json!({"type": "string"});
        self.put(versions).await
    }

    async fn restore(&self) -> Result<()> {
        self.put(self.versions.clone()).await
    }

    async fn put(&self, versions: Value) -> Result<()> {
        let patch = json!({"spec": {"versions": versions}});
        edit(&self.definitions, DEFINITION, "owner", patch).await
    }
}

fn properties(versions: &mut Value) -> &mut Value {
    &mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
}
