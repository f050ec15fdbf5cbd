//! Leadership by a Lease: compare-and-swap on resourceVersion, and expiry by locally observed time (client-go's
//! rule), so that no two clocks are ever compared.
//!
//! While a lease is held, writes of this process's [`crate::cluster::Connection`]s are gated by it: they are refused
//! from a moment on at which no other process can have taken over yet, also when this process was stopped meanwhile.
mod election;
mod renewal;

use crate::{
    Environment, Fault,
    environment::chance,
    gate::Gate,
    metrics,
    process::{self, Leadership},
};
use election::{Election, Verdict};
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use renewal::Renewal;
use std::time::Duration;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// A lease is free *after* its time.
const MOMENT: Duration = Duration::from_millis(1);

/// Where the lease is, and who asks for it.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Namespace of the Lease object.
    pub namespace: String,
    /// Its name. See [`legal_name`].
    pub name: String,
    /// Who we are; no other process may use the same (the pod's name).
    pub identity: String,
    /// How long others wait after the last renewal that they saw.
    pub duration: Duration,
    environment: Environment,
}

impl Lease {
    /// A lease with client-go's duration of 15 s; `name` is made legal.
    pub fn new(namespace: impl Into<String>, name: &str, identity: impl Into<String>) -> Self {
        let (namespace, identity) = (namespace.into(), identity.into());
        Self {
            namespace,
            name: legal_name(name),
            identity,
            duration: Duration::from_secs(15),
            environment: Environment::default(),
        }
    }

    /// Does not gate the writes of this process: for leases that protect something else.
    #[must_use]
    pub fn ungated(mut self) -> Self {
        self.environment.gate = Gate::new();
        self
    }

    /// For the connections of these surroundings.
    #[must_use]
    pub fn within(mut self, environment: &Environment) -> Self {
        self.environment = environment.clone();
        self
    }

    /// From the last renewal on, we write no longer than this: two thirds of the duration.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Between two looks or renewals.
    fn period(&self) -> Duration {
        self.duration / 7
    }

    /// Waits until this process leads. `None`: shut down before. Problems are logged and shown by /readyz.
    ///
    /// ```no_run
    /// use openmcp_reconcile::lease::Lease;
    /// # async fn work() {}
    /// # async fn example(client: kube::Client) -> Result<(), openmcp_reconcile::Fault> {
    /// let lease = Lease::new("openmcp-system", "sp-kro", "sp-kro-abc");
    /// if let Some(guard) = lease.acquire(client, &Default::default()).await {
    ///     guard.keep(work()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(self, client: Client, shutdown: &CancellationToken) -> Option<Guard> {
        let api = Api::namespaced(client, &self.namespace);
        metrics::leads(&self.name, false);
        self.environment.gate.close();
        let mut election = Election::new(self.identity.clone(), self.duration);
        loop {
            let looked = self.look(&api, &mut election).await;
            let mut next = Instant::now() + self.period().mul_f64(0.8 + 0.4 * chance());
            match looked {
                Ok(Look::Leads(held, since)) => return Some(Guard::new(self, api, *held, since)),
                Ok(Look::Held { until }) => {
                    // Not a period later: whoever waits for a dead leader has waited long enough.
                    next = next.min(until + MOMENT);
                    process::set_leadership(Leadership::Standby);
                }
                Err(fault) => {
                    tracing::warn!(lease = self.name, "{fault}");
                    process::set_leadership(Leadership::Failing(fault.message));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// One look; takes the lease if it is free.
    async fn look(&self, api: &Api<Object>, election: &mut Election) -> Result<Look, Fault> {
        let asked = Instant::now();
        let doing = format!("take Lease {}/{}", self.namespace, self.name);
        let params = PostParams::default();
        let Some(live) = within(self.period(), &doing, api.get_opt(&self.name)).await? else {
            let new = self.object(None, self.environment.now());
            return raced(
                within(self.period(), &doing, api.create(&params, &new)).await,
                asked,
                self.duration,
            );
        };
        let spec = live.spec.clone().unwrap_or_default();
        match election.observe(&live.metadata, &spec, asked) {
            Verdict::Held { by, until } => {
                tracing::debug!(lease = self.name, by, "another process leads");
                Ok(Look::Held { until })
            }
            Verdict::Free => {
                let new = self.object(Some(&live), self.environment.now());
                raced(
                    within(self.period(), &doing, api.replace(&self.name, &params, &new)).await,
                    asked,
                    self.duration,
                )
            }
        }
    }

    /// The Lease as we write it. Its times are for people; nobody decides by them.
    fn object(&self, live: Option<&Object>, now: jiff::Timestamp) -> Object {
        let old = live.and_then(|live| live.spec.clone()).unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&self.identity);
        Object {
            metadata: live.map_or_else(
                || ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                |live| live.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
                acquire_time: if ours {
                    old.acquire_time.clone()
                } else {
                    Some(MicroTime(now))
                },
                renew_time: Some(MicroTime(now)),
                lease_transitions: match live {
                    Some(_) if ours => old.lease_transitions,
                    Some(_) => Some(old.lease_transitions.unwrap_or(0).saturating_add(1)),
                    None => Some(0),
                },
                ..old
            }),
        }
    }
}

/// What a look came to.
enum Look {
    /// The lease is ours, as written now and asked for then.
    Leads(Box<Object>, Instant),
    /// It is not free before.
    Held { until: Instant },
}

/// A lost race is no fault: another process is a moment ahead.
fn raced(written: Result<Object, Fault>, asked: Instant, duration: Duration) -> Result<Look, Fault> {
    match written {
        Ok(object) => Ok(Look::Leads(Box::new(object), asked)),
        Err(fault) if fault.reason == "Conflict" => Ok(Look::Held {
            until: asked + duration,
        }),
        Err(fault) => Err(fault),
    }
}

async fn within<T>(
    patience: Duration,
    doing: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(patience, request).await {
        Ok(answer) => answer.map_err(|error| Fault::api(doing, &error)),
        Err(_elapsed) => Err(Fault::new(
            crate::fault::Class::Unreachable,
            "Unreachable",
            format!("{doing}: no answer within {patience:?}"),
        )),
    }
}

/// Work that is cut off ends where it waits next.
const CUT_OFF: Duration = Duration::from_secs(5);

/// Leadership. Renewed by a task until it is kept to its end, dropped, or lost.
pub struct Guard {
    lease: Lease,
    lost: CancellationToken,
    stop: CancellationToken,
    renewal: Option<JoinHandle<Renewal>>,
}

impl Guard {
    fn new(lease: Lease, api: Api<Object>, held: Object, since: Instant) -> Self {
        tracing::info!(
            lease = lease.name,
            identity = lease.identity,
            "this process leads"
        );
        metrics::leads(&lease.name, true);
        process::set_leadership(Leadership::Free);
        lease.environment.gate.open_until(since + lease.deadline());
        let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
        let renewal = Renewal {
            lease: lease.clone(),
            api,
            held,
            until: since,
        };
        let renewal = tokio::spawn(renewal.run(lost.clone(), stop.clone()));
        Self {
            lease,
            lost,
            stop,
            renewal: Some(renewal),
        }
    }

