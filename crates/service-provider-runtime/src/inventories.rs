//! The Inventory of each service object, on the platform: read from a watch, written through.
//!
//! This process is the only writer. Each write bears the resourceVersion of what was read, so that a second writer
//! is noticed, and what was written counts until the watch has caught up.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use openmcp_api::{
    Inventory,
    inventory::{DeletionPolicy, Entry as Row, InventorySpec, Owner},
    keys::{finalizers, labels},
};
use openmcp_reconcile::{
    Fault,
    children::Wave,
    digest::Digest,
    inventory::{Entry, Id, Store},
    watch,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// By namespace and name.
type Written = HashMap<(String, String), Option<Arc<Inventory>>>;

/// All Inventories of the provider.
pub(crate) struct Inventories {
    client: kube::Client,
    provider: String,
    seen: watch::Store<Inventory>,
    /// The last own writes; `None` after a conflict: read it from the API server.
    written: Mutex<Written>,
}

impl Inventories {
    pub(crate) fn new(client: kube::Client, provider: String, seen: watch::Store<Inventory>) -> Self {
        Self {
            client,
            provider,
            seen,
            written: Mutex::default(),
        }
    }

    /// Waits for the first complete list.
    pub(crate) async fn synced(&self) {
        self.seen.synced().await;
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self, namespace: &str) -> Api<Inventory> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The Inventory as it is stored.
    pub(crate) async fn load(&self, namespace: &str, name: &str) -> Result<Option<Arc<Inventory>>, Fault> {
        let slot = (namespace.to_owned(), name.to_owned());
        let written = self.written().get(&slot).cloned();
        match written {
            Some(Some(own)) => Ok(Some(newer(own, self.seen.get(namespace, name)))),
            None => Ok(self.seen.get(namespace, name)),
            Some(None) => {
                let doing = format!("read Inventory {namespace}/{name}");
                let found = self.api(namespace).get_opt(name).await;
                let found = found.map_err(|error| Fault::api(doing, &error))?.map(Arc::new);
                match &found {
                    Some(found) => self.written().insert(slot, Some(found.clone())),
                    None => self.written().remove(&slot),
                };
                Ok(found)
            }
        }
    }

    /// Whether `is_it` holds for any service object that has an Inventory, given its namespace on the platform and
    /// its name.
    pub(crate) fn any(&self, is_it: &mut dyn FnMut(&str, &str) -> bool) -> bool {
        self.seen.any(|inventory| {
            let namespace = inventory.metadata.namespace.as_deref().unwrap_or_default();
            is_it(namespace, &inventory.spec.owner.name)
        })
    }

    /// A record of one owner, to be read and written.
    pub(crate) fn record(
        &self,
        namespace: &str,
        name: &str,
        owner: Owner,
        stored: Option<Arc<Inventory>>,
    ) -> Record<'_> {
        Record {
            inventories: self,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            owner,
            stored: Mutex::new(stored),
        }
    }

    /// Removes an Inventory that has no entries left.
    pub(crate) async fn remove(&self, inventory: &Inventory) -> Result<(), Fault> {
        let (namespace, name) = (inventory.namespace().unwrap_or_default(), inventory.name_any());
        let doing = || format!("remove Inventory {namespace}/{name}");
        let api = self.api(&namespace);
        let mut bare = inventory.clone();
        bare.finalizers_mut()
            .retain(|finalizer| finalizer != finalizers::INVENTORY);
        let slot = (namespace.clone(), name.clone());
        self.written().insert(slot.clone(), None);
        if bare.finalizers().len() < inventory.finalizers().len() {
            match api.replace(&name, &PostParams::default(), &bare).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Fault::api(doing(), &error)),
            }
        }
        let precondition = Preconditions {
            uid: inventory.uid(),
            resource_version: None,
        };
        match api
            .delete(&name, &DeleteParams::background().preconditions(precondition))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => return Err(Fault::api(doing(), &error)),
        }
        Ok(())
    }
}

/// What was read or written last. Resource versions are decimal numbers that grow.
fn newer(own: Arc<Inventory>, seen: Option<Arc<Inventory>>) -> Arc<Inventory> {
    let version = |it: &Inventory| it.resource_version().and_then(|it| it.parse::<u64>().ok());
    match seen {
        Some(seen) if version(&seen) > version(&own) => seen,
        _ => own,
    }
}

