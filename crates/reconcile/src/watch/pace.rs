//! How soon a watch is opened again: after failures, and where a server, or a proxy, ends each one at once.
//!
//! kube's watcher opens the next watch by itself when one ends without an error, and never pauses: its errors are the
//! only thing that a back-off outside of the stream sees.
use crate::environment::chance;
use http::Request;
use kube::{Client, client::Body};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// No try of an outage is later than this after the one before: the longest pause, and a request without an answer.
const OVER: Duration = Duration::from_secs(90);
const BASE: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(30);

/// [`BASE`], doubled so often, and no more than [`MAX`].
fn doubled(times: u32) -> Duration {
    BASE.saturating_mul(1 << times.min(10)).min(MAX)
}

/// Failures of one watch, one after the other. A watch that recovers without an event does not show that: only time
/// tells the next outage from this one.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    last: Option<Instant>,
    count: u32,
}

impl Failures {
    /// One more. Returns how many it is in a row.
    pub(crate) fn again(&mut self, now: Instant) -> u32 {
        let goes_on = |last: Instant| now.duration_since(last) < OVER;
        if !self.last.replace(now).is_some_and(goes_on) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// How long to wait before the next try: full jitter, so that of many that lost one server no two come back together.
    pub(crate) fn pause(&self) -> Duration {
        self.longest().mul_f64(chance())
    }

    fn longest(&self) -> Duration {
        doubled(self.count)
    }

    /// The watch works.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }
}

/// A watch that ended sooner after its start did not serve.
const TOO_SHORT: Duration = Duration::from_secs(5);

/// The watches of one stream, one after the other.
#[derive(Debug, Default)]
struct Pace {
    started: Option<Instant>,
    short: u32,
}

impl Pace {
    /// How long to wait before the next watch is opened; `jitter` is uniform in 0..1.
    fn pause(&mut self, now: Instant, jitter: f64) -> Duration {
        match self.started.take() {
            Some(started) if now.duration_since(started) < TOO_SHORT => {
                self.short = self.short.saturating_add(1)
            }
            Some(_) => self.short = 0,
            // The last try did not even start: the error is waited for elsewhere.
            None => return Duration::ZERO,
        }
        match self.short {
            0 | 1 => Duration::ZERO,
            short => doubled(short - 1).mul_f64(jitter),
        }
    }
}

/// The same client, for one watcher.
pub(crate) fn paced(client: Client) -> Client {
    let pace = Arc::new(Mutex::new(Pace::default()));
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pace) = (client.clone(), pace.clone());
        async move {
            let lock = || pace.lock().unwrap_or_else(PoisonError::into_inner);
            if !request
                .uri()
                .query()
                .is_some_and(|query| query.contains("watch=true"))
            {
                return client.send(request).await;
            }
            let pause = lock().pause(Instant::now(), chance());
            tokio::time::sleep(pause).await;
            let answer: http::Response<Body> = client.send(request).await?;
            if answer.status().is_success() {
                lock().started = Some(Instant::now());
            }
            Ok(answer)
        }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_recovered_without_an_event_fails_for_the_first_time_again() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        assert_eq!(failures.again(start), 1);
        assert_eq!(failures.again(start + Duration::from_secs(60)), 2);
        let later = start + Duration::from_secs(60) + OVER;
        assert_eq!(failures.again(later), 1);
        failures.again(later);
        failures.over();
        assert_eq!(failures.again(later), 1, "an event shows it at once");
    }

    #[test]
    fn pauses_grow_in_an_outage_and_are_short_again_in_the_next() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        let mut longest = Vec::new();
        for _ in 0..9 {
            failures.again(now);
            assert!(failures.pause() <= failures.longest());
            longest.push(failures.longest().as_millis());
            now += failures.longest();
        }
        assert_eq!(longest, [400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        // It recovers, and nothing happens on the cluster.
        failures.again(now + Duration::from_secs(600));
        assert_eq!(failures.longest().as_millis(), 400);
    }

    #[test]
    fn watches_that_end_at_once_are_opened_ever_more_slowly() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(pace.pause(now, 1.0).as_millis());
            pace.started = Some(now);
            now += Duration::from_secs(1);
        }
        assert_eq!(
            pauses,
            [
                0, 0, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000
            ]
        );
        now += TOO_SHORT;
        assert_eq!(pace.pause(now, 1.0), Duration::ZERO);
        assert_eq!(
            pace.pause(now, 1.0),
            Duration::ZERO,
            "a watch that did not start is no short one"
        );
    }
}
