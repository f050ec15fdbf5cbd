//! Children that nobody follows: since when, and whether somebody was asked whose they are. A byte each, that was free.
use super::State;

/// How far it is known whose a child is that nobody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lookup {
    /// It is followed, or nobody has looked yet.
    #[default]
    New,
    /// One look has found it unfollowed: whoever follows it may be about to.
    Seen,
    /// Two have: it is to be looked up.
    Due,
    /// An inventory lists it.
    Recorded,
    /// None does.
    Unrecorded,
}

impl Lookup {
    /// A list has shown it: what was recorded once may not be any more.
    pub(super) fn listed(&mut self) {
        if *self == Self::Recorded {
            *self = Self::New;
        }
    }
}

/// What a look at all children found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::children::watch) struct Look {
    /// To be looked up.
    pub(in crate::children::watch) due: usize,
    /// Known to be in no inventory.
    pub(in crate::children::watch) unrecorded: usize,
}

impl State {
    /// Looks at all children. What the look before has found unfollowed, too, is due. What is being deleted is on its way.
    pub(in crate::children::watch) fn look(&mut self) -> Look {
        let mut found = Look {
            due: 0,
            unrecorded: 0,
        };
        for slot in self.slots.values_mut().filter(|_| self.synced) {
            let stays = slot.child.as_ref().is_some_and(|child| !child.is_deleting());
            slot.lookup = match slot.lookup {
                _ if !stays || slot.follower.is_some() => Lookup::New,
                Lookup::New => Lookup::Seen,
                Lookup::Seen => Lookup::Due,
                known => known,
            };
            found.due += usize::from(slot.lookup == Lookup::Due);
            found.unrecorded += usize::from(slot.lookup == Lookup::Unrecorded);
        }
        found
    }

    /// Whether the object of this name and UID is to be looked up.
    pub(in crate::children::watch) fn is_due(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let slot = self.slots.get(&self.place(namespace, name));
        slot.is_some_and(|slot| {
            slot.lookup == Lookup::Due && slot.child.as_ref().is_some_and(|child| child.has_uid(uid))
        })
    }

    /// It was looked up. Returns whether that is news: it may be followed, or be gone, meanwhile.
    pub(in crate::children::watch) fn looked_up(
        &mut self,
        namespace: &str,
        name: &str,
        recorded: bool,
    ) -> bool {
        let at = self.place(namespace, name);
        let Some(slot) = self.slots.get_mut(&at).filter(|slot| slot.lookup == Lookup::Due) else {
            return false;
        };
        slot.lookup = match recorded {
            true => Lookup::Recorded,
            false => Lookup::Unrecorded,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{Subject, body};
    use kube::runtime::watcher::Event;
    use serde_json::json;

    const UID: &str = "6a2bd2c5-3b8e-4a54-a1d8-60b2b7a7e0c1";

    fn look(it: &mut Subject) -> (usize, usize) {
        let look = it.state.look();
        (look.due, look.unrecorded)
    }

    #[test]
    fn a_child_is_looked_up_when_two_looks_have_found_it_unfollowed() {
        let mut it = Subject::new();
        assert_eq!(look(&mut it), (0, 0));
        it.list(&[body("c", 1, "v"), body("d", 1, "v")]);
        it.follow("c");
        assert_eq!(look(&mut it), (0, 0));
        assert_eq!(look(&mut it), (1, 0));
        assert!(it.state.is_due("a", "d", UID) && !it.state.is_due("a", "c", UID));
        assert!(!it.state.is_due("a", "d", "another"));
        it.follow("d");
        assert!(!it.state.looked_up("a", "d", false), "its owner has come");
        assert_eq!(look(&mut it), (0, 0));
    }

    #[test]
    fn what_was_left_by_its_owner_has_its_time_before_it_is_looked_up() {
        let mut it = Subject::new();
        it.list(&[]);
        let key = it.key.clone();
        let (_, place) = it.state.follow("a", "c", &key);
        it.take(Event::Apply(body("c", 2, "v")));
        assert_eq!(look(&mut it), (0, 0));
        it.state.unfollow(place.unwrap(), &key);
        assert_eq!(look(&mut it), (0, 0));
        let mut going = body("c", 3, "v");
        going.value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        it.take(Event::Apply(going));
        assert_eq!(look(&mut it), (0, 0), "it is on its way");
        it.take(Event::Delete(body("c", 4, "v")));
        assert_eq!(look(&mut it), (0, 0));
    }

    #[test]
    fn what_is_in_no_inventory_is_counted_until_it_goes_and_what_is_in_one_is_asked_for_again_after_a_list() {
        let mut it = Subject::new();
        let both = [body("c", 1, "v"), body("d", 1, "v")];
        it.list(&both);
        look(&mut it);
        assert_eq!(look(&mut it), (2, 0));
        assert!(it.state.looked_up("a", "c", false) && it.state.looked_up("a", "d", true));
        assert!(!it.state.looked_up("a", "c", false), "told");
        assert_eq!(look(&mut it), (0, 1));
        it.list(&both);
        assert_eq!(look(&mut it), (0, 1));
        assert_eq!(look(&mut it), (1, 1));
        assert!(it.state.is_due("a", "d", UID));
        it.take(Event::Delete(body("c", 2, "v")));
        assert_eq!(look(&mut it), (1, 0));
    }
}
