//! Deleting a Cluster: wait for its users → stop the control plane and see it gone → empty its part of etcd, and
//! nobody else's → remove Secret and address → drop the finalizer. Each step is repeated until it is confirmed.
use super::{
    claim,
    desired::{Owner, server_url},
    reconcile::{Step, owner},
    status::{Record, Report},
};
use crate::{
    access::target::Targets,
    context::Context,
    etcd::{Etcd, Subtree},
    finalizer,
    names::{API_SERVER_PORT, LABEL_CLUSTER, PROFILE_HOSTED},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions, PropagationPolicy},
    core::NamespaceResourceScope,
};
use openmcp_api::{Cluster, common::phase, keys::finalizers::CLUSTER_PROVIDER};
use openmcp_reconcile::{Fault, events::Note};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, net::Ipv4Addr, time::Duration};
use tokio::net::TcpStream;

/// Finalizers that Kubernetes itself puts on what is being deleted: they wait for us, not we for them.
const GARBAGE_COLLECTION: [&str; 2] = ["foregroundDeletion", "orphan"];
/// A process that still listens accepts at once.
const LISTENING: Duration = Duration::from_millis(500);

pub(super) async fn delete(cx: &Context, targets: &Targets, cluster: &Cluster) -> Result<Step, Fault> {
    if !finalizer::is_set(cluster) {
        return Ok(Step::Done);
    }
    let foreign = foreign_finalizers(cluster);
    if !foreign.is_empty() {
        let message = format!(
            "still in use: waiting until these finalizers are gone: {}",
            foreign.join(", ")
        );
        return Ok(Step::report(Report::not_ready(
            phase::TERMINATING,
            "InUse",
            message,
            Record::of(cluster),
        )));
    }
    if cluster.spec.profile == PROFILE_HOSTED {
        let record = Record::of(cluster);
        let Some(address) = record.address else {
            // It is recorded before anything is made: without it there is at most its claim.
            claim::release(&cx.client, &cx.namespace, &owner(cluster), None).await?;
            return drop_finalizer(cx, cluster).await;
        };
        targets.forget(&cluster.uid().unwrap_or_default());
        if let Some(waiting) = dismantle(cx, cluster, address).await? {
            return Ok(Step::report(Report::not_ready(
                phase::TERMINATING,
                "Dismantling",
                waiting,
                record,
            )));
        }
    }
    drop_finalizer(cx, cluster).await
}

async fn drop_finalizer(cx: &Context, cluster: &Cluster) -> Result<Step, Fault> {
    let api: Api<Cluster> = Api::namespaced(cx.client.clone(), &cluster.namespace().unwrap_or_default());
    finalizer::remove(&api, cluster).await?;
    Ok(Step::Done)
}

/// Who still uses the Cluster.
pub(crate) fn foreign_finalizers(cluster: &Cluster) -> Vec<&str> {
    let ours = |it: &str| it == CLUSTER_PROVIDER || GARBAGE_COLLECTION.contains(&it);
    cluster
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|it| !ours(it))
        .collect()
}

