//! What keeps one API server from costing the others: a bound on requests in flight, the circuit breaker, and an eye on
//! how long requests take.
use super::{
    breaker::{Breaker, Fare},
    pace::{self, Pace},
    turns::Turns,
};
use crate::{Lane, controller::lane, environment::chance, metrics, process};
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
    bulk: Bulk,
    turns: Option<Turns>,
    _host: metrics::Host,
}

/// Requests of bulk passes: a fan-out over a cluster that many share does not make an order's requests wait at its
/// server.
struct Bulk {
    places: Semaphore,
    /// With the number of places that there are, free or not.
    pace: Mutex<(Pace, usize)>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// A write was answered.
    Wrote,
    /// A read was answered.
    Read,
    /// The server had no time for it.
    Refused,
    /// Nothing.
    None,
}

impl Bulk {
    fn new(in_turns: bool) -> Self {
        Self {
            places: Semaphore::new(pace::LEAST),
            pace: Mutex::new((Pace::new(in_turns), pace::LEAST)),
        }
    }

    /// One leaves its place: there may be more from now on, or one less.
    fn leaves(&self, place: SemaphorePermit<'_>, reply: Reply, took: Duration) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (pace, places) = &mut *pace;
        match reply {
            Reply::Wrote => pace.answered(took, self.places.available_permits() == 0),
            Reply::Refused => pace.refused(),
            Reply::Read | Reply::None => {}
        }
        let limit = pace.limit();
        if *places < limit {
            self.places.add_permits(limit - *places);
            *places = limit;
        } else if *places > limit {
            *places -= 1;
            place.forget();
        }
    }
}

/// Held while a request is in flight.
pub(super) struct Permit<'a> {
    since: Instant,
    bulk: Option<SemaphorePermit<'a>>,
    _place: Option<SemaphorePermit<'a>>,
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
            _host: metrics::Host::of(&server),
            server,
            start: Instant::now(),
            breaker: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
            bulk: Bulk::new(turns.is_some()),
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
    pub(super) async fn admit(&self, free: bool) -> Result<Option<Permit<'_>>, Open> {
        if free {
            return Ok(None);
        }
        // The semaphores are never closed.
        let bulk = match lane() {
            Lane::Bulk => self.bulk.places.acquire().await.ok(),
            Lane::Urgent | Lane::Normal => None,
        };
        let place = self.in_flight.acquire().await.ok();
        let admitted = self.breaker().admit(self.start.elapsed());
        match admitted {
            Ok(()) => Ok(Some(Permit {
                since: Instant::now(),
                bulk,
                _place: place,
            })),
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

    /// What came of the request that the permit was for.
    pub(super) fn note(&self, permit: Option<Permit<'_>>, reply: Reply) {
        if let Some(Permit {
            since,
            bulk: Some(place),
            ..
        }) = permit
        {
            self.bulk.leaves(place, reply, since.elapsed());
        }
        let (before, after) = {
            let mut breaker = self.breaker();
            let before = breaker.fare();
            match reply {
                Reply::None => breaker.failed(self.start.elapsed(), chance()),
                Reply::Wrote | Reply::Read | Reply::Refused => breaker.succeeded(),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::controller::in_lane;
    use futures::{FutureExt, future::join_all};

    #[tokio::test]
    async fn the_places_of_bulk_work_follow_the_pace_of_the_server() {
        let rails = Rails::new("https://server/".into(), None);
        let places = || {
            let (_, places) = *rails.bulk.pace.lock().unwrap();
            assert_eq!(rails.bulk.places.available_permits(), places, "none is lost");
            places
        };
        let answers = async |took: u64, rounds| {
            for _ in 0..rounds {
                let all = (0..places()).map(|_| in_lane(Lane::Bulk, rails.admit(false)));
                for permit in join_all(all).await {
                    let mut permit = permit.unwrap().unwrap();
                    permit.since = Instant::now() - Duration::from_millis(took);
                    rails.note(Some(permit), Reply::Wrote);
                }
            }
            places()
        };
        // Far from LATE, so that a stall of the machine does not make the busy one late.
        let (near, busy) = (answers(50, 60).await, answers(500, 20).await);
        assert!(near > 2 * pace::LEAST && busy == pace::LEAST, "{near} {busy}");
    }

    #[tokio::test]
    async fn bulk_work_leaves_places_at_the_server_for_what_users_do() {
        let rails = Rails::new("https://server/".into(), None);
        let places = (0..pace::LEAST).map(|_| in_lane(Lane::Bulk, rails.admit(false)));
        let bulk = join_all(places).await;
        assert!(bulk.iter().all(Result::is_ok));
        assert!(in_lane(Lane::Bulk, rails.admit(false)).now_or_never().is_none());
        for lane in [Lane::Urgent, Lane::Normal] {
            assert!(in_lane(lane, rails.admit(false)).now_or_never().is_some());
        }
        assert!(rails.admit(false).now_or_never().is_some(), "what is no pass");
    }
}
