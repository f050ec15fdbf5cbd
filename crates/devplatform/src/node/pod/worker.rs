//! One pod, from its binding to its final DELETE.
//!
//! 1. A pod that cannot be run here fails at once ([`refuse`](super::refuse)).
//! 2. It gets an address, folders and volumes; its init containers run one after the other, then its containers.
//! 3. Every change on the board becomes a status.
//! 4. A deletion stops the containers; when none runs any more the last status is written and the pod is deleted, with
//!    grace 0 and its UID as precondition. Finalizers are other people's business.
use super::{
    Listed, PodContext, PodView,
    life::Life,
    publish::{Publisher, replaced},
    refuse,
    status::{Failure, Inputs, compute},
    told,
};
use crate::node::{
    Node, call,
    container::{Board, Logs, Statuses, StopAt, grace},
    content::{Keeper, references},
    events::Subject,
    folders::PodFolders,
};
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use std::{collections::BTreeMap, io, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// How long containers may take when the node itself is told to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How long the containers of a pod that has vanished (a forced deletion) may take.
const VANISHED_GRACE: Duration = Duration::from_secs(1);

/// Serves one pod until the API server has let go of it, or the node is told to end.
pub(super) async fn run(node: Arc<Node>, pod: Arc<Pod>, view: PodView, shutdown: watch::Receiver<bool>) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let folders = match node.folders.pod(&uid) {
        Ok(folders) => folders,
        Err(error) => {
            tracing::error!(%error, uid, "cannot make a pod's folders");
            return fail(&node, &pod, "NoDiskSpace", error.to_string()).await;
        }
    };
    let mut worker = Worker {
        board: Board::of(&pod),
        publisher: Publisher::start(&node, &pod),
        before: pod.status.clone(),
        failure: None,
        over: false,
        address: None,
        logs: BTreeMap::new(),
        node,
        pod,
        view,
        shutdown,
        folders,
    };
    if let Err(error) = worker.list() {
        tracing::warn!(%error, uid, "a pod's logs cannot be kept");
    }
    worker.serve().await;
}

struct Worker {
    node: Arc<Node>,
    /// The pod as it was last seen.
    pod: Arc<Pod>,
    view: PodView,
    shutdown: watch::Receiver<bool>,
    folders: PodFolders,
    board: Board,
    publisher: Publisher,
    /// The status that transition times refer to.
    before: Option<PodStatus>,
    failure: Option<Failure>,
    over: bool,
    address: Option<Ipv4Addr>,
    logs: BTreeMap<String, Arc<Logs>>,
}

/// Why the containers are being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All have ended, or the pod is being deleted.
    Over,
    ShutDown,
}

impl Worker {
    async fn serve(mut self) {
        let phase = self.before.as_ref().and_then(|status| status.phase.as_deref());
        let ended_before = matches!(phase, Some("Succeeded" | "Failed"));
        if !ended_before && self.live().await == Outcome::ShutDown {
            return;
        }
        let view = self.view.clone();
        let (node, pod, folders) = (self.node.clone(), self.pod.clone(), self.folders.clone());
        let mut shutdown = self.shutdown.clone();
        let buried = async {
            self.publisher.flush().await;
            bury(&node, &pod, view).await;
        };
        tokio::select! {
            () = buried => {}
            () = told(&mut shutdown) => return,
        }
        folders.remove();
        let (namespace, name, uid) = names(&pod);
        node.registry.strike(namespace, name, uid);
    }

