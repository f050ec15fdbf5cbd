//! The Inventory of each service object, on the platform: read from a watch, written through.
//!
//! This process is the only writer. Each write bears the resourceVersion of what was read, so that a second writer
//! is noticed, and what was written counts until the watch has caught up.
mod rows;
mod written;

use crate::{
    access::{Identities, Reached, says_the_same},
    archive::{Archive, Unread},
    external::Ledger,
    measures,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::watcher,
};
use openmcp_api::{
    Inventory,
    inventory::{External, InventorySpec, Owner, Value},
    keys::{finalizers, labels},
};
use openmcp_reconcile::{
    Fault,
    inventory::{Entry, Store},
    watch::Change,
};
use rows::{to_entry, to_row};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio_util::sync::CancellationToken;
use written::{Last, Written, catch_up, learn, lock, newer};

/// All Inventories of the provider.
pub(crate) struct Inventories {
    client: kube::Client,
    provider: String,
    /// Identity of the onboarding cluster.
    onboarding: String,
    seen: Archive<Inventory>,
    written: Arc<Mutex<Written>>,
    unknowns: AtomicU64,
}

impl Inventories {
    /// Watches them. `wake` is called with the owner of one that somebody else made, changed or removed.
    pub(crate) fn watch(
        client: kube::Client,
        provider: String,
        onboarding: String,
        config: watcher::Config,
        shutdown: CancellationToken,
        wake: impl Fn(&Owner) + Send + 'static,
    ) -> Self {
        let written = Arc::<Mutex<Written>>::default();
        let shown = written.clone();
        let api = Api::<Inventory>::all(client.clone());
        let seen = Archive::watch(api, config, shutdown, Unread::Nothing, move |change| {
            // One that cannot be read wakes nobody: those who need it are told.
            let Ok(inventory) = change.object().unpack() else {
                return;
            };
            let gone = matches!(change, Change::Deleted { .. });
            catch_up(&mut lock(&shown), &inventory, gone);
            let old = match &change {
                Change::Applied { old: Some(old), .. } => old.unpack().ok(),
                _ => None,
            };
            let count = |of: Option<&Inventory>| {
                of.map_or(0, |it| i64::try_from(it.spec.entries.len()).unwrap_or(i64::MAX))
            };
            measures::inventory_objects(match gone {
                true => -count(Some(&inventory)),
                false => count(Some(&inventory)) - count(old.as_ref()),
            });
            let own = old.is_some_and(|old| {
                // Only people take a value out while its owner lives: for a new one.
                let kept = |row: &Value| inventory.spec.values.iter().any(|it| it.name == row.name);
                says_the_same(&old, &inventory) && old.spec.values.iter().all(kept)
            });
            if !own {
                wake(&inventory.spec.owner);
            }
        });
        Self {
            client,
            provider,
            onboarding,
            seen,
            written,
            unknowns: AtomicU64::new(0),
        }
    }

    /// Waits for the first complete list.
    pub(crate) async fn synced(&self) {
        self.seen.synced().await;
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        lock(&self.written)
    }

    /// A write that may have arrived or not.
    fn unknown(&self) -> Last {
        Last::Unknown(self.unknowns.fetch_add(1, Ordering::Relaxed))
    }

    fn api(&self, namespace: &str) -> Api<Inventory> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The Inventory as it is stored.
    pub(crate) async fn load(&self, namespace: &str, name: &str) -> Result<Option<Arc<Inventory>>, Fault> {
        let slot = (namespace.to_owned(), name.to_owned());
        let seen = || self.seen.get(namespace, name);
        loop {
            let last = self.written().get(&slot).cloned();
            let unknown = match last {
                None => return Ok(seen()?),
                Some(Last::Wrote(own)) => return Ok(Some(newer(own, seen()?))),
                Some(Last::Removed(uid)) => return Ok(seen()?.filter(|seen| seen.uid() != uid)),
                Some(Last::Unknown(number)) => number,
            };
            let doing = format!("read Inventory {namespace}/{name}");
            let found = self.api(namespace).get_opt(name).await;
            let found = found.map_err(|error| Fault::api(doing, &error))?.map(Arc::new);
            if learn(&mut self.written(), &slot, unknown, found.as_ref()) {
                return Ok(found);
            }
        }
    }

    /// Whether `is_it` holds for any service object that has an Inventory, given its namespace on the platform and
    /// its name. One that cannot be read may be anybody's.
    pub(crate) fn any(&self, is_it: &mut dyn FnMut(&str, &str) -> bool) -> bool {
        let places = self.seen.places();
        places
            .iter()
            .any(|(namespace, name)| match self.seen.get(namespace, name) {
                Ok(Some(inventory)) => is_it(namespace, &inventory.spec.owner.name),
                Ok(None) => false,
                Err(_unreadable) => true,
            })
    }

    /// Shows all Inventories as they are stored. An error: not all of them could be seen.
    pub(crate) async fn each(&self, mut look: impl FnMut(&Inventory)) -> Result<(), Fault> {
        let mut places = self.seen.places();
        places.extend(self.written().keys().cloned());
        places.sort_unstable();
        places.dedup();
        for (nth, (namespace, name)) in places.iter().enumerate() {
            if let Some(inventory) = self.load(namespace, name).await? {
                look(&inventory);
            }
            // There may be ten thousand of them, and each is inflated.
            if nth % 50 == 49 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
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
            reached: Mutex::default(),
        }
    }

