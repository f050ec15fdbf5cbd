//! The tenant's objects of the kinds that the service installed: they block the deletion of the service.
//!
//! The kinds are discovered from the definitions in the Inventory, as they are served now. What is recorded without a
//! UID (a crash came between its apply and the record) is ours if it bears our mark, as it is for its removal.
use super::listed;
use crate::{
    access::{Owner, Reached},
    desired::Role,
    provider::ServiceProvider,
    stop::Stop,
    world::World,
};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{GroupVersionKind, PartialObjectMeta},
    discovery::ApiResource,
};
use openmcp_reconcile::{
    Fault,
    apply::Mark,
    children::{Kind, Scope, is_abandoned},
    inventory::Entry,
};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};

/// Enough to tell what is in the way.
const PAGE: u32 = 20;

/// Whether an entry is a definition on the tenant's ControlPlane: one of the DomainServiceAPI.
pub(super) fn is_definition(entry: &Entry) -> bool {
    entry.id.kind == "CustomResourceDefinition"
        && entry.id.group == "apiextensions.k8s.io"
        && entry.id.cluster.starts_with(Role::Mcp.as_str())
}

/// Stops while there are objects of the tenant, and lists them. Their end wakes the service object.
pub(super) async fn check<'a, P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    reached: &BTreeMap<String, Reached>,
    mark: &Mark,
    entries: impl Iterator<Item = &'a Entry> + Clone,
) -> Result<(), Stop> {
    let ours = Ours {
        mark,
        uids: entries.clone().filter_map(|entry| entry.uid.as_deref()).collect(),
        intents: entries.clone().filter(|entry| entry.uid.is_none()).collect(),
    };
    let mut found = Vec::new();
    for entry in entries.filter(|entry| is_definition(entry)) {
        let Some(mcp) = reached.get(&entry.id.cluster) else {
            continue;
        };
        let Some(kind) = served(mcp, mark, entry).await? else {
            continue;
        };
        let lease = world.engine.lease(owner.key, &mcp.cluster, &kind, Scope::All);
        // An error of the watch shows in the list below, too.
        let _ = lease.synced();
        found.extend(list(mcp, (&entry.id.cluster, &kind), &ours).await?);
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort_unstable();
    let message = format!(
        "the ControlPlane still has objects of this service; delete them first: {}",
        listed(&found)
    );
    Err(Stop::stuck("DomainObjectsExist", message))
}

/// What of the listed objects is ours.
struct Ours<'a> {
    mark: &'a Mark,
    uids: HashSet<&'a str>,
    intents: Vec<&'a Entry>,
}

impl Ours<'_> {
    fn has(&self, cluster: &str, kind: &Kind, item: &PartialObjectMeta<DynamicObject>) -> bool {
        if item.uid().is_some_and(|uid| self.uids.contains(uid.as_str())) {
            return true;
        }
        let namespace = item.namespace().unwrap_or_default();
        let intended = self.intents.iter().any(|Entry { id, .. }| {
            id.cluster == cluster
                && (&id.group, &id.kind) == (&kind.resource.group, &kind.resource.kind)
                && (id.namespace == namespace && id.name == item.name_any())
        });
        intended && bears(item, self.mark)
    }
}

fn bears<K: ResourceExt>(object: &K, mark: &Mark) -> bool {
    object.labels().get(mark.label) == Some(&mark.value)
}

/// How a definition's kind is served. `None` when there is none of ours, or when it is already going, and its
/// objects with it.
async fn served(mcp: &Reached, mark: &Mark, entry: &Entry) -> Result<Option<Kind>, Fault> {
    let definition = definition(mcp, mark, entry).await?;
    let stays = definition.filter(|it| it.metadata.deletion_timestamp.is_none());
    Ok(stays.and_then(|it| kind_of(&it)))
}

/// As [`served`], for one that is going.
async fn going(mcp: &Reached, mark: &Mark, entry: &Entry) -> Result<Option<Kind>, Fault> {
    let definition = definition(mcp, mark, entry).await?;
    let going = definition.filter(|it| it.metadata.deletion_timestamp.is_some());
    Ok(going.and_then(|it| kind_of(&it)))
}

/// The definition that an entry is about, if it is still ours.
async fn definition(
    mcp: &Reached,
    mark: &Mark,
    entry: &Entry,
) -> Result<Option<CustomResourceDefinition>, Fault> {
    let api: Api<CustomResourceDefinition> = Api::all(mcp.cluster.client.clone());
    let doing = || format!("read CustomResourceDefinition {}", entry.id.name);
    let found = api
        .get_opt(&entry.id.name)
        .await
        .map_err(|error| Fault::api(doing(), &error))?;
    Ok(found.filter(|found| match &entry.uid {
        Some(_) => found.uid() == entry.uid,
        None => bears(found, mark),
    }))
}

fn kind_of(definition: &CustomResourceDefinition) -> Option<Kind> {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|version| version.served)?;
    let gvk = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
    Some(Kind {
        resource: ApiResource::from_gvk_with_plural(&gvk, &spec.names.plural),
        namespaced: spec.scope == "Namespaced",
    })
}

/// Takes the finalizers off the objects of a definition that is being deleted. Returns what was done.
pub(super) async fn strip(
    mcp: &Reached,
    mark: &Mark,
    entry: &Entry,
    now: Timestamp,
) -> Result<Vec<String>, Fault> {
    let Some(kind) = going(mcp, mark, entry).await? else {
        return Ok(Vec::new());
    };
    let all: Api<DynamicObject> = Api::all_with(mcp.cluster.client.clone(), &kind.resource);
    let found = match all.list_metadata(&ListParams::default()).await {
        Ok(found) => found.items,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(Fault::api(format_args!("list {}", kind.resource.plural), &error)),
    };
    let mut done = Vec::new();
    for object in found {
        // All of them go with their definition, also those that the API server has not come to yet.
        let deleted = object.metadata.deletion_timestamp.as_ref().map(|at| at.0);
        let finalizers = object.finalizers().iter();
        let (taken, kept): (Vec<&String>, Vec<&String>) =
            finalizers.partition(|finalizer| is_abandoned(finalizer, deleted, now));
        if taken.is_empty() {
            continue;
        }
        let name = object.name_any();
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(mcp.cluster.client.clone(), &namespace, &kind.resource),
            None => all.clone(),
        };
        let patch = json!({"metadata": {"uid": object.uid(), "finalizers": kept}});
        match api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => continue,
            Err(error) => {
                let doing = format!("take the finalizers off {} {name}", kind.resource.kind);
                return Err(Fault::api(doing, &error));
            }
        }
        let taken = taken.into_iter().cloned().collect::<Vec<_>>().join(", ");
        done.push(format!(
            "took finalizers {taken} off {} {name}",
            kind.resource.kind
        ));
    }
    Ok(done)
}

async fn list(mcp: &Reached, (cluster, kind): (&str, &Kind), ours: &Ours<'_>) -> Result<Vec<String>, Fault> {
    let api: Api<DynamicObject> = Api::all_with(mcp.cluster.client.clone(), &kind.resource);
    let listed = match api.list_metadata(&ListParams::default().limit(PAGE)).await {
        Ok(listed) => listed,
        // Its definition went meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(Fault::api(format_args!("list {}", kind.resource.plural), &error)),
    };
    let theirs = listed.items.iter().filter(|item| !ours.has(cluster, kind, item));
    Ok(theirs
        .map(|item| match item.namespace() {
            Some(namespace) => format!("{} {namespace}/{}", kind.resource.kind, item.name_any()),
            None => format!("{} {}", kind.resource.kind, item.name_any()),
        })
        .collect())
}
