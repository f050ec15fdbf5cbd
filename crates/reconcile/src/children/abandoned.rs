//! Finalizers that nobody is expected to take off: where by force is removed what holds up a deletion.
use jiff::{SignedDuration, Timestamp};

/// The API server's own, which it takes off when the objects of a definition are gone. Without it they would stay in
/// its store, and come back with the definition.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Those of the garbage collector: it deletes or lets go of what belongs to the object before that goes.
const COLLECTOR: [&str; 2] = ["foregroundDeletion", "orphan"];

/// A garbage collector that has not come to an end for so long is dead, or waits for something that is.
const COLLECTOR_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Whether nobody is expected to take a finalizer off an object that is being deleted since then. Force does not know
/// who is dead; but the garbage collector of a cluster is at work as a rule, and what depends on the object would
/// outlive it, or go although it was to stay.
pub(super) fn is_abandoned(finalizer: &str, deleted: Option<Timestamp>, now: Timestamp) -> bool {
    match finalizer {
        CLEANUP => false,
        finalizer if COLLECTOR.contains(&finalizer) => {
            deleted.is_some_and(|at| now.duration_since(at) > COLLECTOR_PATIENCE)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_force_the_garbage_collector_is_given_its_time_and_nobody_else() {
        let deleted = Timestamp::UNIX_EPOCH;
        let after = |minutes| deleted + SignedDuration::from_mins(minutes);
        for of_collector in COLLECTOR {
            assert!(!is_abandoned(of_collector, Some(deleted), after(4)));
            assert!(is_abandoned(of_collector, Some(deleted), after(6)));
            assert!(
                !is_abandoned(of_collector, None, after(6)),
                "it is not deleted yet"
            );
        }
        assert!(is_abandoned("example.com/mine", Some(deleted), deleted));
        assert!(!is_abandoned(CLEANUP, Some(deleted), after(6)));
    }
}
