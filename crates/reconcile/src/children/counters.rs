//! What the engine counts, under names of its own. Labels are bounded: kinds and managers, never names of objects.
use super::drift::Drift;
use crate::metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use std::sync::LazyLock;

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

#[derive(Default)]
struct Counters {
    drift: Family<OfDrift, Counter>,
    missed: Family<OfKind, Counter>,
    applied: Counter,
    noop: Counter,
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let counters = Counters::default();
    metrics::register(|registry| {
        registry.register("sp_drift", "Differences that others made", counters.drift.clone());
        registry.register(
            "sp_drift_missed",
            "Differences that a list found although the watch had passed them: should stay 0",
            counters.missed.clone(),
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

/// A difference was repaired, or seen and left alone.
pub(super) fn drift(drift: &Drift, repaired: bool) {
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

/// A pass is over.
pub(super) fn pass(applied: usize) {
    if applied == 0 {
        COUNTERS.noop.inc();
    } else {
        COUNTERS.applied.inc_by(applied as u64);
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
