//! The objects of the kinds that recorded definitions define: they go with their definition, whoever made them. So it
//! is looked at them before one is removed.
//!
//! What is recorded without a UID (a crash came between its apply and the record) is ours if it bears our mark, and what
//! was made anew under another one if we applied it too: as it is for its removal.
use super::{abandoned::is_abandoned, cluster::Cluster, converge::Engine, kinds::Kind, watch::Scope};
use crate::{
    Fault, Key,
    apply::Mark,
    inventory::{Entry, Id},
};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{GroupVersionKind, PartialObjectMeta},
    discovery::ApiResource,
};
use serde_json::json;
use std::{collections::HashSet, fmt};

/// Enough to tell what is in the way.
const PAGE: u32 = 20;
/// Names in a message.
const LISTED: usize = 10;

impl Id {
    /// Whether it is a definition of a kind.
    pub fn is_definition(&self) -> bool {
        self.group == "apiextensions.k8s.io" && self.kind == "CustomResourceDefinition"
    }
}

/// What is ours on the clusters of an owner.
pub struct Ours<'a> {
    mark: &'a Mark,
    uids: HashSet<&'a str>,
    entries: Vec<&'a Entry>,
}

impl<'a> Ours<'a> {
    /// What is recorded.
    pub fn new(mark: &'a Mark, entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        Self {
            mark,
            uids: entries.clone().filter_map(|entry| entry.uid.as_deref()).collect(),
            entries: entries.collect(),
        }
    }

    /// `manager` is ours.
    fn has(
        &self,
        manager: &str,
        cluster: &str,
        kind: &Kind,
        item: &PartialObjectMeta<DynamicObject>,
    ) -> bool {
        if item.uid().is_some_and(|uid| self.uids.contains(uid.as_str())) {
            return true;
        }
        let namespace = item.namespace().unwrap_or_default();
        let mut recorded = self.entries.iter().filter(|Entry { id, .. }| {
            id.cluster == cluster
                && (&id.group, &id.kind) == (&kind.resource.group, &kind.resource.kind)
                && (id.namespace == namespace && id.name == item.name_any())
        });
        // Under another UID than is recorded: made anew by us, if we applied it.
        bears(item, self.mark) && recorded.any(|entry| entry.uid.is_none() || has_applied(item, manager))
    }
}

/// Objects of others: some of them in words, in order.
///
/// Who makes and removes such objects all the time does not change the words with each of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Others {
    named: Vec<String>,
    /// There are more than these.
    more: bool,
}

impl Others {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Those of several definitions together.
    pub fn add(&mut self, others: Self) {
        self.named.extend(others.named);
        self.named.sort_unstable();
        self.more |= others.more;
    }
}

impl fmt::Display for Others {
    /// The first few, and how many more as far as was counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.named.len().min(LISTED);
        f.write_str(&self.named[..shown].join(", "))?;
        match (self.named.len() - shown, self.more) {
            (0, false) => Ok(()),
            (0, true) => f.write_str(" and more"),
            (rest, false) => write!(f, " and {rest} more"),
            (rest, true) => write!(f, " and more than {rest} more"),
        }
    }
}

fn bears<K: ResourceExt>(object: &K, mark: &Mark) -> bool {
    object.labels().get(mark.label) == Some(&mark.value)
}

fn has_applied<K: ResourceExt>(object: &K, manager: &str) -> bool {
    let mut applied = object.managed_fields().iter().filter(|entry| {
        entry.operation.as_deref() == Some("Apply") && entry.subresource.as_deref().is_none_or(str::is_empty)
    });
    applied.any(|entry| entry.manager.as_deref() == Some(manager))
}

impl Engine {
    /// The objects of others that would go with the definition of an entry. `key` is woken when one comes or goes, until
    /// its shares in watches are given back.
    pub async fn others_of(
        &self,
        key: &Key,
        cluster: &Cluster,
        definition: &Entry,
        ours: &Ours<'_>,
    ) -> Result<Others, Fault> {
        let Some(stays) = staying(cluster, ours.mark, definition).await? else {
            return Ok(Others::default());
        };
        let kind = kind_of(&stays).ok_or_else(|| not_served(definition))?;
        let lease = self.lease(key, cluster, &kind, Scope::All);
        // An error of the watch shows in the list below, too.
        let _ = lease.synced();
        let place = (definition.id.cluster.as_str(), &kind);
        if let Some(others) = list(cluster, place, self.manager(), ours).await? {
            return Ok(others);
        }
        // Its definition went meanwhile, or it is only not served at the moment, or a proxy says so.
        match staying(cluster, ours.mark, definition).await? {
            None => Ok(Others::default()),
            Some(_) => Err(not_served(definition)),
        }
    }

