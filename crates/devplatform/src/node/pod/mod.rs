//! The pods of this node: one watch, one worker a pod from its binding to its final DELETE.
mod context;
mod life;
mod publish;
mod refuse;
mod status;
mod worker;

pub(super) use context::PodContext;

use super::{
    Node,
    container::{Board, Logs},
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{
        watcher,
        watcher::{Config, Event},
    },
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A pod as the API server has it now; `None` once it is gone.
pub(super) type PodView = watch::Receiver<Option<Arc<Pod>>>;

/// The pods whose logs can be asked for, by namespace and name.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<(String, String), Arc<Listed>>>);

/// What the log server needs of a pod.
pub(super) struct Listed {
    uid: String,
    pub(super) logs: BTreeMap<String, Arc<Logs>>,
    pub(super) board: Board,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<Listed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Listed>> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, namespace: &str, name: &str, pod: Listed) {
        self.lock()
            .insert((namespace.to_owned(), name.to_owned()), Arc::new(pod));
    }

    fn strike(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut pods = self.lock();
        if pods.get(&key).is_some_and(|pod| pod.uid == uid) {
            pods.remove(&key);
        }
    }
}

/// Serves this node's pods until it is told to stop, then ends them. One worker a UID: a pod that is created anew
/// under the same name is another pod.
pub(super) async fn run(node: Arc<Node>, mut shutdown: watch::Receiver<bool>) {
    let mut pods = Pods {
        node: node.clone(),
        shutdown: shutdown.clone(),
        known: HashMap::new(),
        listed: Vec::new(),
        first: true,
        workers: JoinSet::new(),
        owners: HashMap::new(),
    };
    let selector = format!("spec.nodeName={}", node.config.node_name);
    let api: Api<Pod> = Api::all(node.client.clone());
    let mut events = std::pin::pin!(watcher(api, Config::default().fields(&selector)));
    let mut pause = Duration::from_millis(50);
    loop {
        tokio::select! {
            () = told(&mut shutdown) => break,
            Some(ended) = pods.workers.join_next_with_id() => pods.worker_ended(ended.map(|(id, ())| id)),
            event = events.next() => match event {
                Some(Ok(event)) => {
                    pause = Duration::from_millis(50);
                    pods.handle(event);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch of this node's pods was interrupted");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                None => break,
            },
        }
    }
    while pods.workers.join_next().await.is_some() {}
}

struct Pods {
    node: Arc<Node>,
    shutdown: watch::Receiver<bool>,
    /// By UID; stays until the API server has forgotten the pod, also after its worker has ended.
    known: HashMap<String, watch::Sender<Option<Arc<Pod>>>>,
    /// What a list in progress has brought so far.
    listed: Vec<Pod>,
    first: bool,
    workers: JoinSet<()>,
    owners: HashMap<Id, String>,
}

impl Pods {
    fn handle(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => self.listed.push(pod),
            Event::InitDone => self.replace(),
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => self.gone(&uid(&pod)),
        }
    }

    /// A complete list: what is not in it is gone.
    fn replace(&mut self) {
        let mut listed = std::mem::take(&mut self.listed);
        let uids: HashSet<String> = listed.iter().map(uid).collect();
        if std::mem::replace(&mut self.first, false) {
            self.node.folders.keep_only(&uids);
        }
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        gone.iter().for_each(|uid| self.gone(uid));
        // Pods that had an address first, so that nobody else gets it.
        listed.sort_by_key(|pod| pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()));
        listed.into_iter().for_each(|pod| self.apply(pod));
    }

    fn apply(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let uid = uid(&pod);
        let pod = Arc::new(pod);
        if let Some(sender) = self.known.get(&uid) {
            sender.send_replace(Some(pod));
            return;
        }
        let (sender, view) = watch::channel(Some(pod.clone()));
        self.known.insert(uid.clone(), sender);
        let worker = worker::run(self.node.clone(), pod, view, self.shutdown.clone());
        let handle = self.workers.spawn(worker);
        self.owners.insert(handle.id(), uid);
    }

    fn gone(&mut self, uid: &str) {
        if let Some(sender) = self.known.remove(uid) {
            sender.send_replace(None);
        }
    }

    /// A worker that panicked is a fault of the node; its pod is taken up again at the next list.
    fn worker_ended(&mut self, ended: Result<Id, tokio::task::JoinError>) {
        let id = match &ended {
            Ok(id) => *id,
            Err(error) => error.id(),
        };
        let uid = self.owners.remove(&id);
        if let (Err(error), Some(uid)) = (ended, uid) {
            tracing::error!(%error, %uid, "a pod's worker has failed");
            self.known.remove(&uid);
        }
    }
}

/// Waits until the node is told to end.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
