//! What exists on a cluster, so that what a service left behind can be told.
use crate::wait;
use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// What comes and goes by itself: Events, and the Leases of Kubernetes.
fn is_restless(kind: &str, namespace: &str) -> bool {
    kind == "Event" || (kind == "Lease" && namespace.starts_with("kube-"))
}

/// Every object of every kind that the cluster serves, as "Kind namespace/name".
pub async fn everything(client: &Client) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let served = Discovery::new(client.clone()).run().await?;
    for (resource, capabilities) in served.groups().flat_map(|group| group.recommended_resources()) {
        if !capabilities.supports_operation(verbs::LIST) {
            continue;
        }
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let listed = match api.list_metadata(&ListParams::default()).await {
            // Its definition went since the discovery, and its objects with it.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            listed => listed.with_context(|| format!("listing {}", resource.plural))?,
        };
        found.extend(listed.items.into_iter().filter_map(|object| {
            let namespace = object.metadata.namespace.unwrap_or_default();
            let name = object.metadata.name.unwrap_or_default();
            (!is_restless(&resource.kind, &namespace))
                .then(|| format!("{} {namespace}/{name}", resource.kind))
        }));
    }
    Ok(found)
}

/// Waits until there is nothing that is `left_over`: what is owned by a definition is collected after it.
pub async fn none(client: &Client, left_over: impl Fn(&str) -> bool) -> Result<()> {
    let patience = Instant::now() + wait::PATIENCE;
    loop {
        let mut left = everything(client).await?;
        left.retain(|it| left_over(it));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < patience, "left behind: {left:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
