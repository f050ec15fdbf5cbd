//! What the queue remembers of one key, and how the end of a pass changes it.
use super::{Finish, Lane, backoff};
use crate::fault::Class;
use std::time::Duration;

/// No server, and nothing between here and it, keeps a key from its next try for longer.
const ASKED: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) enum Phase {
    Idle {
        due: Option<Due>,
    },
    Queued {
        lane: Lane,
        ticket: u64,
        since: Duration,
    },
    Running {
        lane: Lane,
        since: Duration,
        again: Option<Lane>,
        early: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) lane: Lane,
    pub(super) ticket: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) class: Class,
    pub(super) until: Duration,
    /// The server's wish: no event runs it before.
    pub(super) asked: Duration,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    /// Asked for by the last pass that asked.
    pub(super) timer: Option<Duration>,
    pub(super) hold: Option<Hold>,
    pub(super) attempts: [u32; Class::ALL.len()],
    /// When the last pass ended.
    pub(super) ended: Duration,
}

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle { due: None },
            timer: None,
            hold: None,
            attempts: [0; Class::ALL.len()],
            ended: Duration::ZERO,
        }
    }
    /// Nothing about it needs to be remembered.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self.phase, Phase::Idle { due: None }) && self.attempts == [0; Class::ALL.len()]
    }
}

impl Entry {
    /// Takes over how a pass ended. Returns the time to the retry, if there is one.
    pub(super) fn settle(
        &mut self,
        now: Duration,
        finish: Finish,
        early: bool,
        jitter: f64,
    ) -> Option<Duration> {
        let (class, retry_after, wake) = match finish {
            Finish::Settled | Finish::Wake(_) => {
                self.attempts = Default::default();
                self.hold = None;
                self.timer = match finish {
                    Finish::Wake(after) => Some(now.saturating_add(after)),
                    _ => None,
                };
                return None;
            }
            Finish::Failed {
                class,
                retry_after,
                wake,
            } => (class, retry_after, wake),
        };
        let Some(limits) = backoff::limits(class) else {
            // Only a change of an input helps. A timer that is still ahead keeps its time.
            self.attempts = Default::default();
            self.hold = None;
            self.timer = wake.map(|after| now.saturating_add(after)).or(self.timer);
            return None;
        };
        let asked = now.saturating_add(retry_after.unwrap_or_default().min(ASKED));
        let until = match self.hold {
            Some(hold) if early && hold.class == class => hold.until.max(asked),
            _ => {
                let attempts = &mut self.attempts[class.index()];
                *attempts = attempts.saturating_add(1);
                now.saturating_add(limits.delay(*attempts, jitter)).max(asked)
            }
        };
        // What is merely unreachable asked for nothing.
        let asked = if class == Class::Retry { asked } else { now };
        self.hold = Some(Hold { class, until, asked });
        Some(until.saturating_sub(now))
    }
}
