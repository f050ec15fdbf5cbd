//! A provider's process: what `init` and `run` do once it is known who it is and where the platform is.
//!
//! The command line makes one of its flags; a simulation makes as many as it likes. Everything that runs is a task of
//! the tokio runtime that it is called in: dropping that runtime is what `kill -9` is to a real process.
use crate::{pipeline, provider::ServiceProvider, run, setup, standby, world::Names};
use openmcp_reconcile::{
    Fault, Key,
    admin::Readiness,
    cluster::Connection,
    lease::{Lease, legal_name},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From a leader's last sign of life on, others wait so long: another one works within ten seconds.
const LEASE: Duration = Duration::from_secs(8);

/// The name of a provider's Lease.
pub(crate) fn lease(provider: &str) -> String {
    legal_name(&format!("sp-{provider}"))
}

/// One process of a provider.
#[derive(Debug, Clone)]
pub struct Process {
    /// Name of the ServiceProvider object.
    pub provider: String,
    /// The namespace of the provider's pods.
    pub namespace: String,
    /// The pod's name: replicas are told apart by it.
    pub pod: String,
    /// Work only while holding the lease of the provider.
    pub leader_elect: bool,
    /// The platform; other clusters are reached in the surroundings of this connection.
    pub platform: Connection,
    /// Told when the first lists are there.
    pub readiness: Readiness,
}

impl Process {
    /// How a provider's requests are signed, for the connection to the platform.
    pub fn user_agent(provider: &str) -> String {
        format!("{provider}/{}", env!("CARGO_PKG_VERSION"))
    }

    /// Installs definitions and registers kinds.
    pub async fn init<P: ServiceProvider>(self) -> Result<(), Fault> {
        let names = Names::of::<P>(&self.provider, &self.namespace);
        setup::init::<P>(&self.platform, &names).await
    }

    /// Tells what a pass over the service object would see and do. `platform` must be a connection that does not write.
    /// A provider that the platform does not know is an error: everything that follows from its name would be wrong.
    pub async fn explain<P: ServiceProvider>(
        self,
        provider: P,
        namespace: &str,
        name: &str,
    ) -> Result<String, Fault> {
        let names = Names::of::<P>(&self.provider, &self.namespace);
        setup::registered(&self.platform.client(), names.provider).await?;
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        let key = Key::new(names.kind, namespace, name);
        let (_idle, world) = run::warm(provider, names, &self.platform, &self.readiness, &stop).await?;
        pipeline::explain(&world, &key).await
    }

    /// Serves until `shutdown`. Where the lease is lost it stands by with warm caches, and serves when it leads again
    /// (runtime design §8, fault 3).
    pub async fn run<P: ServiceProvider>(
        self,
        provider: P,
        shutdown: CancellationToken,
    ) -> Result<(), Fault> {
        let names = Names::of::<P>(&self.provider, &self.namespace);
        let Self {
            platform, readiness, ..
        } = self;
        // Who is asked to end before he is ready has nothing to wait for.
        let stands_by = shutdown.child_token();
        let elected = self.leader_elect;
        let warm = async {
            let warm = run::warm(provider, names.clone(), &platform, &readiness, &shutdown);
            let warm: Option<run::Warm<P>> = shutdown.run_until_cancelled(warm).await.transpose()?;
            if let (true, Some((_, world))) = (elected, &warm) {
                tokio::spawn(standby::watch_children(world.clone(), stands_by.clone()));
            }
            Ok::<_, Fault>(warm)
        };
        if !self.leader_elect {
            if let Some(warm) = warm.await? {
                run::serve(&warm, shutdown.clone()).await;
            }
            return Ok(());
        }
        let mut lease =
            Lease::new(&*names.home, &lease(names.provider), &*self.pod).within(platform.environment());
        lease.duration = LEASE;
        // While it waits to lead, its caches are warm already (runtime design §8). One that cannot get them warm says
        // so at once: in a rolling update the other one does not end before this one is ready.
        let lead = async { Ok(lease.acquire(platform.client(), &shutdown).await) };
        let ready = tokio::try_join!(warm, lead);
        stands_by.cancel();
        match ready? {
            (Some(warm), Some(guard)) => {
                let (work, rest) = (|| run::serve(&warm, shutdown.clone()), || run::rest(&warm));
                let served = guard.serve(&platform.client(), &shutdown, work, rest).await;
                served.map(drop)
            }
            // Nobody has to wait for it.
            (None, Some(guard)) => guard.keep(async {}).await,
            _ => Ok(()),
        }
    }
}
