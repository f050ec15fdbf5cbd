//! What keeps one API server from costing the others: a bound on requests in flight, the circuit breaker, and an eye on
//! how long requests take.
use super::{
    breaker::{Breaker, Fare},
    turns::Turns,
};
use crate::{environment::chance, metrics, process};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Requests to one API server in flight at once, watches aside.
const IN_FLIGHT: usize = 64;

/// Of one connection, whatever credentials it has.
pub(super) struct Rails {
    server: Arc<str>,
    start: Instant,
    breaker: Mutex<Breaker>,
    in_flight: Semaphore,
    turns: Option<Turns>,
}

/// A request was not sent, for the breaker is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    server: Arc<str>,
    /// When it is worth asking again.
    pub(crate) again: Duration,
}

impl fmt::Display for Open {
    /// Always the same: a condition with it is not written anew at each try.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not answer: it is tried now and then", self.server)
    }
}

impl std::error::Error for Open {}

impl Rails {
    pub(super) fn new(server: Arc<str>, turns: Option<Turns>) -> Arc<Self> {
        let rails = Arc::new(Self {
            server,
            start: Instant::now(),
            breaker: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            turns,
        });
        metrics::cluster_fares(None, Some(Fare::Connecting));
        let look = Arc::downgrade(&rails);
        process::add_cluster(move || {
            let rails = look.upgrade()?;
            let in_flight = IN_FLIGHT - rails.in_flight.available_permits();
            let (slow, passes, waiting) = rails.turns.as_ref().map(Turns::look).unwrap_or_default();
            Some(serde_json::json!({
                "server": &*rails.server, "state": rails.fare().as_str(), "in_flight": in_flight,
                "slow": slow, "passes": passes, "waiting_passes": waiting,
            }))
        });
        rails
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn, and asks the breaker. The `free` need neither: watches and leases hold no worker and have a
    /// pace of their own, and the first of them that is answered closes the breaker for all.
    pub(super) async fn admit(&self, free: bool) -> Result<Option<SemaphorePermit<'_>>, Open> {
        if free {
            return Ok(None);
        }
        // The semaphore is never closed.
        let permit = self.in_flight.acquire().await.ok();
        let admitted = self.breaker().admit(self.start.elapsed());
        match admitted {
            Ok(()) => Ok(permit),
            Err(again) => Err(Open {
                server: self.server.clone(),
                again,
            }),
        }
    }

    /// The exchange that a request was let through for; the `free` keep nobody waiting.
    pub(super) async fn exchange<T>(&self, free: bool, exchange: impl Future<Output = T>) -> T {
        match &self.turns {
            Some(turns) if !free => turns.time(exchange).await,
            _ => exchange.await,
        }
    }

    /// How the connection fares.
    pub(super) fn fare(&self) -> Fare {
        self.breaker().fare()
    }

    /// A request was answered, or not.
    pub(super) fn note(&self, answered: bool) {
        let (before, after) = {
            let mut breaker = self.breaker();
            let before = breaker.fare();
            if answered {
                breaker.succeeded();
            } else {
                breaker.failed(self.start.elapsed(), chance());
            }
            (before, breaker.fare())
        };
        if before != after {
            metrics::cluster_fares(Some(before), Some(after));
            match (before, after) {
                (_, Fare::Degraded) => {
                    tracing::warn!(server = %self.server, "the API server does not answer")
                }
                (Fare::Degraded, _) => tracing::info!(server = %self.server, "the API server answers again"),
                _ => {}
            }
        }
    }
}

impl Drop for Rails {
    fn drop(&mut self) {
        let last = self.breaker().fare();
        metrics::cluster_fares(Some(last), None);
    }
}
