//! Startup, liveness and readiness probes: HTTP and TCP, from the node to the pod's address.
mod check;

use check::Check;
use k8s_openapi::api::core::v1::{Container, Probe as ProbeSpec};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Until it has succeeded for the first time, a probe is also tried in between its periods, so that a program that is
/// up after 200 ms is not called unready for 10 s. A failure in between does not count.
const FIRST_EXTRA_TRY: Duration = Duration::from_millis(50);

/// What the probes of a container have found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Started,
    Ready,
    /// Not ready any more, and why.
    Unready(String),
    /// To be ended: which probe failed and why, and its own grace.
    Dead {
        message: String,
        grace: Option<Duration>,
    },
}

/// The probes of a running container; they end when this is dropped.
pub(super) struct Probes {
    findings: mpsc::Receiver<Finding>,
    task: tokio::task::AbortHandle,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Starts to probe a container that has just been started.
    pub(super) fn start(container: &Container, address: Ipv4Addr) -> Self {
        let probe = |spec: &Option<ProbeSpec>| spec.as_ref().map(|spec| Probe::new(spec, container, address));
        let (startup, liveness, readiness) = (
            probe(&container.startup_probe),
            probe(&container.liveness_probe),
            probe(&container.readiness_probe),
        );
        let (tell, findings) = mpsc::channel(4);
        let born = Instant::now();
        let task = tokio::spawn(async move {
            if let Some(startup) = startup
                && !startup.until_started(born, &tell).await
            {
                return;
            }
            if tell.send(Finding::Started).await.is_err() {
                return;
            }
            let liveness = async {
                if let Some(probe) = liveness {
                    probe.until_dead(born, &tell).await;
                }
            };
            let readiness = async {
                match readiness {
                    Some(probe) => probe.for_ever(born, &tell).await,
                    None => drop(tell.send(Finding::Ready).await),
                }
            };
            tokio::join!(liveness, readiness);
        });
        Self {
            findings,
            task: task.abort_handle(),
        }
    }

    /// The next finding; never returns once there can be none.
    pub(super) async fn next(&mut self) -> Finding {
        match self.findings.recv().await {
            Some(finding) => finding,
            None => std::future::pending().await,
        }
    }
}

/// One probe with everything resolved.
struct Probe {
    check: Check,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
    grace: Option<Duration>,
}

/// Successes and failures in a row. Pure.
#[derive(Default)]
struct Tally {
    successes: u32,
    failures: u32,
}

impl Tally {
    fn count(&mut self, success: bool) {
        if success {
            (self.successes, self.failures) = (self.successes + 1, 0);
        } else {
            (self.successes, self.failures) = (0, self.failures + 1);
        }
    }
}

impl Probe {
    fn new(spec: &ProbeSpec, container: &Container, address: Ipv4Addr) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .unwrap_or(default),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        Self {
            check: Check::new(spec, container, address),
            delay: seconds(spec.initial_delay_seconds, 0),
            period: seconds(spec.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(spec.timeout_seconds, 1).max(Duration::from_secs(1)),
            successes: count(spec.success_threshold, 1),
            failures: count(spec.failure_threshold, 3),
            grace: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
        }
    }

    async fn until_started(&self, born: Instant, tell: &mpsc::Sender<Finding>) -> bool {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        loop {
            let counts = rhythm.next(true).await;
            let result = self.check.run(self.timeout).await;
            if result.is_ok() || counts {
                tally.count(result.is_ok());
            }
            if tally.successes >= self.successes {
                return true;
            }
            if tally.failures >= self.failures {
                self.bury("startup", result, tell).await;
                return false;
            }
        }
    }

    async fn until_dead(&self, born: Instant, tell: &mpsc::Sender<Finding>) {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        loop {
            rhythm.next(false).await;
            let result = self.check.run(self.timeout).await;
            tally.count(result.is_ok());
            if tally.failures >= self.failures {
                return self.bury("liveness", result, tell).await;
            }
        }
    }

