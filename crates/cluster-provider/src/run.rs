//! `run`: starts the watches and both controllers, and says which change wakes what. No rules live here.
use crate::{
    access::{reconcile::AccessReconciler, target::Targets},
    cli::Run,
    cluster::reconcile::ClusterReconciler,
    context::{Context, HostEndpoint, Stores},
    names::{
        ACCESS_CONTROLLER, ANNOTATION_ACCESS_REQUEST, ANNOTATION_CLUSTER, CLUSTER_CONTROLLER,
        LABEL_ACCESS_REQUEST, LABEL_CLUSTER, MANAGER,
    },
};
use anyhow::Context as _;
use data_encoding::BASE64;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{Api, Client, Config, Resource, ResourceExt, runtime::watcher};
use openmcp_api::{AccessRequest, Cluster};
use openmcp_reconcile::{
    Controller, Handle, Key, Lane, Limits,
    admin::{self, Readiness},
    cluster::Connection,
    events::Recorder,
    lease::Lease,
    watch::{Change, Store, watch},
};
use std::{fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CLUSTER: &str = "Cluster";
const ACCESS_REQUEST: &str = "AccessRequest";
/// Confirming a new API server is the longest single step.
const LIMITS: Limits = Limits {
    workers: 16,
    deadline: Duration::from_secs(40),
};
const SYNC: &str = "the first list of every watch";

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(arguments: &Run) -> anyhow::Result<()> {
    if arguments.metrics_secure {
        anyhow::bail!("--metrics-secure is not supported: metrics are served as plain HTTP");
    }
    let shutdown = CancellationToken::new();
    let readiness = Readiness::default();
    readiness.wait_for(SYNC);
    let metrics = match arguments.metrics_bind_address.as_deref() {
        Some(text) => {
            let bind = admin::parse_bind(text, arguments.pod_ip.as_deref()).map_err(anyhow::Error::msg)?;
            Some(tokio::spawn(serve(bind, readiness.clone(), shutdown.clone())))
        }
        None => None,
    };
    let config = Config::infer()
        .await
        .context("no access to the platform cluster")?;
    let host = host_endpoint(&config)?;
    let client = Connection::infer(MANAGER).await?.client();

    let clusters = Controller::new(CLUSTER_CONTROLLER, LIMITS);
    let accesses = Controller::new(ACCESS_CONTROLLER, LIMITS);
    let wakes = Wakes {
        clusters: clusters.handle(),
        accesses: accesses.handle(),
    };
    let stores = start_watches(&client, arguments, &wakes, &shutdown);
    let targets = Arc::new(targets(&stores, &wakes, &shutdown));
    let election = client.clone();
    let cx = Arc::new(Context {
        recorder: Recorder::new(client.clone(), MANAGER),
        client,
        provider: arguments.common.provider_name.clone(),
        namespace: arguments.pod_namespace.clone(),
        hosting: arguments.hosting.clone(),
        host,
        stores,
    });
    tokio::spawn(end_on_signal(shutdown.clone()));
    tokio::select! {
        () = cx.stores.synced() => {}
        () = shutdown.cancelled() => return ended(metrics).await,
    }
    readiness.done(SYNC);
    tracing::info!(provider = cx.provider, "serving Clusters and AccessRequests");
    let cluster_reconciler = Arc::new(ClusterReconciler {
        cx: cx.clone(),
        targets: targets.clone(),
    });
    let access_reconciler = Arc::new(AccessReconciler { cx, targets });
    let work = || async {
        tokio::join!(
            clusters.run(cluster_reconciler.clone(), shutdown.clone()),
            accesses.run(access_reconciler.clone(), shutdown.clone())
        );
    };
    let rest = || async {
        tokio::join!(clusters.rest(), accesses.rest());
    };
    match arguments.identity() {
        Some(identity) => {
            let name = format!("cp-{}", arguments.common.provider_name);
            let lease = Lease::new(&arguments.pod_namespace, &name, identity);
            // `None`: the process was asked to end while another one led.
            if let Some(leading) = lease.acquire(election.clone(), &shutdown).await {
                leading.serve(&election, &shutdown, work, rest).await?;
            }
        }
        None => work().await,
    }
    ended(metrics).await
}

/// Serves health and metrics; without them the process ends, instead of running unseen.
async fn serve(bind: SocketAddr, readiness: Readiness, shutdown: CancellationToken) -> std::io::Result<()> {
    let served = admin::serve(bind, readiness, shutdown.clone()).await;
    shutdown.cancel();
    served
}

async fn ended(metrics: Option<JoinHandle<std::io::Result<()>>>) -> anyhow::Result<()> {
    match metrics {
        Some(metrics) => metrics
            .await
            .context("the admin server ended")?
            .context("serve health and metrics"),
        None => Ok(()),
    }
}

/// Both controllers' handles.
#[derive(Clone)]
struct Wakes {
    clusters: Handle,
    accesses: Handle,
}

impl Wakes {
    fn cluster(&self, namespace: &str, name: &str, lane: Lane) {
        self.clusters.wake(Key::new(CLUSTER, namespace, name), lane);
    }
    fn access(&self, namespace: &str, name: &str, lane: Lane) {
        self.accesses
            .wake(Key::new(ACCESS_REQUEST, namespace, name), lane);
    }
    /// The AccessRequests that lead to that Cluster.
    fn accesses_of(&self, requests: &Store<AccessRequest>, namespace: &str, name: &str) {
        for request in requests.all() {
            let leads_here =
                |it: &openmcp_api::common::ObjectReference| it.namespace == namespace && it.name == name;
            if request.spec.cluster_ref.as_ref().is_some_and(leads_here) {
                self.access(
                    &request.namespace().unwrap_or_default(),
                    &request.name_any(),
                    Lane::Normal,
                );
            }
        }
    }
}

fn start_watches(client: &Client, arguments: &Run, wakes: &Wakes, shutdown: &CancellationToken) -> Stores {
    let all = watcher::Config::default;
    let wake = wakes.clone();
    let access_requests = watch(
        Api::<AccessRequest>::all(client.clone()),
        all(),
        shutdown.clone(),
        move |change| {
            let object = change.object();
            wake.access(
                &object.namespace().unwrap_or_default(),
                &object.name_any(),
                lane(&change, Lane::Urgent),
            );
        },
    );
    let (wake, requests) = (wakes.clone(), access_requests.clone());
    let clusters = watch(
        Api::<Cluster>::all(client.clone()),
        all(),
        shutdown.clone(),
        move |change| {
            let object = change.object();
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            wake.cluster(&namespace, &name, lane(&change, Lane::Urgent));
            wake.accesses_of(&requests, &namespace, &name);
        },
    );
    let marked = |label: &str| watcher::Config::default().labels(label);
    let wake = wakes.clone();
    let control_plane_secrets: Store<Secret> = {
        let (wake, requests) = (wakes.clone(), access_requests.clone());
        watch(
            Api::<Secret>::all(client.clone()),
            marked(LABEL_CLUSTER),
            shutdown.clone(),
            move |change| {
                wake_owner(&wake, &change);
                if let Some(name) = change.object().annotations().get(ANNOTATION_CLUSTER) {
                    wake.accesses_of(&requests, &change.object().namespace().unwrap_or_default(), name);
                }
            },
        )
    };
    let access_secrets = {
        let wake = wakes.clone();
        watch(
            Api::<Secret>::all(client.clone()),
            marked(LABEL_ACCESS_REQUEST),
            shutdown.clone(),
            move |change: Change<Secret>| {
                let owner = change
                    .object()
                    .annotations()
                    .get(ANNOTATION_ACCESS_REQUEST)
                    .and_then(|it| it.split_once('/'));
                if let Some((namespace, name)) = owner {
                    wake.access(namespace, name, lane(&change, Lane::Urgent));
                }
            },
        )
    };
    let etcd_secret = {
        let (wake, clusters) = (wakes.clone(), clusters.clone());
        let only =
            watcher::Config::default().fields(&format!("metadata.name={}", arguments.hosting.etcd_secret));
        let secrets = Api::<Secret>::namespaced(client.clone(), &arguments.pod_namespace);
        watch(secrets, only, shutdown.clone(), move |_| {
            for cluster in clusters.all() {
                wake.cluster(
                    &cluster.namespace().unwrap_or_default(),
                    &cluster.name_any(),
                    Lane::Bulk,
                );
            }
        })
    };
    let pods_wake = wake.clone();
    Stores {
        deployments: watch(
            Api::<Deployment>::all(client.clone()),
            marked(LABEL_CLUSTER),
            shutdown.clone(),
            move |change| {
                wake_owner(&wake, &change);
            },
        ),
        pods: watch(
            Api::<Pod>::all(client.clone()),
            marked(LABEL_CLUSTER),
            shutdown.clone(),
            move |change| {
                wake_owner(&pods_wake, &change);
            },
        ),
        clusters,
        access_requests,
        control_plane_secrets,
        access_secrets,
        etcd_secret,
    }
}

/// Wakes the Cluster that an object was made for.
fn wake_owner<K: Resource + Debug>(wakes: &Wakes, change: &Change<K>) {
    let object = change.object();
    if let Some(name) = object.annotations().get(ANNOTATION_CLUSTER) {
        wakes.cluster(
            &object.namespace().unwrap_or_default(),
            name,
            lane(change, Lane::Urgent),
        );
    }
}

/// The first list is bulk; what changes later has the given lane.
fn lane<K>(change: &Change<K>, later: Lane) -> Lane {
    if matches!(change, Change::Applied { first: true, .. }) {
        Lane::Bulk
    } else {
        later
    }
}

/// Connections whose watches wake the AccessRequests that they concern.
fn targets(stores: &Stores, wakes: &Wakes, shutdown: &CancellationToken) -> Targets {
    let (wake, requests) = (wakes.clone(), stores.access_requests.clone());
    let wake_request = move |uid: &str| {
        let owner = requests
            .all()
            .into_iter()
            .find(|request| request.uid().as_deref() == Some(uid));
        if let Some(request) = owner {
            wake.access(
                &request.namespace().unwrap_or_default(),
                &request.name_any(),
                Lane::Urgent,
            );
        }
    };
    let (wake, requests) = (wakes.clone(), stores.access_requests.clone());
    let wake_all = move || {
        for request in requests.all() {
            wake.access(
                &request.namespace().unwrap_or_default(),
                &request.name_any(),
                Lane::Normal,
            );
        }
    };
    Targets::new(
        Arc::new(wake_request),
        Arc::new(move |_: &str| wake_all()),
        shutdown.clone(),
    )
}

/// How others reach the API server that this process uses.
fn host_endpoint(config: &Config) -> anyhow::Result<HostEndpoint> {
    let roots = config
        .root_cert
        .as_ref()
        .context("the platform's kubeconfig names no certificate authority")?;
    let ca = roots.iter().map(|der| pem(der)).collect();
    Ok(HostEndpoint {
        server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
        ca,
    })
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|start| &text[start..text.len().min(start + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

async fn end_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => {
            tracing::warn!("SIGTERM cannot be handled: {error}");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
    shutdown.cancel();
}