/// The record of one owner.
pub(crate) struct Record<'a> {
    inventories: &'a Inventories,
    namespace: String,
    name: String,
    owner: Owner,
    stored: Mutex<Option<Arc<Inventory>>>,
}

impl Record<'_> {
    /// The entries as they are stored.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored
            .iter()
            .flat_map(|stored| &stored.spec.entries)
            .filter_map(to_entry)
            .collect()
    }

    /// The Inventory as it is stored.
    pub(crate) fn stored(&self) -> Option<Arc<Inventory>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Record<'_> {
    async fn save(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let rows = entries.iter().map(to_row).collect();
        let api = self.inventories.api(&self.namespace);
        let stored = self.stored();
        let slot = (self.namespace.clone(), self.name.clone());
        let saved = match stored {
            Some(stored) => {
                let mut next = Inventory::clone(&stored);
                next.spec.entries = rows;
                next.metadata.managed_fields = None;
                api.replace(&self.name, &PostParams::default(), &next).await
            }
            None => api.create(&PostParams::default(), &self.new_object(rows)).await,
        };
        match saved {
            Ok(saved) => {
                let saved = Arc::new(saved);
                self.inventories.written().insert(slot, Some(saved.clone()));
                *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
                Ok(())
            }
            Err(error) => {
                // Whatever happened: what is stored now is not known.
                self.inventories.written().insert(slot, None);
                Err(Fault::api(
                    format_args!("write Inventory {}/{}", self.namespace, self.name),
                    &error,
                ))
            }
        }
    }
}

impl Record<'_> {
    fn new_object(&self, entries: Vec<Row>) -> Inventory {
        let spec = InventorySpec {
            owner: self.owner.clone(),
            provider: self.inventories.provider.clone(),
            entries,
        };
        let provider = openmcp_api::names::label_value(&self.inventories.provider);
        Inventory {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                finalizers: Some(vec![finalizers::INVENTORY.to_owned()]),
                labels: Some([(labels::RUNTIME_PROVIDER.to_owned(), provider)].into()),
                ..ObjectMeta::default()
            },
            spec,
        }
    }
}

const WAVES: [Wave; 5] = Wave::ALL;

fn to_entry(row: &Row) -> Option<Entry> {
    let parse = |text: &Option<String>| text.as_deref().and_then(Digest::parse);
    Some(Entry {
        id: Id {
            cluster: row.cluster.clone(),
            group: row.group.clone(),
            kind: row.kind.clone(),
            namespace: row.namespace.clone().unwrap_or_default(),
            name: row.name.clone(),
        },
        version: row.version.clone(),
        uid: row.uid.clone(),
        wave: *WAVES
            .get(usize::try_from(row.wave).ok()?)
            .unwrap_or(&Wave::Config),
        desired: parse(&row.desired_hash),
        live: parse(&row.live_digest),
        orphan: row.policy == DeletionPolicy::Orphan,
    })
}

fn to_row(entry: &Entry) -> Row {
    let wave = WAVES
        .iter()
        .position(|wave| *wave == entry.wave)
        .unwrap_or_default();
    Row {
        cluster: entry.id.cluster.clone(),
        group: entry.id.group.clone(),
        version: entry.version.clone(),
        kind: entry.id.kind.clone(),
        namespace: Some(entry.id.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: entry.id.name.clone(),
        uid: entry.uid.clone(),
        wave: i32::try_from(wave).unwrap_or_default(),
        desired_hash: entry.desired.map(|digest| digest.to_string()),
        live_digest: entry.live.map(|digest| digest.to_string()),
        policy: if entry.orphan {
            DeletionPolicy::Orphan
        } else {
            DeletionPolicy::Delete
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_storage() {
        let row = Row {
            cluster: "mcp/mcp--x/mcp-y".into(),
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            namespace: Some("a".into()),
            name: "kro".into(),
            uid: Some("1".into()),
            wave: 3,
            desired_hash: Some(format!("x1:{:032x}", 7)),
            live_digest: None,
            policy: DeletionPolicy::Orphan,
        };
        assert_eq!(to_entry(&row).map(|entry| to_row(&entry)), Some(row));
    }
}
