//! One container's life: start, probes, exit, back-off, restart. A [`Supervisor`] tells what happens on the pod's
//! [`Board`]; it knows nothing of the pod's phase or conditions.
mod backoff;
mod board;
mod log;
mod prepare;
mod probe;
mod running;

pub(super) use backoff::LONGEST as LONGEST_BACKOFF;
pub(super) use board::{Board, Statuses, finished, message_of};
pub(super) use log::{Line, Live, Logs};

use super::{
    events::Subject,
    objects::Subscriptions,
    pod::{PodContext, PodView},
};
use backoff::Backoff;
use k8s_openapi::{
    api::core::v1::{Container, ContainerStateTerminated, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use nix::sys::signal::Signal;
use prepare::{Missing, Prepared};
use probe::{Finding, Probes};
use running::{Exit, Running};
use std::{fs, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Bytes of a termination message from its file, and from the log where there is no file.
const MESSAGE_FROM_FILE: usize = 4096;
const MESSAGE_FROM_LOG: usize = 2048;

/// The exit code of a container that could not be started, as other runtimes report it.
const CANNOT_START: i32 = 128;

/// Which of a pod's lists a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Main,
}

/// When the pod's containers have to be gone; `None` while they shall run.
pub(super) type StopAt = watch::Receiver<Option<Instant>>;

/// Runs one container until it needs no restart or is told to stop.
pub(super) struct Supervisor {
    pub(super) pod: Arc<PodContext>,
    pub(super) view: PodView,
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) objects: Subscriptions,
    pub(super) logs: Arc<Logs>,
    pub(super) board: Board,
    pub(super) stop: StopAt,
}

/// How one start of the container came to its end.
struct End {
    code: i32,
    /// Its image was changed: it is started again whatever the policy says.
    replaced: bool,
}

impl Supervisor {
    /// Returns when the container has ended for good; the board says how.
    pub(super) async fn run(mut self) {
        let longest = self.pod.node.config.max_restart_backoff_seconds;
        let mut backoff = Backoff::new(longest.map_or(LONGEST_BACKOFF, |s| Duration::from_secs(s.into())));
        let (mut attempt, last) = self.board.past(&self.name);
        if last.is_some_and(|code| !self.restarts_after(code)) {
            return;
        }
        while let Some((pod, container, prepared)) = self.until_prepared().await {
            let born = std::time::Instant::now();
            let end = self.attempt(attempt, &pod, &container, prepared).await;
            attempt += 1;
            if self.stop.borrow().is_some() || !(end.replaced || self.restarts_after(end.code)) {
                return;
            }
            let wait = match end.replaced {
                true => Duration::ZERO,
                false => backoff.after(born, std::time::Instant::now()),
            };
            if !wait.is_zero() && !self.back_off(&pod, wait).await {
                return;
            }
        }
    }

    /// The restart policy. An init container that has succeeded is never run again.
    fn restarts_after(&self, code: i32) -> bool {
        let pod = self.view.borrow().clone();
        let policy = pod
            .as_ref()
            .and_then(|pod| pod.spec.as_ref()?.restart_policy.clone());
        restarts(policy.as_deref(), self.role, code)
    }

    /// Waits in the state CrashLoopBackOff; false if the container is to stop.
    async fn back_off(&mut self, pod: &Pod, wait: Duration) -> bool {
        let message = format!(
            "back-off {} s restarting failed container {:?}",
            wait.as_secs(),
            self.name
        );
        self.board
            .waiting(&self.name, "CrashLoopBackOff", Some(message.clone()));
        self.pod.node.events.warning(self.about(pod), "BackOff", message);
        tokio::select! {
            _ = stopped(&mut self.stop) => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Waits for everything that the container needs; `None` if it is to stop first.
    async fn until_prepared(&mut self) -> Option<(Arc<Pod>, Container, Prepared)> {
        loop {
            if self.stop.borrow().is_some() {
                return None;
            }
            let pod = self.view.borrow_and_update().clone()?;
            let container = self.container(&pod)?.clone();
            let missing = match self.prepare(&pod, &container) {
                Ok(prepared) => return Some((pod, container, prepared)),
                Err(missing) => missing,
            };
            let again = missing.again;
            self.tell_missing(&pod, missing);
            let timer = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stopped(&mut self.stop) => return None,
                () = self.objects.changed() => {}
                changed = self.view.changed() => changed.ok()?,
                () = timer => {}
            }
        }
    }

    fn tell_missing(&self, pod: &Pod, missing: Missing) {
        let message = missing.message;
        if self
            .board
            .waiting(&self.name, missing.reason, Some(message.clone()))
        {
            self.pod
                .node
                .events
                .warning(self.about(pod), missing.reason, message);
        }
    }

    fn about<'a>(&'a self, pod: &'a Pod) -> Subject<'a> {
        Subject::container(pod, &self.name)
    }

    fn container<'a>(&self, pod: &'a Pod) -> Option<&'a Container> {
        let spec = pod.spec.as_ref()?;
        let list = match self.role {
            Role::Init => spec.init_containers.as_ref()?,
            Role::Main => &spec.containers,
        };
        list.iter().find(|container| container.name == self.name)
    }

    /// One start of the container, to its end.
    async fn attempt(&mut self, attempt: i32, pod: &Pod, container: &Container, prepared: Prepared) -> End {
        let born = Timestamp::now();
        let name = format!(
            "{}/{}/{} {}",
            self.pod.namespace, self.pod.name, self.name, self.pod.uid
        );
        let started = match self.logs.begin(attempt) {
            Ok(log) => Running::start(&self.pod.node, &name, &prepared.sandbox, &log).await,
            Err(error) => Err(error.into()),
        };
        let mut running = match started {
            Ok(running) => running,
            Err(error) => return self.cannot_start(pod, attempt, born, error.to_string()),
        };
        let id = Some(format!("process://{}/{}/{attempt}", self.pod.uid, self.name));
        if running.runs() {
            self.board
                .running(&self.name, attempt, born, &prepared.image.id, id.clone());
            let note = format!("Started container {:?}", self.name);
            self.pod.node.events.normal(self.about(pod), "Started", note);
        }
        let replaced = self.accompany(&mut running, pod, container).await;
        let exit = running.exit().await;
        if !exit.executed {
            let message = self.logs.tail(attempt, MESSAGE_FROM_LOG);
            return self.cannot_start(pod, attempt, born, message);
        }
        let termination = ContainerStateTerminated {
            container_id: id,
            exit_code: exit.code,
            finished_at: Some(Time(Timestamp::now())),
            message: self.message(container, attempt, exit),
            reason: Some(if exit.code == 0 { "Completed" } else { "Error" }.to_owned()),
            signal: None,
            started_at: Some(Time(born)),
        };
        self.board.terminated(&self.name, attempt, termination);
        End {
            code: exit.code,
            replaced,
        }
    }

    fn cannot_start(&self, pod: &Pod, attempt: i32, born: Timestamp, problem: String) -> End {
        let message = format!("container {:?} cannot be started: {problem}", self.name);
        self.pod
            .node
            .events
            .warning(self.about(pod), "Failed", message.clone());
        let termination = ContainerStateTerminated {
            exit_code: CANNOT_START,
            finished_at: Some(Time(Timestamp::now())),
            message: Some(message),
            reason: Some("StartError".to_owned()),
            started_at: Some(Time(born)),
            ..ContainerStateTerminated::default()
        };
        self.board.terminated(&self.name, attempt, termination);
        End {
            code: CANNOT_START,
            replaced: false,
        }
    }

    /// Probes and waits until the process has ended, by itself or by us. True if it is to be replaced.
    async fn accompany(&mut self, running: &mut Running, pod: &Pod, container: &Container) -> bool {
        let mut probes = Probes::start(container, self.pod.address);
        loop {
            tokio::select! {
                biased;
                () = running.ended() => return false,
                until = stopped(&mut self.stop) => {
                    self.terminate(running, until).await;
                    return false;
                }
                finding = probes.next() => {
                    if let Some(grace) = self.note(pod, finding) {
                        drop(probes);
                        self.terminate(running, Instant::now() + grace).await;
                        return false;
                    }
                }
                () = other_image(&mut self.view, self.role, container) => {
                    let note = format!("Container {:?} has another image now: it is replaced", self.name);
                    self.pod.node.events.normal(self.about(pod), "Killing", note);
                    self.terminate(running, Instant::now() + grace(pod)).await;
                    return true;
                }
            }
        }
    }

    /// Puts a finding on the board; the grace if the container has to end.
    fn note(&self, pod: &Pod, finding: Finding) -> Option<Duration> {
        match finding {
            Finding::Started => self.board.started(&self.name),
            Finding::Ready => self.board.ready(&self.name, true),
            Finding::Unready(why) => {
                self.board.ready(&self.name, false);
                self.pod.node.events.warning(self.about(pod), "Unhealthy", why);
            }
            Finding::Dead { message, grace: own } => {
                self.board.ready(&self.name, false);
                let note = format!("Container {:?}: {message}; it is ended", self.name);
                self.pod.node.events.warning(self.about(pod), "Unhealthy", note);
                return Some(own.unwrap_or_else(|| grace(pod)));
            }
        }
        None
    }

    /// SIGTERM to the entry, SIGKILL at the deadline (which may come nearer meanwhile).
    async fn terminate(&mut self, running: &mut Running, until: Instant) {
        let mut until = until;
        if until > Instant::now() {
            running.signal(Signal::SIGTERM);
        }
        loop {
            tokio::select! {
                biased;
                () = running.ended() => return,
                () = tokio::time::sleep_until(until) => break,
                Ok(()) = self.stop.changed() => {
                    let sooner = *self.stop.borrow_and_update();
                    until = sooner.map_or(until, |sooner| sooner.min(until));
                }
            }
        }
        running.signal(Signal::SIGKILL);
        running.ended().await;
    }

    /// What the container left to say: its termination log, or the end of its output if it asks for that.
    fn message(&self, container: &Container, attempt: i32, exit: Exit) -> Option<String> {
        let file = self.pod.folders.termination_log(&self.name);
        let mut bytes = fs::read(file).unwrap_or_default();
        bytes.truncate(MESSAGE_FROM_FILE);
        let left = String::from_utf8_lossy(&bytes).into_owned();
        let from_log = exit.code != 0
            && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let message = match left.is_empty() && from_log {
            true => self.logs.tail(attempt, MESSAGE_FROM_LOG),
            false => left,
        };
        Some(message).filter(|message| !message.is_empty())
    }
}

