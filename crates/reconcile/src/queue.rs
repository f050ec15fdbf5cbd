//! The work queue, sans-IO: pure, told the time, property-tested (runtime design §6).

/// How urgent a wake-up is. No lane starves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// A user's change, a deletion, drift.
    Urgent,
    /// A dependency changed.
    Normal,
    /// Config fan-out, first list, audit.
    Bulk,
}
