//! What exists on a cluster, so that what a service left behind can be told.
use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};
use std::collections::BTreeSet;

/// Kinds that come and go by themselves.
const RESTLESS: [&str; 2] = ["Event", "Lease"];

/// Every object of every kind that the cluster serves, as "Kind namespace/name".
pub async fn everything(client: &Client) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let served = Discovery::new(client.clone()).run().await?;
    for (resource, capabilities) in served.groups().flat_map(|group| group.recommended_resources()) {
        if !capabilities.supports_operation(verbs::LIST) || RESTLESS.contains(&resource.kind.as_str()) {
            continue;
        }
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let listed = match api.list_metadata(&ListParams::default()).await {
            // Its definition went since the discovery, and its objects with it.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            listed => listed.with_context(|| format!("listing {}", resource.plural))?,
        };
        found.extend(listed.items.into_iter().map(|object| {
            let namespace = object.metadata.namespace.unwrap_or_default();
            let name = object.metadata.name.unwrap_or_default();
            format!("{} {namespace}/{name}", resource.kind)
        }));
    }
    Ok(found)
}
