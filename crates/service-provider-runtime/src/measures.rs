//! What the runtime counts beside the engine's figures: how long tenants wait, and how much it has in its charge.
use jiff::Timestamp;
use openmcp_reconcile::metrics;
use prometheus_client::metrics::{
    gauge::Gauge,
    histogram::{Histogram, exponential_buckets},
};
use std::sync::LazyLock;

struct Measures {
    time_to_ready: Histogram,
    inventory_objects: Gauge,
}

static MEASURES: LazyLock<Measures> = LazyLock::new(|| {
    let measures = Measures {
        time_to_ready: Histogram::new(exponential_buckets(0.1, 2.0, 14)),
        inventory_objects: Gauge::default(),
    };
    metrics::register(|registry| {
        registry.register(
            "sp_time_to_ready_seconds",
            "From the creation of a service object, or from when it was not Ready any more, until it is Ready",
            measures.time_to_ready.clone(),
        );
        registry.register(
            "sp_inventory_objects",
            "Objects in the Inventories of the provider",
            measures.inventory_objects.clone(),
        );
    });
    measures
});

/// A service object is Ready that was not since then.
pub(crate) fn ready(since: Timestamp, now: Timestamp) {
    let waited = now.duration_since(since).as_secs_f64();
    MEASURES.time_to_ready.observe(waited.max(0.0));
}

/// An Inventory has so many entries more, or less.
pub(crate) fn inventory_objects(more: i64) {
    MEASURES.inventory_objects.inc_by(more);
}
