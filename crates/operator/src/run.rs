//! `run`: wires watches to controllers and keeps them running.
//!
//! Order: the platform's first lists → installer, scheduler, access and the way to the onboarding cluster at once →
//! ControlPlanes as soon as the onboarding cluster is usable.
use crate::{
    access::{self, Access},
    cli,
    config::{Config, ControlPlanes},
    controlplane,
    install::{self, Install},
    onboarding::{self, Bootstrap, Onboarding, Slot},
    platform::{self, Platform, Wake},
    schedule::{self, OwnWrites, Schedule},
};
use anyhow::{Context, bail};
use openmcp_reconcile::{
    Controller, Lane, Limits, Reconciler,
    admin::{self, Readiness},
    cluster::Connection,
    events::Recorder,
    lease::Lease,
};
use std::sync::{Arc, OnceLock};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What /readyz says until the platform's objects are known.
const FIRST_LISTS: &str = "first lists of the platform cluster";

/// Name of the lease by which one of several replicas works.
const LEASE: &str = "openmcp-operator.openmcp.cloud";

/// Everything that runs until the end; a task that ends early ends the others.
type Tasks = JoinSet<anyhow::Result<()>>;

/// Decisions of these controllers build on each other: one at a time.
const ONE_AT_A_TIME: usize = 1;

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(flags: cli::Run) -> anyhow::Result<()> {
    let path = flags
        .common
        .config
        .as_deref()
        .context("--config FILE is needed: it holds the scheduler's configuration")?;
    let config = Config::read(path)?;
    let connection = Connection::infer(onboarding::NAME).await?;
    tracing::info!(
        environment = flags.common.environment,
        pod = flags.common.pod_name,
        platform = connection.server(),
        "starting"
    );

    let shutdown = CancellationToken::new();
    let readiness = Readiness::default();
    let mut tasks = Tasks::new();
    stop_on_signal(&shutdown)?;
    serve(&flags.metrics_bind_address, &readiness, &shutdown, &mut tasks)?;
    let operator = Operator {
        connection,
        flags: flags.common,
        config,
        readiness,
        shutdown: shutdown.clone(),
    };
    if !flags.leader_elect {
        return operator.work(tasks).await;
    }
    let lease = Lease::new(&operator.flags.namespace, LEASE, &operator.flags.pod_name);
    match lease.acquire(operator.connection.client(), &shutdown).await {
        Some(guard) => guard.keep(operator.work(tasks)).await?,
        None => Ok(()),
    }
}

/// What `run` works with.
struct Operator {
    connection: Connection,
    flags: cli::Common,
    config: Config,
    readiness: Readiness,
    shutdown: CancellationToken,
}

impl Operator {
    /// Runs watches and controllers until they are told to stop.
    async fn work(self, mut tasks: Tasks) -> anyhow::Result<()> {
        let Self {
            connection,
            flags,
            config,
            readiness,
            shutdown,
        } = self;
        let controllers = Controllers::new();
        let own = OwnWrites::default();
        let wake = controllers.wake();
        let platform = platform::start(
            connection.client(),
            flags.namespace,
            flags.environment,
            &wake,
            &own,
            &shutdown,
        );
        readiness.wait_for(FIRST_LISTS);
        tokio::select! {
            () = platform.synced() => readiness.done(FIRST_LISTS),
            () = shutdown.cancelled() => {}
        }
        wake.onboarding(Lane::Urgent);
        controllers.spawn(
            Arc::new(platform),
            config,
            own,
            wake,
            readiness,
            &shutdown,
            &mut tasks,
        );
        wait(tasks, &shutdown).await
    }
}

/// Waits for the end: asked for, or the failure of a task, which ends the others.
async fn wait(mut tasks: Tasks, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let ended = tasks.join_next().await;
    let asked = shutdown.is_cancelled();
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    match ended {
        Some(Err(error)) => Err(error).context("a task of the operator failed"),
        Some(Ok(Err(error))) => Err(error),
        _ if asked => Ok(()),
        _ => bail!("a controller ended without being asked to"),
    }
}