/// Waits until the container is to stop, and says by when.
pub(super) async fn stopped(stop: &mut StopAt) -> Instant {
    let until = stop.wait_for(Option::is_some).await.ok().and_then(|until| *until);
    match until {
        Some(until) => until,
        None => std::future::pending().await,
    }
}

async fn other_image(view: &mut PodView, role: Role, running: &Container) {
    let changed = view.wait_for(|pod| {
        let spec = pod.as_ref().and_then(|pod| pod.spec.as_ref());
        let list = spec.and_then(|spec| match role {
            Role::Init => spec.init_containers.as_ref(),
            Role::Main => Some(&spec.containers),
        });
        let mut same = list
            .into_iter()
            .flatten()
            .filter(|other| other.name == running.name);
        same.any(|other| other.image != running.image)
    });
    if changed.await.is_err() {
        std::future::pending().await
    }
}

/// The pod's termination grace.
pub(super) fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(30),
    )
}

/// Whether a container that ended with this code is started again.
pub(super) fn restarts(policy: Option<&str>, role: Role, code: i32) -> bool {
    match (policy.unwrap_or("Always"), role) {
        ("Never", _) => false,
        ("Always", Role::Main) => true,
        _ => code != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_restart_policy_decides_and_init_containers_succeed_once() {
        let cases = [
            ("Always", Role::Main, 0, true),
            ("Always", Role::Main, 1, true),
            ("OnFailure", Role::Main, 0, false),
            ("OnFailure", Role::Main, 1, true),
            ("Never", Role::Main, 1, false),
            ("Always", Role::Init, 0, false),
            ("Always", Role::Init, 1, true),
            ("Never", Role::Init, 1, false),
        ];
        for (policy, role, code, expected) in cases {
            assert_eq!(
                restarts(Some(policy), role, code),
                expected,
                "{policy} {role:?} {code}"
            );
        }
    }
}
