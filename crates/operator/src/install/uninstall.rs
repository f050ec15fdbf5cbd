//! Taking a provider away again, one level-based step at a time (contract §3; known fault 20).
//!
//! Nothing is stopped while something still needs the provider: a ServiceProvider stays, and runs, while there are
//! objects of its kinds on the onboarding cluster, a ClusterProvider while there are Clusters of its profiles. Its kinds are
//! those that it registered, and those that its init installed and was stopped before it registered them.
use super::{
    effects::Effects,
    reconcile::Installable,
    remains::{self, Remains},
};
use crate::{
    meta::{self, KEEP_CRDS},
    onboarding::{Objects, Slot},
    platform::slim::Crd,
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use openmcp_api::{
    ClusterProfile, ServiceProvider, common::GroupVersionKind, keys::labels, provider::ProviderKind,
};
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

/// How an uninstallation stands after a step.
pub(super) enum Removal {
    /// Nothing that was installed is left.
    Gone,
    /// What it waits for.
    Waiting(String),
}

/// At most so many objects are named in a message.
const NAMED: usize = 5;

pub(super) struct Uninstall<'a> {
    pub effects: &'a Effects<'a>,
    pub onboarding: &'a Slot,
}

impl Uninstall<'_> {
    /// Does what can be done now.
    pub(super) async fn step<P: Installable>(&self, provider: &P) -> Result<Removal, Fault> {
        let kinds = self.kinds();
        let needed_by = match P::KIND {
            ProviderKind::Service => self.live_objects(&kinds),
            ProviderKind::Cluster => Ok(self.live_clusters()),
            ProviderKind::Platform => Ok(Vec::new()),
        };
        let needed_by = match needed_by {
            Ok(needed_by) => needed_by,
            Err(unknown) => return Ok(Removal::Waiting(unknown)),
        };
        if !needed_by.is_empty() {
            return self.keep_serving(&needed_by).await;
        }
        let mut left = self.effects.stop().await?;
        if left.is_empty() {
            left = self.effects.running_now().await?;
        }
        if !left.is_empty() {
            return Ok(Removal::Waiting(format!("waiting for {} to stop", named(&left))));
        }
        let remains = match P::KIND {
            ProviderKind::Service => Remains::of(self.effects).await?,
            ProviderKind::Cluster | ProviderKind::Platform => Remains::default(),
        };
        if P::KIND == ProviderKind::Service
            && let Some(waits) = self.complete(&kinds, &remains).await?
        {
            return Ok(Removal::Waiting(waits));
        }
        if P::KIND == ProviderKind::Service
            && provider
                .annotations()
                .get(KEEP_CRDS)
                .is_none_or(|v| v != labels::TRUE)
        {
            match self.remove_kinds(&kinds, &remains).await? {
                Ok(crds) => left.extend(crds),
                Err(appeared) => return Ok(Removal::Waiting(appeared)),
            }
        }
        if P::KIND == ProviderKind::Cluster {
            left.extend(self.remove_profiles().await?);
        }
        self.remove_static_requests(&kinds, &remains).await?;
        left.extend(self.effects.remove_rest().await?);
        if left.is_empty() {
            left = self.effects.installed_now().await?;
        }
        if left.is_empty() {
            Ok(Removal::Gone)
        } else {
            Ok(Removal::Waiting(format!(
                "waiting for {} to be gone",
                named(&left)
            )))
        }
    }

    /// The kinds that a ServiceProvider's init registered.
    fn kinds(&self) -> Vec<GroupVersionKind> {
        let of = self.effects.of;
        if of.kind != ProviderKind::Service {
            return Vec::new();
        }
        let provider = self.effects.platform.service_providers.get("", &of.name);
        provider
            .and_then(|p| p.status.clone())
            .map(|s| s.resources)
            .unwrap_or_default()
    }

    /// Objects of the service on the onboarding cluster, or why that is not known.
    fn live_objects(&self, kinds: &[GroupVersionKind]) -> Result<Vec<String>, String> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let Some(onboarding) = self.onboarding.get() else {
            return Err("waiting for access to the onboarding cluster: only then is it known whether there are objects of the service".to_owned());
        };
        let mut live = Vec::new();
        for kind in kinds {
            match onboarding.kinds.objects(kind) {
                Objects::NotInstalled => {}
                Objects::Unknown => {
                    return Err(format!(
                        "waiting for the list of all {} on the onboarding cluster",
                        kind.kind
                    ));
                }
                Objects::Listed(store) => live.extend(store.all().iter().map(|o| {
                    format!(
                        "{} {}/{}",
                        kind.kind,
                        o.namespace().unwrap_or_default(),
                        o.name_any()
                    )
                })),
            }
        }
        Ok(live)
    }

    fn live_clusters(&self) -> Vec<String> {
        let profiles: BTreeSet<String> = self.profiles().iter().map(|p| p.name_any()).collect();
        let clusters = self.effects.platform.clusters.all();
        clusters
            .iter()
            .filter(|c| profiles.contains(&c.spec.profile))
            .map(|c| meta::describe(c.as_ref()))
            .collect()
    }

    fn profiles(&self) -> Vec<Arc<ClusterProfile>> {
        let mut all = self.effects.platform.profiles.all();
        all.retain(|p| p.spec.provider_ref.name == self.effects.of.name);
        all
    }

    /// While something needs the provider, its run part stays as it is installed.
    async fn keep_serving(&self, needed_by: &[String]) -> Result<Removal, Fault> {
        let of = self.effects.of;
        if of.clashing_env().is_empty() {
            self.effects.start_run().await?;
        }
        Ok(Removal::Waiting(format!(
            "still needed by {}: {}. It keeps running until nothing needs it any more.",
            count(needed_by.len()),
            named(needed_by)
        )))
    }

    /// Registers the kinds that an init installed on the onboarding cluster and did not get to register: from then on
    /// they are served, looked through for objects and deleted like any others. Returns what is to be awaited.
    async fn complete(&self, kinds: &[GroupVersionKind], remains: &Remains) -> Result<Option<String>, Fault> {
        let Some(onboarding) = self.onboarding.get() else {
            return Ok(remains.granted().map(|access| {
                format!(
                    "waiting for access to the onboarding cluster: init had it by {} and may have installed kinds there",
                    meta::describe(access)
                )
            }));
        };
        let installed = remains::definitions(&onboarding.client, &self.effects.of.name).await?;
        let unknown = installed
            .iter()
            .filter(|crd| !kinds.iter().any(|kind| crd.defines(kind)));
        let found: Vec<GroupVersionKind> = unknown.filter_map(Crd::first_kind).collect();
        if !found.is_empty() {
            return self.register(kinds, &found).await.map(Some);
        }
        let unseen = installed
            .iter()
            .map(ResourceExt::name_any)
            .find(|name| onboarding.crds.get("", name).is_none());
        Ok(unseen.map(|name| format!("waiting for {name} to be seen on the onboarding cluster")))
    }

    async fn register(
        &self,
        kinds: &[GroupVersionKind],
        found: &[GroupVersionKind],
    ) -> Result<String, Fault> {
        let text = named(&found.iter().map(ToString::to_string).collect::<Vec<_>>());
        let api: Api<ServiceProvider> = Api::all(self.effects.platform.client.clone());
        let all: Vec<_> = kinds.iter().chain(found).collect();
        let patch = Patch::Merge(json!({"status": {"resources": all}}));
        let written = api
            .patch_status(&self.effects.of.name, &PatchParams::default(), &patch)
            .await;
        written.map_err(|error| Fault::api(format!("register {text}"), &error))?;
        Ok(format!(
            "init was stopped after it had installed {text} on the onboarding cluster: registered now, to be removed like any other"
        ))
    }

    /// Deletes the CRDs of the service: on onboarding those of its kinds, after one more look for objects; on the platform
    /// those of the same groups, which hold its configuration. Returns what is still there, or objects that appeared.
    async fn remove_kinds(
        &self,
        kinds: &[GroupVersionKind],
        remains: &Remains,
    ) -> Result<Result<Vec<String>, String>, Fault> {
        let groups: BTreeSet<&str> = kinds.iter().map(|k| k.group.as_str()).collect();
        let mut left = Vec::new();
        if let Some(onboarding) = self.onboarding.get() {
            for kind in kinds {
                let appeared = onboarding.kinds.list_now(kind).await?;
                if !appeared.is_empty() {
                    return Ok(Err(format!(
                        "{} appeared while the provider was being stopped: {}. It is started again.",
                        count(appeared.len()),
                        named(&appeared)
                    )));
                }
            }
            let ours = onboarding.crds.all();
            let ours = ours
                .iter()
                .filter(|crd| kinds.iter().any(|kind| crd.defines(kind)));
            left.extend(delete_crds(&onboarding.client, ours.map(Arc::as_ref)).await?);
        }
        let platform = self.effects.platform;
        let seen = platform.crds.all();
        let of_group = seen.iter().map(Arc::as_ref).filter(|crd| {
            groups.contains(crd.spec.group.as_str())
                && crd
                    .labels()
                    .get(labels::CLUSTER)
                    .is_some_and(|v| v == labels::CLUSTER_PLATFORM)
        });
        let ours: BTreeMap<String, &Crd> = of_group
            .chain(&remains.crds)
            .map(|crd| (crd.name_any(), crd))
            .collect();
        left.extend(delete_crds(&platform.client, ours.into_values()).await?);
        Ok(Ok(left))
    }

    async fn remove_profiles(&self) -> Result<Vec<String>, Fault> {
        let api: Api<ClusterProfile> = Api::all(self.effects.platform.client.clone());
        let mut left = Vec::new();
        for profile in self.profiles() {
            meta::delete(&api, profile.as_ref()).await?;
            left.push(meta::describe(profile.as_ref()));
        }
        Ok(left)
    }

    /// Deletes the requests by which the provider got its own onboarding access (contract §8). Their credentials are
    /// taken back by the cluster provider; the uninstallation does not wait for that.
    async fn remove_static_requests(
        &self,
        kinds: &[GroupVersionKind],
        remains: &Remains,
    ) -> Result<(), Fault> {
        let platform = self.effects.platform;
        let makers: BTreeSet<&str> = kinds
            .iter()
            .map(|k| k.group.as_str())
            .chain([self.effects.of.name.as_str()])
            .collect();
        let (accesses, requests) = (platform.accesses.all(), platform.requests.all());
        self.delete_requests(&accesses, &remains.accesses, &makers)
            .await?;
        self.delete_requests(&requests, &remains.requests, &makers).await
    }

    /// Deletes those that one of `makers` made here, and those that bear the provider's name.
    async fn delete_requests<K>(
        &self,
        seen: &[Arc<K>],
        named: &[K],
        makers: &BTreeSet<&str>,
    ) -> Result<(), Fault>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let made_here = |request: &&K| {
            request.namespace().as_deref() == Some(self.effects.of.namespace)
                && request
                    .labels()
                    .get(labels::MANAGED_BY)
                    .is_some_and(|maker| makers.contains(maker.as_str()))
        };
        let api = self.effects.api();
        for request in seen.iter().map(Arc::as_ref).filter(made_here).chain(named) {
            meta::delete(&api, request).await?;
        }
        Ok(())
    }
}

/// Deletes the CRDs. Returns what they are called: they are still there.
async fn delete_crds(client: &kube::Client, crds: impl Iterator<Item = &Crd>) -> Result<Vec<String>, Fault> {
    let api: Api<Crd> = Api::all_with(client.clone(), &());
    let mut left = Vec::new();
    for crd in crds {
        meta::delete(&api, crd).await?;
        left.push(meta::describe(crd));
    }
    Ok(left)
}

fn count(n: usize) -> String {
    if n == 1 {
        "1 object".to_owned()
    } else {
        format!("{n} objects")
    }
}

/// The first few, in order, and how many more there are.
fn named(all: &[String]) -> String {
    let mut all = all.to_vec();
    all.sort();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    let mut text = all.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