    async fn bury(&self, which: &str, result: Result<(), String>, tell: &mpsc::Sender<Finding>) {
        let problem = result.err().unwrap_or_default();
        let finding = Finding::Dead {
            message: format!("{which} probe failed: {problem}"),
            grace: self.grace,
        };
        let _ = tell.send(finding).await;
    }

    async fn for_ever(&self, born: Instant, tell: &mpsc::Sender<Finding>) {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        let mut ready = false;
        let mut once_ready = false;
        loop {
            let counts = rhythm.next(!once_ready).await;
            let result = self.check.run(self.timeout).await;
            if result.is_ok() || counts {
                tally.count(result.is_ok());
            }
            let finding = if !ready && tally.successes >= self.successes {
                (ready, once_ready) = (true, true);
                Finding::Ready
            } else if ready && tally.failures >= self.failures {
                ready = false;
                Finding::Unready(format!(
                    "readiness probe failed: {}",
                    result.err().unwrap_or_default()
                ))
            } else {
                continue;
            };
            if tell.send(finding).await.is_err() {
                return;
            }
        }
    }
}

/// When to try: at the start, then every period; with `eager` also in between, at growing distances.
struct Rhythm {
    due: Instant,
    period: Duration,
    extra: Duration,
    next_extra: Instant,
}

impl Rhythm {
    fn new(first: Instant, period: Duration) -> Self {
        Self {
            due: first,
            period,
            extra: FIRST_EXTRA_TRY,
            next_extra: first,
        }
    }

    /// Waits for the next try; true if its failure counts.
    async fn next(&mut self, eager: bool) -> bool {
        if eager && self.next_extra < self.due {
            tokio::time::sleep_until(self.next_extra).await;
            self.plan_extra();
            return false;
        }
        tokio::time::sleep_until(self.due).await;
        self.due = Instant::now() + self.period;
        self.plan_extra();
        true
    }

    fn plan_extra(&mut self) {
        self.next_extra = Instant::now() + self.extra;
        self.extra = (self.extra * 2).min(self.period);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    fn container(port: u16, probes: &[&str]) -> Container {
        let mut container =
            serde_json::json!({"name": "main", "ports": [{"name": "web", "containerPort": port}]});
        for probe in probes {
            container[probe] = serde_json::json!({"tcpSocket": {"port": "web"}, "failureThreshold": 1});
        }
        serde_json::from_value(container).unwrap()
    }

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_container_without_probes_is_started_and_ready() {
        let mut probes = Probes::start(&container(1, &[]), Ipv4Addr::LOCALHOST);
        assert_eq!(probes.next().await, Finding::Started);
        assert_eq!(probes.next().await, Finding::Ready);
    }

    #[tokio::test]
    async fn a_program_that_answers_soon_is_ready_soon() {
        let (listener, port) = listener();
        drop(listener);
        let born = Instant::now();
        let mut probes = Probes::start(&container(port, &["readinessProbe"]), Ipv4Addr::LOCALHOST);
        assert_eq!(probes.next().await, Finding::Started);
        let late = tokio::time::sleep(Duration::from_millis(120));
        late.await;
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(probes.next().await, Finding::Ready);
        assert!(born.elapsed() < Duration::from_secs(5), "not a whole period");
    }

    #[tokio::test]
    async fn a_failing_liveness_probe_says_what_failed() {
        let (listener, port) = listener();
        drop(listener);
        let mut probes = Probes::start(&container(port, &["livenessProbe"]), Ipv4Addr::LOCALHOST);
        assert_eq!(probes.next().await, Finding::Started);
        let mut dead = probes.next().await;
        if dead == Finding::Ready {
            dead = probes.next().await;
        }
        let Finding::Dead { message, .. } = dead else {
            unreachable!("{dead:?}");
        };
        assert!(message.starts_with("liveness probe failed"), "{message}");
    }
}