fn stop_on_signal(shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        shutdown.cancel();
    });
    Ok(())
}

/// Serves /livez, /readyz and /metrics, unless the address is `0`.
fn serve(
    bind: &str,
    readiness: &Readiness,
    shutdown: &CancellationToken,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    if bind == "0" {
        return Ok(());
    }
    let pod_ip = std::env::var(openmcp_api::keys::env::POD_IP).ok();
    let address = admin::parse_bind(bind, pod_ip.as_deref())
        .map_err(|problem| anyhow::anyhow!("--metrics-bind-address: {problem}"))?;
    let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
    tasks.spawn(async move {
        admin::serve(address, readiness, shutdown)
            .await
            .context("serve /readyz and /metrics")
    });
    Ok(())
}

/// The operator's controllers, before they run.
struct Controllers {
    providers: Controller,
    requests: Controller,
    accesses: Controller,
    onboarding: Controller,
    control_planes: Controller,
}

impl Controllers {
    fn new() -> Self {
        let one_at_a_time = Limits {
            workers: ONE_AT_A_TIME,
            ..Limits::default()
        };
        Self {
            providers: Controller::new(install::NAME, Limits::default()),
            requests: Controller::new(schedule::NAME, one_at_a_time),
            accesses: Controller::new(access::NAME, Limits::default()),
            onboarding: Controller::new(onboarding::NAME, one_at_a_time),
            control_planes: Controller::new(controlplane::NAME, Limits::default()),
        }
    }

    fn wake(&self) -> Wake {
        Wake {
            providers: self.providers.handle(),
            requests: self.requests.handle(),
            accesses: self.accesses.handle(),
            onboarding: self.onboarding.handle(),
            control_planes: self.control_planes.handle(),
            known_control_planes: Arc::default(),
        }
    }

    #[allow(clippy::too_many_arguments)] // the seams of all rooms meet here
    fn spawn(
        self,
        platform: Arc<Platform>,
        config: Config,
        own: OwnWrites,
        wake: Wake,
        readiness: Readiness,
        shutdown: &CancellationToken,
        tasks: &mut Tasks,
    ) {
        let slot: Slot = Arc::new(OnceLock::new());
        let events = |reporter| Recorder::new(platform.client.clone(), reporter);
        let install = Install::new(platform.clone(), slot.clone(), events(install::NAME));
        let schedule = Schedule {
            client: platform.client.clone(),
            config: config.scheduler,
            requests: platform.requests.clone(),
            clusters: platform.clusters.clone(),
            own,
            events: events(schedule::NAME),
        };
        let access = Access {
            platform: platform.clone(),
            selector: config.access_requests,
            events: events(access::NAME),
        };
        let (usable, becomes_usable) = oneshot::channel();
        let bootstrap = Bootstrap::new(platform.clone(), slot, wake, readiness, shutdown.clone(), usable);
        spawn(tasks, self.providers, install, shutdown);
        spawn(tasks, self.requests, schedule, shutdown);
        spawn(tasks, self.accesses, access, shutdown);
        spawn(tasks, self.onboarding, bootstrap, shutdown);
        tasks.spawn(serve_control_planes(
            self.control_planes,
            becomes_usable,
            platform,
            config.control_planes,
            shutdown.clone(),
        ));
    }
}

fn spawn<R: Reconciler>(
    tasks: &mut Tasks,
    controller: Controller,
    reconciler: R,
    shutdown: &CancellationToken,
) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        controller.run(Arc::new(reconciler), shutdown).await;
        Ok(())
    });
}

/// Serves ControlPlanes from the moment at which the onboarding cluster is usable.
async fn serve_control_planes(
    controller: Controller,
    usable: oneshot::Receiver<Arc<Onboarding>>,
    platform: Arc<Platform>,
    config: ControlPlanes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let onboarding = tokio::select! {
        onboarding = usable => onboarding.context("the onboarding cluster's controller is gone")?,
        () = shutdown.cancelled() => return Ok(()),
    };
    controller
        .run(
            Arc::new(controlplane::Reconcile::new(platform, onboarding, config)),
            shutdown,
        )
        .await;
    Ok(())
}
