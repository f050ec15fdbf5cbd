//! The Secrets and ConfigMaps that the node's pods refer to: one watch by name an object, shared by all who use it.
//!
//! By name, because that is all that a node's identity may read. A watch ends with its last user.
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, runtime::watcher};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::watch, task::AbortHandle};

/// The first pause after a failed watch. Short: right after a pod is bound, the authorizer may not know it yet.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ObjectKind {
    Secret,
    ConfigMap,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectKey {
    pub(super) kind: ObjectKind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Secret => "Secret",
            ObjectKind::ConfigMap => "ConfigMap",
        };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// An object's data, binary and text alike.
pub(super) type Data = Arc<BTreeMap<String, Vec<u8>>>;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Observed {
    /// The first answer has not come yet.
    Unknown,
    /// The API server does not let the node see it; its words.
    Refused(String),
    Absent,
    Present(Data),
}

/// All watches of the node.
pub(super) struct Objects {
    client: Client,
    shared: Mutex<HashMap<ObjectKey, Weak<Shared>>>,
}

struct Shared {
    latest: watch::Receiver<Observed>,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one pod refers to. Dropping it gives the watches back.
#[derive(Clone, Default)]
pub(super) struct Subscriptions {
    entries: BTreeMap<ObjectKey, (Arc<Shared>, watch::Receiver<Observed>)>,
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            shared: Mutex::default(),
        }
    }

    /// Watches these objects, or shares the watches that exist.
    pub(super) fn subscribe(&self, keys: BTreeSet<ObjectKey>) -> Subscriptions {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, entry| entry.strong_count() > 0);
        let entries = keys
            .into_iter()
            .map(|key| {
                let entry = shared.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                    let entry = Arc::new(self.watch(&key));
                    shared.insert(key.clone(), Arc::downgrade(&entry));
                    entry
                });
                let latest = entry.latest.clone();
                (key, (entry, latest))
            })
            .collect();
        Subscriptions { entries }
    }

    fn watch(&self, key: &ObjectKey) -> Shared {
        let (sender, latest) = watch::channel(Observed::Unknown);
        let (client, key) = (self.client.clone(), key.clone());
        let task = tokio::spawn(async move {
            match key.kind {
                ObjectKind::Secret => {
                    let api = Api::<Secret>::namespaced(client, &key.namespace);
                    follow(watcher::watch_object(api, &key.name), secret_data, &key, &sender).await;
                }
                ObjectKind::ConfigMap => {
                    let api = Api::<ConfigMap>::namespaced(client, &key.namespace);
                    follow(
                        watcher::watch_object(api, &key.name),
                        config_map_data,
                        &key,
                        &sender,
                    )
                    .await;
                }
            }
        });
        Shared {
            latest,
            task: task.abort_handle(),
        }
    }
}

impl Subscriptions {
    /// What is known now. An object that was not asked for is unknown.
    pub(super) fn get(&self, key: &ObjectKey) -> Observed {
        self.entries
            .get(key)
            .map_or(Observed::Unknown, |(_, latest)| latest.borrow().clone())
    }

    /// Waits until something is known of each object.
    pub(super) async fn known(&self) {
        for (_, latest) in self.entries.values() {
            let mut latest = latest.clone();
            let _ = latest.wait_for(|observed| *observed != Observed::Unknown).await;
        }
    }

    /// Waits until one of the objects is not what it was when this was last called (or the pod subscribed).
    pub(super) async fn changed(&mut self) {
        if self.entries.is_empty() {
            return std::future::pending().await;
        }
        let changes = self
            .entries
            .values_mut()
            .map(|(_, latest)| Box::pin(latest.changed()));
        let _ = futures::future::select_all(changes).await;
    }
}

async fn follow<K>(
    stream: impl Stream<Item = watcher::Result<Option<K>>>,
    data: fn(K) -> Data,
    key: &ObjectKey,
    sender: &watch::Sender<Observed>,
) {
    let mut stream = std::pin::pin!(stream);
    let mut pause = FIRST_PAUSE;
    while let Some(event) = stream.next().await {
        let observed = match event {
            Ok(Some(object)) => Observed::Present(data(object)),
            Ok(None) => Observed::Absent,
            Err(error) => {
                tracing::debug!(%key, %error, "watch interrupted");
                refuse(sender, &error, pause);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        sender.send_if_modified(|latest| {
            let different = *latest != observed;
            *latest = observed;
            different
        });
    }
}

/// Says that an object is out of reach – but what was once seen stays, and the first moments do not count.
fn refuse(sender: &watch::Sender<Observed>, error: &watcher::Error, pause: Duration) {
    if pause < Duration::from_millis(500) {
        return;
    }
    sender.send_if_modified(|latest| {
        if matches!(latest, Observed::Present(_) | Observed::Refused(_)) {
            return false;
        }
        *latest = Observed::Refused(error.to_string());
        true
    });
}

fn secret_data(secret: Secret) -> Data {
    let data = secret.data.unwrap_or_default();
    Arc::new(data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
}

fn config_map_data(map: ConfigMap) -> Data {
    let text = map.data.unwrap_or_default().into_iter();
    let binary = map.binary_data.unwrap_or_default().into_iter();
    Arc::new(
        text.map(|(key, value)| (key, value.into_bytes()))
            .chain(binary.map(|(key, bytes)| (key, bytes.0)))
            .collect(),
    )
}
