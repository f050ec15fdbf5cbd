//! What exists on a cluster, so that what a service left behind can be told.
use crate::wait;
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};
use std::{collections::BTreeSet, time::Duration};

/// Kinds that are listed at once.
const AT_ONCE: usize = 8;

/// What comes and goes by itself: Events, and the Leases of Kubernetes.
fn is_restless(kind: &str, namespace: &str) -> bool {
    kind == "Event" || (kind == "Lease" && namespace.starts_with("kube-"))
}

/// Every object of every kind that the cluster serves, as "Kind namespace/name".
pub async fn everything(client: &Client) -> Result<BTreeSet<String>> {
    tokio::time::timeout(wait::PATIENCE, look(client))
        .await
        .context("the cluster does not list what it has")?
}

async fn look(client: &Client) -> Result<BTreeSet<String>> {
    // All groups in one answer: of one that goes meanwhile, a question of its own would be an error.
    let served = Discovery::new(client.clone()).run_aggregated().await?;
    let kinds = served.groups().flat_map(|group| group.recommended_resources());
    let listable = kinds.filter(|(_, capabilities)| capabilities.supports_operation(verbs::LIST));
    let lists = listable.map(|(resource, _)| list(client, resource));
    let found: Vec<_> = stream::iter(lists)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn list(client: &Client, resource: ApiResource) -> Result<Vec<String>> {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let listed = match api.list_metadata(&ListParams::default()).await {
        // Its definition went since the discovery, and its objects with it.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("listing {}", resource.plural))?,
    };
    let names = listed.items.into_iter().filter_map(|object| {
        let namespace = object.metadata.namespace.unwrap_or_default();
        let name = object.metadata.name.unwrap_or_default();
        (!is_restless(&resource.kind, &namespace)).then(|| format!("{} {namespace}/{name}", resource.kind))
    });
    Ok(names.collect())
}

/// Waits until there is nothing that is `left_over`: what is owned by a definition is collected after it.
pub async fn none(client: &Client, left_over: impl Fn(&str) -> bool) -> Result<()> {
    let mut last = Ok(BTreeSet::new());
    let looks = async {
        loop {
            last = look(client).await.map(|mut left| {
                left.retain(|it| left_over(it));
                left
            });
            if last.as_ref().is_ok_and(BTreeSet::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(wait::PATIENCE, looks).await.is_ok() {
        return Ok(());
    }
    match last {
        Ok(left) => bail!("left behind after {} s: {left:?}", wait::PATIENCE.as_secs()),
        Err(error) => Err(error.context("what is left behind cannot be seen")),
    }
}
