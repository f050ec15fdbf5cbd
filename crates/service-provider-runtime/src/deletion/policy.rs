//! What a platform owner may want instead of the usual deletion, said on the Inventory, which tenants cannot reach; and
//! the receipt that is left of it.
//!
//! | policy | the tenant's objects of the service's kinds | what the provider made | out of reach |
//! |---|---|---|---|
//! | `Delete` | block the deletion | deleted | waited for |
//! | `Orphan` | stay | stays, without our marks | waited for |
//! | `Force` | go with their definitions, finalizers stripped | deleted, finalizers stripped | left, and said so |
//!
//! The receipt is a copy of the Inventory in the provider's namespace: it lists what was there, the policy, who asked
//! for it, and what was done to whom. Nothing removes it.
use super::Stop;
use crate::{access::Owner, provider::ServiceProvider, world::World};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use openmcp_api::{
    Inventory,
    keys::{annotations, labels},
};
use openmcp_reconcile::Fault;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Delete,
    Orphan,
    Force,
}

impl Policy {
    /// What the Inventory says.
    pub(super) fn of(inventory: &Inventory) -> Result<Self, Stop> {
        let asked = inventory.annotations().get(annotations::DELETION_POLICY);
        match asked.map_or("Delete", String::as_str) {
            "Delete" => Ok(Self::Delete),
            "Orphan" => Ok(Self::Orphan),
            "Force" => Ok(Self::Force),
            other => Err(Stop::stuck(
                "InvalidDeletionPolicy",
                format!(
                    "annotation {} of Inventory {}/{} is {other:?}: it must be Delete, Orphan or Force",
                    annotations::DELETION_POLICY,
                    inventory.namespace().unwrap_or_default(),
                    inventory.name_any(),
                ),
            )),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Orphan => "Orphan",
            Self::Force => "Force",
        }
    }
}

/// What is left of a deletion that was not the usual one.
pub(super) struct Receipt {
    api: Api<Inventory>,
    object: Inventory,
}

impl Receipt {
    /// Written before anything is done; one that is there from an earlier pass goes on.
    pub(super) async fn open<P: ServiceProvider>(
        world: &World<P>,
        owner: &Owner<'_>,
        of: &Inventory,
        policy: Policy,
    ) -> Result<Self, Fault> {
        let client = world.requests.client.clone();
        let api: Api<Inventory> = Api::namespaced(client.clone(), &world.names.home);
        let name = format!("receipt-{}", of.spec.owner.uid);
        let doing = || format!("write receipt Inventory {}/{name}", world.names.home);
        let found = api
            .get_opt(&name)
            .await
            .map_err(|error| Fault::api(doing(), &error))?;
        if let Some(object) = found {
            return Ok(Self { api, object });
        }
        let by = asked_by(client, &owner.namespace, &of.name_any()).await?;
        let receipt = Inventory {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(world.names.home.clone()),
                labels: Some([(labels::RUNTIME_RECEIPT.to_owned(), policy.as_str().to_owned())].into()),
                annotations: Some([(annotations::RECEIPT_ASKED_BY.to_owned(), by.clone())].into()),
                ..ObjectMeta::default()
            },
            spec: of.spec.clone(),
        };
        let created = api.create(&PostParams::default(), &receipt).await;
        let object = created.map_err(|error| Fault::api(doing(), &error))?;
        tracing::warn!(
            key = %owner.key, policy = policy.as_str(), asked_by = by, receipt = name,
            "a deletion by a policy of the platform owner"
        );
        Ok(Self { api, object })
    }

    /// Says what was done to whom; each line once.
    pub(super) async fn note(&mut self, lines: &[String]) -> Result<(), Fault> {
        let held = self.object.annotations().get(annotations::RECEIPT_NOTES);
        let mut notes: Vec<&str> = held.map(|held| held.lines().collect()).unwrap_or_default();
        let before = notes.len();
        for line in lines {
            if !notes.contains(&line.as_str()) {
                notes.push(line);
            }
        }
        if notes.len() == before {
            return Ok(());
        }
        let notes = notes.join("\n");
        let mut next = self.object.clone();
        next.annotations_mut()
            .insert(annotations::RECEIPT_NOTES.to_owned(), notes);
        let name = next.name_any();
        let written = self.api.replace(&name, &PostParams::default(), &next).await;
        self.object =
            written.map_err(|error| Fault::api(format_args!("write receipt Inventory {name}"), &error))?;
        Ok(())
    }
}

/// The field managers that own the annotation.
async fn asked_by(client: kube::Client, namespace: &str, name: &str) -> Result<String, Fault> {
    let api: Api<Inventory> = Api::namespaced(client, namespace);
    let found = api.get_opt(name).await;
    let found =
        found.map_err(|error| Fault::api(format_args!("read Inventory {namespace}/{name}"), &error))?;
    let field = format!("f:{}", annotations::DELETION_POLICY);
    let entries = found
        .and_then(|found| found.metadata.managed_fields)
        .unwrap_or_default();
    let owners: Vec<String> = entries
        .into_iter()
        .filter(|entry| {
            let fields = entry
                .fields_v1
                .as_ref()
                .map(|fields| &fields.0["f:metadata"]["f:annotations"]);
            fields.is_some_and(|fields| fields.get(&field).is_some())
        })
        .filter_map(|entry| entry.manager)
        .collect();
    Ok(match owners.is_empty() {
        true => "unknown".to_owned(),
        false => owners.join(", "),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn saying(policy: Option<&str>) -> Inventory {
        let mut inventory = Inventory::new("inv", Default::default());
        if let Some(policy) = policy {
            inventory
                .annotations_mut()
                .insert(annotations::DELETION_POLICY.to_owned(), policy.to_owned());
        }
        inventory
    }

    #[test]
    fn an_inventory_without_a_word_is_deleted_as_usual() {
        assert_eq!(Policy::of(&saying(None)).unwrap(), Policy::Delete);
        assert_eq!(Policy::of(&saying(Some("Orphan"))).unwrap(), Policy::Orphan);
        assert_eq!(Policy::of(&saying(Some("Force"))).unwrap(), Policy::Force);
    }

    #[test]
    fn a_policy_that_is_none_stops_the_deletion_and_is_named() {
        let stop = Policy::of(&saying(Some("force"))).unwrap_err();
        assert_eq!(stop.reason(), "InvalidDeletionPolicy");
        assert!(
            stop.message().contains("\"force\"") && stop.message().contains("Orphan"),
            "{}",
            stop.message()
        );
    }
}
