//! One pass over one key: its deadline, its panics, and what the queue learns of its end.
use super::{Key, Outcome, Reconciler, Shared};
use crate::{
    Fault, Lane,
    fault::Class,
    queue::{Finish, Job},
};
use futures::FutureExt;
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::Instrument;

/// How long [`Reconciler::report`] may take after a pass that ran out of time or panicked.
pub(super) const REPORT_GRACE: Duration = Duration::from_secs(5);

tokio::task_local! {
    static PASS: Pass;
}

/// What work inside of a pass may know of it.
#[derive(Clone, Copy)]
struct Pass {
    lane: Lane,
    /// When its key was woken.
    woken: Option<Instant>,
}

/// The lane of the pass that asks: what it waits for together with others comes in this order. Whatever is no pass does
/// not wait for bulk work either.
pub(crate) fn lane() -> Lane {
    PASS.try_with(|pass| pass.lane).unwrap_or(Lane::Normal)
}

/// Since when the key of the pass that asks was to run.
pub(crate) fn woken() -> Option<Instant> {
    PASS.try_with(|pass| pass.woken).ok().flatten()
}

/// Work as of a pass in a lane.
#[cfg(test)]
pub(crate) fn in_lane<T>(lane: Lane, work: impl Future<Output = T>) -> impl Future<Output = T> {
    PASS.scope(Pass { lane, woken: None }, work)
}

/// A key that runs. Also if its pass is cut off the queue learns that it has ended, and tries it again.
pub(super) struct Running {
    shared: Arc<Shared>,
    key: Key,
    pass: Pass,
    ended: bool,
}

impl Running {
    pub(super) fn next(shared: &Arc<Shared>) -> Option<Self> {
        let Job { key, lane, waited } = shared.take()?;
        let woken = Instant::now().checked_sub(waited);
        Some(Self {
            key,
            pass: Pass { lane, woken },
            shared: shared.clone(),
            ended: false,
        })
    }

    fn finish(mut self, took: Duration, ended: &Result<Outcome, Fault>) {
        self.ended = true;
        self.shared.finish(&self.key, took, ended);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let finish = Finish::Failed {
            class: Class::Unreachable,
            retry_after: None,
            wake: None,
        };
        let now = self.shared.now();
        self.shared
            .queue()
            .done(now, &self.key, finish, crate::environment::chance());
        self.shared.changed.notify_one();
    }
}

/// One pass over one key: never panics, never outlives its deadline by more than the reporting grace.
pub(super) async fn pass<R: Reconciler>(reconciler: Arc<R>, running: Running, deadline: Duration) {
    let (shared, key) = (running.shared.clone(), running.key.clone());
    let span = tracing::info_span!("reconcile", controller = shared.name, %key);
    let of = running.pass;
    let work = async {
        let start = Instant::now();
        let work = AssertUnwindSafe(reconciler.reconcile(&key)).catch_unwind();
        let ended = match tokio::time::timeout(deadline, work).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => {
                shared.metrics.panicked();
                let what = format!("reconciling {key} panicked: {}", panic_text(panic.as_ref()));
                Err(report(&*reconciler, &key, Fault::new(Class::Bug, "Panic", what)).await)
            }
            Err(_elapsed) => {
                shared.metrics.timed_out();
                let what = format!("reconciling {key} took longer than {deadline:?} and was cancelled");
                Err(report(
                    &*reconciler,
                    &key,
                    Fault::new(Class::Unreachable, "DeadlineExceeded", what),
                )
                .await)
            }
        };
        running.finish(start.elapsed(), &ended);
    };
    PASS.scope(of, work).instrument(span).await;
}

async fn report<R: Reconciler>(reconciler: &R, key: &Key, fault: Fault) -> Fault {
    let report = AssertUnwindSafe(reconciler.report(key, &fault)).catch_unwind();
    match tokio::time::timeout(REPORT_GRACE, report).await {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => tracing::error!("reporting a fault panicked: {}", panic_text(panic.as_ref())),
        Err(_elapsed) => tracing::warn!("reporting a fault took longer than {REPORT_GRACE:?}"),
    }
    fault
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&'static str>().copied())
        .unwrap_or("without words")
}