/// Removes everything that was made for a hosted Cluster; `Some` says what is waited for.
async fn dismantle(cx: &Context, cluster: &Cluster, address: Ipv4Addr) -> Result<Option<String>, Fault> {
    let owner = owner(cluster);
    // Foreground: the Deployment is gone only after its ReplicaSets, and those only after their pods.
    if let Some(waiting) = remove::<Deployment>(cx, &owner, PropagationPolicy::Foreground).await? {
        return Ok(Some(waiting));
    }
    // Left over where somebody deleted the Deployment without its dependents.
    if let Some(waiting) = remove::<ReplicaSet>(cx, &owner, PropagationPolicy::Foreground).await? {
        return Err(Fault::retry("Dismantling", waiting));
    }
    if let Some(waiting) = remove::<Pod>(cx, &owner, PropagationPolicy::Background).await? {
        return Err(Fault::retry("Dismantling", waiting));
    }
    if listens(address).await {
        let message = format!(
            "a process still listens at {}: its etcd data is kept until it has ended",
            server_url(address)
        );
        return Err(Fault::retry("ApiServerStillRuns", message));
    }
    let access = match cx.etcd_access() {
        Ok(access) => access,
        Err(missing) => return Ok(Some(format!("the data in etcd cannot be deleted: {missing}"))),
    };
    let etcd = Etcd::new(&access).map_err(|error| Fault::retry("EtcdAccessInvalid", error.to_string()))?;
    let emptied = etcd
        .empty(&Subtree::below(&owner.etcd_prefix()))
        .await
        .map_err(|error| {
            Fault::retry(
                "EtcdNotEmptied",
                format!("delete {} in etcd: {error}", owner.etcd_prefix()),
            )
        })?;
    if emptied.left > 0 {
        let message = format!(
            "{} keys below {} in etcd were written again after their deletion",
            emptied.left,
            owner.etcd_prefix()
        );
        return Err(Fault::retry("EtcdNotEmptied", message));
    }
    if let Some(waiting) = remove::<Secret>(cx, &owner, PropagationPolicy::Background).await? {
        return Err(Fault::retry("Dismantling", waiting));
    }
    claim::release(&cx.client, &cx.namespace, &owner, Some(address)).await?;
    tracing::info!(
        cluster = owner.name,
        keys = emptied.deleted,
        "removed the hosted control plane and its data"
    );
    let note = format!("the control plane and {} keys in etcd are gone", emptied.deleted);
    cx.recorder.publish(
        cluster.object_ref(&()),
        Note {
            warning: false,
            reason: "Dismantled",
            action: "Delete",
            note,
        },
    );
    Ok(None)
}

/// Deletes the kind's objects that are the Cluster's. `Some` names those that still exist. Asks the API server, not a
/// store: absence must be certain here.
async fn remove<K>(cx: &Context, owner: &Owner, policy: PropagationPolicy) -> Result<Option<String>, Fault>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&());
    let api: Api<K> = Api::namespaced(cx.client.clone(), &owner.namespace);
    let live = find(&api, owner).await?;
    for object in live
        .iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
    {
        let params = DeleteParams {
            propagation_policy: Some(policy.clone()),
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&object.name_any(), &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Fault::api(format!("delete {kind} {}", object.name_any()), &error)),
        }
    }
    if live.is_empty() {
        return Ok(None);
    }
    // What has neither finalizers nor dependents is gone by now.
    let left = find(&api, owner).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
    let waiting = format!(
        "waiting until {kind} {} in namespace {} is gone",
        names.join(", "),
        owner.namespace
    );
    if left
        .iter()
        .all(|object| object.labels().contains_key(LABEL_CLUSTER))
    {
        return Ok(Some(waiting));
    }
    // Without the mark no watch tells when it is gone.
    Err(Fault::retry("Dismantling", waiting))
}

/// The kind's objects that bear the Cluster's mark, or the name of its control plane and its owner reference.
async fn find<K>(api: &Api<K>, owner: &Owner) -> Result<Vec<PartialObjectMeta<K>>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let failed = |error: &kube::Error| {
        Fault::api(
            format!("look for {} of Cluster {}", K::kind(&()), owner.name),
            error,
        )
    };
    let marked = ListParams::default().labels(&format!("{LABEL_CLUSTER}={}", owner.uid));
    let mut found = api
        .list_metadata(&marked)
        .await
        .map_err(|error| failed(&error))?
        .items;
    let name = owner.control_plane();
    if !found.iter().any(|object| object.name_any() == name) {
        let named = api
            .get_metadata_opt(&name)
            .await
            .map_err(|error| failed(&error))?;
        found.extend(named.filter(|it| {
            it.owner_references()
                .iter()
                .any(|reference| reference.uid == owner.uid)
        }));
    }
    Ok(found)
}

async fn listens(address: Ipv4Addr) -> bool {
    matches!(
        tokio::time::timeout(LISTENING, TcpStream::connect((address, API_SERVER_PORT))).await,
        Ok(Ok(_))
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_finalizer_but_ours_and_the_garbage_collectors_keeps_a_cluster() {
        let cluster: Cluster = serde_json::from_value(json!({
            "metadata": {"name": "c", "finalizers": [CLUSTER_PROVIDER, "foregroundDeletion", "request.clusters.openmcp.cloud/u"]},
            "spec": {"profile": "hosted", "purposes": ["mcp"], "tenancy": "Exclusive"},
        }))
        .unwrap();
        assert_eq!(foreign_finalizers(&cluster), ["request.clusters.openmcp.cloud/u"]);
    }
}
