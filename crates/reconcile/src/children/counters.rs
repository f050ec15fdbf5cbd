//! What the engine counts, under names of its own. Labels are bounded: kinds and managers, never names of objects.
use super::{damper::Damper, drift::Drift, report::Report};
use crate::{metrics, process};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDrift {
    kind: String,
    action: &'static str,
    manager: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

fn from_1ms() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

struct Counters {
    repair_time: Family<OfCause, Histogram, fn() -> Histogram>,
    thrash: Gauge,
    drift: Family<OfDrift, Counter>,
    missed: Family<OfKind, Counter>,
    unrecorded: Family<OfKind, Gauge>,
    applied: Counter,
    noop: Counter,
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let counters = Counters {
        repair_time: Family::new_with_constructor(from_1ms),
        thrash: Gauge::default(),
        drift: Family::default(),
        missed: Family::default(),
        unrecorded: Family::default(),
        applied: Counter::default(),
        noop: Counter::default(),
    };
    metrics::register(|registry| {
        registry.register("sp_drift", "Differences that others made", counters.drift.clone());
        registry.register(
            "sp_time_to_repair_seconds",
            "From the wake-up of a service object to the end of the pass that repaired something, by what had happened",
            counters.repair_time.clone(),
        );
        registry.register(
            "sp_thrash_active",
            "Children that others change again and again: repaired more rarely than they are changed",
            counters.thrash.clone(),
        );
        registry.register(
            "sp_drift_missed",
            "Differences that a list found although the watch had passed them: should stay 0",
            counters.missed.clone(),
        );
        registry.register(
            "sp_unrecorded_objects",
            "Objects that bear our label and are in no inventory: they are left alone, the log names them",
            counters.unrecorded.clone(),
        );
        registry.register(
            "sp_applied_objects",
            "Objects that were applied",
            counters.applied.clone(),
        );
        registry.register(
            "sp_noop_reconciles",
            "Passes that sent nothing to any cluster",
            counters.noop.clone(),
        );
    });
    counters
});

/// Keeps the gauge of fights.
pub(super) fn watch_thrash(damper: &Arc<Damper>) {
    let damper = Arc::downgrade(damper);
    process::add_measure(move || {
        let Some(damper) = damper.upgrade() else {
            return false;
        };
        let active = damper.active(Timestamp::now());
        COUNTERS.thrash.set(i64::try_from(active).unwrap_or(i64::MAX));
        true
    });
}

/// A difference was repaired, or seen and left alone.
fn drift(drift: &Drift, repaired: bool) {
    let of = OfDrift {
        kind: drift.kind.clone(),
        action: if repaired { "repair" } else { "report" },
        manager: known(&drift.by).to_owned(),
    };
    COUNTERS.drift.get_or_create(&of).inc();
}

/// A list found differences that the watch should have told.
pub(super) fn missed(kind: &str, count: u64) {
    let kind = kind.to_owned();
    COUNTERS.missed.get_or_create(&OfKind { kind }).inc_by(count);
}

/// What is known to be in no inventory, by kind.
pub(super) fn unrecorded(counts: BTreeMap<String, usize>) {
    // Kinds that are not watched any more are not counted any more.
    COUNTERS.unrecorded.clear();
    for (kind, count) in counts {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        COUNTERS.unrecorded.get_or_create(&OfKind { kind }).set(count);
    }
}

pub(super) fn one_more_unrecorded(kind: &str) {
    let kind = kind.to_owned();
    COUNTERS.unrecorded.get_or_create(&OfKind { kind }).inc();
}

/// A pass is over.
pub(super) fn pass(report: &Report, took: Duration) {
    for repaired in &report.repaired {
        drift(repaired, true);
        let cause = if repaired.is_deletion() {
            "deleted"
        } else {
            "changed"
        };
        COUNTERS
            .repair_time
            .get_or_create(&OfCause { cause })
            .observe(took.as_secs_f64());
    }
    report.detected.iter().for_each(|detected| drift(detected, false));
    if report.applied == 0 {
        COUNTERS.noop.inc();
    } else {
        COUNTERS.applied.inc_by(report.applied as u64);
    }
}

/// Tenants choose their managers' names: only the usual ones become labels.
fn known(manager: &str) -> &str {
    const USUAL: [&str; 6] = [
        "kubectl-edit",
        "kubectl-set",
        "kubectl-patch",
        "kubectl-client-side-apply",
        "kubectl",
        "unknown",
    ];
    if USUAL.contains(&manager) {
        manager
    } else {
        "other"
    }
}
