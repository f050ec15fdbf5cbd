//! Taking a provider away again, one level-based step at a time (contract §3; known fault 20).
//!
//! Nothing is stopped while something still needs the provider: a ServiceProvider stays, and runs, while there are
//! objects of its kinds on the onboarding cluster, a ClusterProvider while there are Clusters of its profiles.
use super::{effects::Effects, reconcile::Installable};
use crate::{
    meta::{self, KEEP_CRDS},
    onboarding::{Objects, Slot},
    platform::slim::Crd,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Resource, ResourceExt};
use openmcp_api::{
    AccessRequest, ClusterProfile, ClusterRequest, common::GroupVersionKind, keys::labels,
    provider::ProviderKind,
};
use openmcp_reconcile::{Fault, watch::Store};
use std::{collections::BTreeSet, sync::Arc};

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
        let left = self.effects.stop().await?;
        if !left.is_empty() {
            return Ok(Removal::Waiting(format!("waiting for {} to stop", named(&left))));
        }
        let mut left = Vec::new();
        if P::KIND == ProviderKind::Service
            && provider
                .annotations()
                .get(KEEP_CRDS)
                .is_none_or(|v| v != labels::TRUE)
        {
            match self.remove_kinds(&kinds).await? {
                Ok(crds) => left.extend(crds),
                Err(appeared) => return Ok(Removal::Waiting(appeared)),
            }
        }
        if P::KIND == ProviderKind::Cluster {
            left.extend(self.remove_profiles().await?);
        }
        self.remove_static_requests(&kinds).await?;
        left.extend(self.effects.remove_rest().await?);
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

    /// Deletes the CRDs of the service: on onboarding those of its kinds, after one more look for objects; on the platform
    /// those of the same groups, which hold its configuration. Returns what is still there, or objects that appeared.
    async fn remove_kinds(&self, kinds: &[GroupVersionKind]) -> Result<Result<Vec<String>, String>, Fault> {
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
            let ours = |crd: &Crd| {
                kinds
                    .iter()
                    .any(|k| k.group == crd.spec.group && k.kind == crd.spec.names.kind)
            };
            left.extend(delete_crds(&onboarding.client, &onboarding.crds, ours).await?);
        }
        let platform = self.effects.platform;
        let ours = |crd: &Crd| {
            groups.contains(crd.spec.group.as_str())
                && crd
                    .labels()
                    .get(labels::CLUSTER)
                    .is_some_and(|v| v == labels::CLUSTER_PLATFORM)
        };
        left.extend(delete_crds(&platform.client, &platform.crds, ours).await?);
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
    async fn remove_static_requests(&self, kinds: &[GroupVersionKind]) -> Result<(), Fault> {
        let (of, platform) = (self.effects.of, self.effects.platform);
        let makers: BTreeSet<&str> = kinds
            .iter()
            .map(|k| k.group.as_str())
            .chain([of.name.as_str()])
            .collect();
        fn made_here<K: ResourceExt>(object: &K, namespace: &str, makers: &BTreeSet<&str>) -> bool {
            object.namespace().as_deref() == Some(namespace)
                && object
                    .labels()
                    .get(labels::MANAGED_BY)
                    .is_some_and(|maker| makers.contains(maker.as_str()))
        }
        let accesses: Api<AccessRequest> = Api::namespaced(platform.client.clone(), of.namespace);
        for access in platform
            .accesses
            .all()
            .iter()
            .filter(|a| made_here(a.as_ref(), of.namespace, &makers))
        {
            meta::delete(&accesses, access.as_ref()).await?;
        }
        let requests: Api<ClusterRequest> = Api::namespaced(platform.client.clone(), of.namespace);
        for request in platform
            .requests
            .all()
            .iter()
            .filter(|r| made_here(r.as_ref(), of.namespace, &makers))
        {
            meta::delete(&requests, request.as_ref()).await?;
        }
        Ok(())
    }
}

/// Deletes the CRDs for which `which` holds. Returns those that are still there.
async fn delete_crds(
    client: &kube::Client,
    store: &Store<Crd>,
    which: impl Fn(&Crd) -> bool,
) -> Result<Vec<String>, Fault> {
    let api: Api<Crd> = Api::all_with(client.clone(), &());
    let mut left = Vec::new();
    for crd in store.all().iter().filter(|crd| which(crd)) {
        meta::delete(&api, crd.as_ref()).await?;
        left.push(format!(
            "{} {}",
            CustomResourceDefinition::kind(&()),
            crd.name_any()
        ));
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
