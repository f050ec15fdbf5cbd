//! `run`: wires watches to controllers and keeps them running.
//!
//! Order: the platform's first lists → installer, scheduler, access and the way to the onboarding cluster at once →
//! ControlPlanes as soon as the onboarding cluster is usable. Of several replicas one works; the others stand by and
//! know the platform already. One that lost its lease stands by too.
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
use anyhow::Context;
use openmcp_reconcile::{
    Controller, Lane, Limits,
    admin::{self, Readiness},
    cluster::Connection,
    events::Recorder,
    lease::Lease,
};
use std::sync::{Arc, OnceLock};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// What /readyz says until the platform's objects are known.
const FIRST_LISTS: &str = "first lists of the platform cluster";

/// What /readyz of who works says until tenants may order.
const ONBOARDING: &str = "onboarding cluster";

/// Name of the lease by which one of several replicas works.
const LEASE: &str = "openmcp-operator.openmcp.cloud";

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
    stop_on_signal(&shutdown)?;
    let admin = serve(&flags.metrics_bind_address, &readiness, &shutdown)?;
    let worked = work(connection.client(), &flags, config, readiness, &shutdown).await;
    shutdown.cancel();
    if let Some(admin) = admin {
        admin.await.context("the admin server ended")??;
    }
    worked
}

/// Works until `shutdown`, while this replica leads.
async fn work(
    client: kube::Client,
    flags: &cli::Run,
    config: Config,
    readiness: Readiness,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let operator = Operator::new(client.clone(), &flags.common, config, readiness, shutdown);
    operator.synced().await;
    if !flags.leader_elect {
        operator.work().await;
        return Ok(());
    }
    let lease = Lease::new(&flags.common.namespace, LEASE, &flags.common.pod_name);
    if let Some(guard) = lease.acquire(client.clone(), shutdown).await {
        let (work, rest) = (|| operator.work(), || operator.rest());
        guard.serve(&client, shutdown, work, rest).await?;
    }
    Ok(())
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

/// Serves /livez, /readyz and /metrics, unless the address is `0`. Without them the process ends, instead of running
/// unseen.
fn serve(
    bind: &str,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<JoinHandle<anyhow::Result<()>>>> {
    if bind == "0" {
        return Ok(None);
    }
    let pod_ip = std::env::var(openmcp_api::keys::env::POD_IP).ok();
    let address = admin::parse_bind(bind, pod_ip.as_deref())
        .map_err(|problem| anyhow::anyhow!("--metrics-bind-address: {problem}"))?;
    let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
    Ok(Some(tokio::spawn(async move {
        let served = admin::serve(address, readiness, shutdown.clone()).await;
        shutdown.cancel();
        served.context("serve /readyz and /metrics")
    })))
}

/// The operator's controllers.
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
            known_namespaces: Arc::default(),
        }
    }
}

/// All rooms, wired together: the watches run, the controllers wait for [`Operator::work`].
struct Operator {
    controllers: Controllers,
    platform: Arc<Platform>,
    install: Arc<Install>,
    schedule: Arc<Schedule>,
    access: Arc<Access>,
    bootstrap: Arc<Bootstrap>,
    /// The onboarding cluster, once it is usable.
    usable: watch::Receiver<Option<Arc<Onboarding>>>,
    config: ControlPlanes,
    wake: Wake,
    readiness: Readiness,
    shutdown: CancellationToken,
}

impl Operator {
    fn new(
        client: kube::Client,
        flags: &cli::Common,
        config: Config,
        readiness: Readiness,
        shutdown: &CancellationToken,
    ) -> Self {
        readiness.wait_for(FIRST_LISTS);
        let controllers = Controllers::new();
        let (own, wake) = (OwnWrites::default(), controllers.wake());
        let (namespace, environment) = (flags.namespace.clone(), flags.environment.clone());
        let platform = platform::start(client, namespace, environment, &wake, &own, shutdown);
        let platform = Arc::new(platform);
        let slot: Slot = Arc::new(OnceLock::new());
        let events = |reporter| Recorder::new(platform.client.clone(), reporter);
        let (is_usable, usable) = watch::channel(None);
        Self {
            install: Arc::new(Install::new(
                platform.clone(),
                slot.clone(),
                events(install::NAME),
            )),
            schedule: Arc::new(Schedule {
                client: platform.client.clone(),
                config: config.scheduler,
                requests: platform.requests.clone(),
                clusters: platform.clusters.clone(),
                own,
                events: events(schedule::NAME),
            }),
            access: Arc::new(Access {
                platform: platform.clone(),
                selector: config.access_requests,
                events: events(access::NAME),
            }),
            bootstrap: Arc::new(Bootstrap::new(
                platform.clone(),
                slot,
                wake.clone(),
                shutdown.clone(),
                is_usable,
            )),
            usable,
            config: config.control_planes,
            shutdown: shutdown.clone(),
            controllers,
            platform,
            wake,
            readiness,
        }
    }

    /// Waits for the platform's first lists.
    async fn synced(&self) {
        tokio::select! {
            () = self.platform.synced() => self.readiness.done(FIRST_LISTS),
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Runs the controllers until they are told to stop.
    async fn work(&self) {
        self.wake.onboarding(Lane::Urgent);
        let (run, stop) = (&self.controllers, || self.shutdown.clone());
        tokio::join!(
            run.providers.run(self.install.clone(), stop()),
            run.requests.run(self.schedule.clone(), stop()),
            run.accesses.run(self.access.clone(), stop()),
            run.onboarding.run(self.bootstrap.clone(), stop()),
            self.serve_control_planes(),
        );
    }

    /// Serves ControlPlanes from the moment at which the onboarding cluster is usable.
    async fn serve_control_planes(&self) {
        let mut usable = self.usable.clone();
        if usable.borrow().is_none() {
            self.readiness.wait_for(ONBOARDING);
        }
        let onboarding = tokio::select! {
            usable = usable.wait_for(Option::is_some) => usable.ok().and_then(|it| it.clone()),
            () = self.shutdown.cancelled() => None,
        };
        let Some(onboarding) = onboarding else { return };
        self.readiness.done(ONBOARDING);
        let reconcile = controlplane::Reconcile::new(self.platform.clone(), onboarding, self.config.clone());
        let stop = self.shutdown.clone();
        self.controllers
            .control_planes
            .run(Arc::new(reconcile), stop)
            .await;
    }

    /// Waits until nothing is left of work that was cut off. Who stands by waits for nothing.
    async fn rest(&self) {
        self.readiness.done(ONBOARDING);
        let all = &self.controllers;
        tokio::join!(
            all.providers.rest(),
            all.requests.rest(),
            all.accesses.rest(),
            all.onboarding.rest(),
            all.control_planes.rest(),
        );
    }
}