    /// Cancelled when leadership is lost: end all work.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Does `work` while this process leads, and gives the lease back when it is done. A lost lease drops `work` where
    /// it stands; then this process stands by with whatever caches it has, and does the work anew when it leads again
    /// (runtime design §8, fault 3). `None`: shut down while it stood by.
    ///
    /// `rest` waits until nothing of the dropped work is left ([`crate::Controller::rest`]). Work that outlives the lease
    /// is the one error: the process has to end.
    pub async fn serve<W: Future, R: Future<Output = ()>>(
        self,
        client: &Client,
        shutdown: &CancellationToken,
        mut work: impl FnMut() -> W,
        mut rest: impl FnMut() -> R,
    ) -> Result<Option<W::Output>, Fault> {
        let (lease, mut guard) = (self.lease.clone(), self);
        loop {
            let lost = match guard.keep(work()).await {
                Ok(done) => return Ok(Some(done)),
                Err(lost) => lost,
            };
            tracing::warn!("{lost}: it stands by");
            let rested = tokio::time::timeout(CUT_OFF, rest()).await;
            rested.map_err(|_elapsed| Fault::retry("LeaseLost", "work outlives the lost lease"))?;
            match lease.clone().acquire(client.clone(), shutdown).await {
                Some(again) => guard = again,
                None => return Ok(None),
            }
        }
    }

    /// Does `work` while this process leads, then gives the lease back. A lost lease drops `work` where it stands and
    /// is an error: see [`Guard::serve`].
    pub async fn keep<T>(mut self, work: impl Future<Output = T>) -> Result<T, Fault> {
        let done = tokio::select! {
            biased;
            () = self.lost.cancelled() => None,
            done = work => Some(done),
        };
        self.stop.cancel();
        let renewal = match self.renewal.take() {
            Some(renewal) => renewal.await.ok(),
            None => None,
        };
        match (done, renewal) {
            (Some(done), Some(renewal)) => {
                renewal.release().await;
                Ok(done)
            }
            (Some(done), None) => Ok(done),
            (None, _) => Err(Fault::retry("LeaseLost", "this process does not lead any more")),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A legal Lease name (a DNS subdomain of at most 253 characters) that resembles `name`.
///
/// ```
/// use openmcp_reconcile::lease::legal_name;
/// assert_eq!(legal_name("github.com/x/Provider_A"), "github.com-x-provider-a");
/// assert_eq!(legal_name("sp-kro"), "sp-kro");
/// ```
pub fn legal_name(name: &str) -> String {
    let legal: String = name
        .to_lowercase()
        .split('.')
        .map(|part| {
            let part: String = part
                .chars()
                .map(|c| {
                    if c.is_ascii_lowercase() || c.is_ascii_digit() {
                        c
                    } else {
                        '-'
                    }
                })
                .collect();
            part.trim_matches('-').to_owned()
        })
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(".");
    match legal.len() {
        0 => "lease".to_owned(),
        1..=253 => legal,
        _ => {
            let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
            format!("{}-{hash:016x}", legal[..236].trim_end_matches(['-', '.']))
        }
    }
}

#[cfg(test)]
mod tests;