    /// That a service object is not there means something only on the onboarding cluster that it was on.
    pub(crate) fn admit_onboarding(&self, inventory: &Inventory) -> Result<(), Fault> {
        Identities::of(inventory).admit_onboarding(&self.onboarding)
    }

    /// Removes an Inventory whose objects are all gone.
    pub(crate) async fn remove(&self, inventory: &Inventory) -> Result<(), Fault> {
        let (namespace, name) = (inventory.namespace().unwrap_or_default(), inventory.name_any());
        let doing = || format!("remove Inventory {namespace}/{name}");
        let api = self.api(&namespace);
        let mut bare = inventory.clone();
        bare.spec.entries.clear();
        bare.spec.externals.clear();
        bare.spec.values.clear();
        bare.finalizers_mut()
            .retain(|finalizer| finalizer != finalizers::INVENTORY);
        let slot = (namespace.clone(), name.clone());
        self.written().insert(slot.clone(), self.unknown());
        match api.replace(&name, &PostParams::default(), &bare).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Fault::api(doing(), &error)),
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
        self.written().insert(slot, Last::Removed(inventory.uid()));
        Ok(())
    }
}

/// The record of one owner.
pub(crate) struct Record<'a> {
    inventories: &'a Inventories,
    namespace: String,
    name: String,
    owner: Owner,
    stored: Mutex<Option<Arc<Inventory>>>,
    /// The clusters of this pass, for the next write.
    reached: Mutex<Identities>,
}

/// The entries of an Inventory.
pub(crate) fn entries(stored: &Inventory) -> impl Iterator<Item = Entry> + '_ {
    stored.spec.entries.iter().filter_map(to_entry)
}

impl Record<'_> {
    /// The entries as they are stored.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.iter().flat_map(|stored| entries(stored)).collect()
    }

    /// A cluster was reached: which one it is, is recorded with the next write.
    pub(crate) fn note(&self, reached: &Reached) {
        self.reached().note(reached);
    }

    fn reached(&self) -> MutexGuard<'_, Identities> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API servers that are recorded.
    pub(crate) fn identities(&self) -> Identities {
        self.stored()
            .map(|stored| Identities::of(&stored))
            .unwrap_or_default()
    }

    /// The Inventory as it is stored.
    pub(crate) fn stored(&self) -> Option<Arc<Inventory>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Record<'_> {
    async fn save(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let rows = entries.iter().map(to_row).collect();
        self.write(|spec| spec.entries = rows).await
    }
}

impl Ledger for Record<'_> {
    fn externals(&self) -> Vec<External> {
        self.stored()
            .map(|stored| stored.spec.externals.clone())
            .unwrap_or_default()
    }

    async fn save_externals(&self, externals: Vec<External>) -> Result<(), Fault> {
        self.write(|spec| spec.externals = externals).await
    }
}

impl Record<'_> {
    /// The UID of the service object.
    pub(crate) fn owner_uid(&self) -> &str {
        &self.owner.uid
    }

    /// The generated values.
    pub(crate) fn values(&self) -> Vec<Value> {
        self.stored()
            .map(|stored| stored.spec.values.clone())
            .unwrap_or_default()
    }

    /// Replaces the generated values, if they differ.
    pub(crate) async fn save_values(&self, values: Vec<Value>) -> Result<(), Fault> {
        match self.values() == values {
            true => Ok(()),
            false => self.write(|spec| spec.values = values).await,
        }
    }

    /// Changes what is stored, with the resourceVersion of what was read.
    async fn write(&self, change: impl FnOnce(&mut InventorySpec)) -> Result<(), Fault> {
        let api = self.inventories.api(&self.namespace);
        let stored = self.stored();
        let slot = (self.namespace.clone(), self.name.clone());
        let known = |spec: &InventorySpec| (spec.externals.len(), spec.values.len());
        let mut next = stored.as_deref().cloned().unwrap_or_else(|| self.new_object());
        change(&mut next.spec);
        self.reached().record(&mut next, &self.inventories.onboarding);
        next.metadata.managed_fields = None;
        let saved = match stored {
            Some(_) => api.replace(&self.name, &PostParams::default(), &next).await,
            None => api.create(&PostParams::default(), &next).await,
        };
        match saved {
            Ok(saved) => {
                let saved = Arc::new(saved);
                self.inventories
                    .written()
                    .insert(slot, Last::Wrote(saved.clone()));
                *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved.clone());
                // A definition of an older runtime drops fields without a word, and what they list would be lost.
                match known(&saved.spec) == known(&next.spec) {
                    true => Ok(()),
                    false => Err(Fault::bug(
                        "the Inventory definition is too old: run the provider's init",
                    )),
                }
            }
            Err(error) => {
                // Whatever happened: what is stored now is not known.
                let unknown = self.inventories.unknown();
                self.inventories.written().insert(slot, unknown);
                Err(Fault::api(
                    format_args!("write Inventory {}/{}", self.namespace, self.name),
                    &error,
                ))
            }
        }
    }

    fn new_object(&self) -> Inventory {
        let spec = InventorySpec {
            owner: self.owner.clone(),
            provider: self.inventories.provider.clone(),
            ..InventorySpec::default()
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