    /// Takes the finalizers off the objects of a definition that is being deleted. Returns what was done.
    pub async fn strip_others_of(
        &self,
        cluster: &Cluster,
        mark: &Mark,
        definition: &Entry,
        now: Timestamp,
    ) -> Result<Vec<String>, Fault> {
        let live = live(cluster, mark, definition).await?;
        let going = live.filter(|it| it.metadata.deletion_timestamp.is_some());
        match going.and_then(|it| kind_of(&it)) {
            Some(kind) => strip(cluster, &kind, now).await,
            None => Ok(Vec::new()),
        }
    }
}

/// The definition that an entry is about, if it is still ours and not going already: then it takes its objects with it.
async fn staying(
    cluster: &Cluster,
    mark: &Mark,
    entry: &Entry,
) -> Result<Option<CustomResourceDefinition>, Fault> {
    let live = live(cluster, mark, entry).await?;
    Ok(live.filter(|it| it.metadata.deletion_timestamp.is_none()))
}

/// That nobody can look is not that there is nothing.
fn not_served(definition: &Entry) -> Fault {
    let message = format!(
        "{}: no version of it is served at the moment, so that it cannot be seen whether there are objects of others \
         that would go with it; it stays until one is",
        definition.id
    );
    Fault::retry("NotServed", message)
}

/// The definition that an entry is about, if it is still ours.
async fn live(
    cluster: &Cluster,
    mark: &Mark,
    entry: &Entry,
) -> Result<Option<CustomResourceDefinition>, Fault> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let doing = || format!("read CustomResourceDefinition {}", entry.id.name);
    let found = api
        .get_opt(&entry.id.name)
        .await
        .map_err(|error| Fault::api(doing(), &error))?;
    let recorded = |found: &CustomResourceDefinition| entry.uid.is_some() && found.uid() == entry.uid;
    Ok(found.filter(|found| recorded(found) || bears(found, mark)))
}

/// How its kind is served, if it is.
fn kind_of(definition: &CustomResourceDefinition) -> Option<Kind> {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|version| version.served)?;
    let gvk = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
    Some(Kind {
        resource: ApiResource::from_gvk_with_plural(&gvk, &spec.names.plural),
        namespaced: spec.scope == "Namespaced",
    })
}

/// Pages are read until one shows something of others. `None`: the API server does not know the kind.
async fn list(
    cluster: &Cluster,
    (name, kind): (&str, &Kind),
    manager: &str,
    ours: &Ours<'_>,
) -> Result<Option<Others>, Fault> {
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &kind.resource);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match api.list_metadata(&page).await {
            Ok(listed) => listed,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(Fault::api(format_args!("list {}", kind.resource.plural), &error)),
        };
        let theirs = listed
            .items
            .iter()
            .filter(|item| !ours.has(manager, name, kind, item));
        let mut named: Vec<String> = theirs.map(|item| words(kind, item)).collect();
        named.sort_unstable();
        match listed.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) if named.is_empty() => page = page.continue_token(&next),
            next => {
                let more = next.is_some();
                return Ok(Some(Others { named, more }));
            }
        }
    }
}

fn words(kind: &Kind, item: &PartialObjectMeta<DynamicObject>) -> String {
    match item.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", kind.resource.kind, item.name_any()),
        None => format!("{} {}", kind.resource.kind, item.name_any()),
    }
}

async fn strip(cluster: &Cluster, kind: &Kind, now: Timestamp) -> Result<Vec<String>, Fault> {
    let all: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &kind.resource);
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
            Some(namespace) => Api::namespaced_with(cluster.client.clone(), &namespace, &kind.resource),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_named_and_how_many_more_there_are_as_far_as_was_counted() {
        let others = |count: u32, more| {
            let named = (0..count).map(|n| n.to_string()).collect();
            Others { named, more }.to_string()
        };
        assert_eq!(others(2, false), "0, 1");
        assert_eq!(others(2, true), "0, 1 and more");
        assert_eq!(others(12, false), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
        assert_eq!(
            others(12, true),
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and more than 2 more"
        );
    }
}