    /// Runs the pod's containers. On return none runs any more.
    async fn live(&mut self) -> Outcome {
        if let Some(message) = refuse::unsupported(&self.pod) {
            return self.refuse(refuse::REASON, message);
        }
        let recorded = self
            .before
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref()?.parse().ok());
        let node = self.node.clone();
        let Some(lease) = node.addresses.lease(recorded) else {
            let message = format!("all addresses of {} are in use", node.config.pod_cidr);
            return self.refuse("OutOfAddresses", message);
        };
        self.address = Some(lease.address);
        let context = match PodContext::open(node, &self.pod, lease.address, self.folders.clone()) {
            Ok(context) => Arc::new(context),
            Err(error) => return self.refuse("NoDiskSpace", error.to_string()),
        };
        let (stop, stop_at) = watch::channel(None);
        self.watch_deletion(&stop);
        self.publish();
        let outcome = self.conduct(context, &stop, stop_at).await;
        if outcome == Outcome::Over {
            self.over = true;
            self.board.finish();
            self.publish();
        }
        outcome
    }

    /// Lets the containers live, and turns what happens outside into a time to stop.
    async fn conduct(
        &mut self,
        context: Arc<PodContext>,
        stop: &watch::Sender<Option<Instant>>,
        stop_at: StopAt,
    ) -> Outcome {
        let objects = self.node.objects.subscribe(references(&self.pod));
        let (ready, volumes) = watch::channel(None);
        let keeper = Keeper {
            node: self.node.clone(),
            pod: self.view.clone(),
            pod_ip: context.address,
            folders: self.folders.clone(),
            objects: objects.clone(),
            ready,
        };
        let life = Life {
            context,
            view: self.view.clone(),
            board: self.board.clone(),
            objects,
            logs: self.logs.clone(),
            volumes,
            stop: stop_at,
        };
        let mut board = self.board.subscribe();
        let mut shutdown = self.shutdown.clone();
        let mut outcome = Outcome::Over;
        let mut keeper = std::pin::pin!(keeper.run());
        let mut life = std::pin::pin!(life.run());
        let mut deadline = std::pin::pin!(after(time_left(&self.pod, self.before.as_ref())));
        loop {
            tokio::select! {
                () = &mut life => return outcome,
                () = &mut keeper => {}
                Ok(()) = board.changed() => {
                    board.borrow_and_update();
                    self.publish();
                }
                Ok(()) = self.view.changed() => {
                    self.watch_deletion(stop);
                    self.publish();
                }
                () = told(&mut shutdown), if outcome == Outcome::Over => {
                    outcome = Outcome::ShutDown;
                    stop_by(stop, SHUTDOWN_GRACE);
                }
                () = &mut deadline, if self.failure.is_none() => {
                    self.failure = Some(Failure {
                        reason: "DeadlineExceeded".to_owned(),
                        message: "the pod was active for longer than spec.activeDeadlineSeconds".to_owned(),
                    });
                    stop_by(stop, grace(&self.pod));
                    self.publish();
                }
            }
        }
    }

    /// Takes note of the pod as it is now; if it is being deleted, its containers get a time to stop.
    fn watch_deletion(&mut self, stop: &watch::Sender<Option<Instant>>) {
        let now = self.view.borrow_and_update().clone();
        let Some(pod) = now else {
            return stop_by(stop, VANISHED_GRACE);
        };
        if pod.metadata.deletion_timestamp.is_some() {
            let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            stop_by(stop, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        }
        self.pod = pod;
    }

    fn refuse(&mut self, reason: &str, message: String) -> Outcome {
        self.node
            .events
            .warning(Subject::pod(&self.pod), "Failed", message.clone());
        self.failure = Some(Failure {
            reason: reason.to_owned(),
            message,
        });
        self.publish();
        Outcome::Over
    }

    fn publish(&mut self) {
        let last = self.publisher.last();
        // A pod that never got as far as containers has no container statuses.
        let statuses = match self.address {
            Some(_) => self.board.now(),
            None => Statuses::new(),
        };
        let status = compute(&Inputs {
            pod: &self.pod,
            statuses: &statuses,
            before: last.as_ref().or(self.before.as_ref()),
            host_ip: self.node.config.address,
            pod_ip: self.address,
            sandbox_ready: self.address.is_some(),
            over: self.over,
            // A pod that has to end fails when its containers have ended, not before.
            failure: self
                .failure
                .as_ref()
                .filter(|_| self.over || self.address.is_none()),
            now: Timestamp::now(),
        });
        self.publisher.publish(status);
    }

    /// Opens the pod's logs and lets the log server find them.
    fn list(&mut self) -> io::Result<()> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let inits = spec.init_containers.iter().flatten();
        let logs = spec
            .containers
            .iter()
            .chain(inits)
            .map(|container| {
                let logs = Logs::open(self.folders.logs(&container.name))?;
                Ok((container.name.clone(), logs))
            })
            .collect::<io::Result<BTreeMap<_, _>>>()?;
        self.logs.clone_from(&logs);
        let (namespace, name, uid) = names(&self.pod);
        let listed = Listed {
            uid: uid.to_owned(),
            logs,
            board: self.board.clone(),
        };
        self.node.registry.list(namespace, name, listed);
        Ok(())
    }
}

/// Gives the containers this long, or less if they were given less before.
fn stop_by(stop: &watch::Sender<Option<Instant>>, grace: Duration) {
    let until = Instant::now() + grace;
    stop.send_if_modified(|current| {
        let sooner = current.is_none_or(|current| until < current);
        if sooner {
            *current = Some(until);
        }
        sooner
    });
}

/// What is left of spec.activeDeadlineSeconds.
fn time_left(pod: &Pod, status: Option<&PodStatus>) -> Option<Duration> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let started = status.and_then(|status| status.start_time.as_ref());
    let passed = started.map_or(0, |time| Timestamp::now().duration_since(time.0).as_secs());
    Some(Duration::from_secs(u64::try_from(seconds - passed).unwrap_or(0)))
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Waits until the pod is to be deleted, and deletes it.
async fn bury(node: &Node, pod: &Pod, mut view: PodView) {
    let leaving = |pod: &Option<Arc<Pod>>| {
        pod.as_ref()
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    };
    match view.wait_for(leaving).await {
        Ok(pod) if pod.is_some() => {}
        _ => return,
    }
    let (namespace, name, uid) = names(pod);
    let api: Api<Pod> = Api::namespaced(node.client.clone(), namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    let mut pause = Duration::from_millis(100);
    loop {
        match call(api.delete(name, &params)).await {
            Ok(_) => return,
            Err(error) if error.is_not_found() => return,
            Err(error) if error.is_conflict() && replaced(&api, &pod.metadata).await => return,
            Err(error) => {
                tracing::warn!(%error, pod = name, "a pod that has ended cannot be deleted; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// A pod that the node cannot even make folders for.
async fn fail(node: &Arc<Node>, pod: &Pod, reason: &str, message: String) {
    let publisher = Publisher::start(node, pod);
    publisher.publish(PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..PodStatus::default()
    });
    publisher.flush().await;
}

fn names(pod: &Pod) -> (&str, &str, &str) {
    let metadata = &pod.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    )
}
