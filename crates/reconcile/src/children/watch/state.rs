//! What one watch knows: a digest for each child, and who is woken by which. Pure: events go in, keys to wake come out.
//!
//! There may be a hundred thousand children in a process, so each of them is small, and the name of its place is not
//! stored at all.
mod unfollowed;

use super::super::observe::{Body, Child};
use crate::{Key, digest::Digester};
use kube::{Resource, runtime::watcher::Event};
use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
};
use unfollowed::Lookup;

/// A namespace and a name, as 128 bits that nobody outside this process can foresee. They are only ever compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place([u64; 2]);

#[derive(Default)]
pub(super) struct State {
    places: [RandomState; 2],
    slots: HashMap<Place, Slot>,
    /// Who follows a place beside its first follower.
    others: HashMap<Place, Vec<Key>>,
    /// Who is woken when any object comes or goes.
    crowd: Vec<Key>,
    /// Who is woken when the first list is complete, or fails.
    waiting: BTreeSet<Key>,
    synced: bool,
    /// Why the last try failed.
    failure: Option<String>,
    /// Counts lists: what the last one did not show has left the watch.
    list: u32,
    /// The newest version that an event of the watch has shown: what is older and not known was missed.
    newest: u64,
    missed: u64,
}

/// A place with its child, or where one is expected.
#[derive(Default)]
struct Slot {
    child: Option<Child>,
    /// There is nearly always one.
    follower: Option<Key>,
    /// The list that showed it last.
    list: u32,
    /// Of a child that nobody follows: whose it is.
    lookup: Lookup,
}

impl State {
    /// `Ok(false)` until the first list is complete; the key is woken then. `Err`: why the list fails.
    pub(super) fn synced(&mut self, key: &Key) -> Result<bool, String> {
        if !self.synced {
            self.waiting.insert(key.clone());
        }
        match (&self.failure, self.synced) {
            (Some(failure), false) => Err(failure.clone()),
            (_, synced) => Ok(synced),
        }
    }

    /// Whether the first list is complete.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    fn place(&self, namespace: &str, name: &str) -> Place {
        Place(
            self.places
                .each_ref()
                .map(|hash| hash.hash_one((namespace, name))),
        )
    }

    fn place_of(&self, body: &Body) -> Place {
        let meta = body.meta();
        self.place(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    /// The child of this name. From now on its changes wake the key; its place is returned if that is new.
    pub(super) fn follow(
        &mut self,
        namespace: &str,
        name: &str,
        key: &Key,
    ) -> (Option<Child>, Option<Place>) {
        let place = self.place(namespace, name);
        let slot = self.slots.entry(place).or_default();
        slot.lookup = Lookup::default();
        let child = slot.child.clone();
        let others = self.others.get(&place);
        if slot
            .follower
            .iter()
            .chain(others.into_iter().flatten())
            .any(|held| held == key)
        {
            return (child, None);
        }
        match &slot.follower {
            None => slot.follower = Some(key.clone()),
            Some(_) => self.others.entry(place).or_default().push(key.clone()),
        }
        (child, Some(place))
    }

    pub(super) fn unfollow(&mut self, at: Place, key: &Key) {
        let Some(slot) = self.slots.get_mut(&at) else {
            return;
        };
        slot.lookup = Lookup::default();
        if let Some(others) = self.others.get_mut(&at) {
            others.retain(|held| held != key);
            if slot.follower.as_ref() == Some(key) {
                slot.follower = others.pop();
            }
            if others.is_empty() {
                self.others.remove(&at);
            }
        } else if slot.follower.as_ref() == Some(key) {
            slot.follower = None;
        }
        self.tidy(at);
    }

    /// Who follows a place.
    fn followers_of(&self, at: Place) -> impl Iterator<Item = &Key> {
        let first = self.slots.get(&at).and_then(|slot| slot.follower.as_ref());
        first
            .into_iter()
            .chain(self.others.get(&at).into_iter().flatten())
    }

    /// Drops a place that nobody follows and where nothing is.
    fn tidy(&mut self, at: Place) {
        let empty = |slot: &Slot| slot.child.is_none() && slot.follower.is_none();
        if self.slots.get(&at).is_some_and(empty) {
            self.slots.remove(&at);
        }
    }

    pub(super) fn join_crowd(&mut self, key: &Key) {
        self.crowd.push(key.clone());
    }

    pub(super) fn leave_crowd(&mut self, key: &Key) {
        if let Some(index) = self.crowd.iter().position(|held| held == key) {
            self.crowd.swap_remove(index);
        }
    }

    /// Takes over what an own apply answered, so that its event is no news.
    pub(super) fn record(&mut self, namespace: &str, name: &str, child: Child) {
        let slot = self.slots.entry(self.place(namespace, name)).or_default();
        if slot.child.as_ref().is_none_or(|held| child.is_newer_than(held)) {
            slot.child = Some(child);
            // A list that began before it was made does not show it: that says nothing.
            slot.list = self.list;
        }
    }

    /// How many children were found changed by a list although a watch should have told.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Takes one event and tells whom to wake.
    pub(super) fn take(&mut self, digester: &Digester, kind: &str, event: Event<Body>) -> Vec<Key> {
        match event {
            Event::Init => {
                self.list = self.list.wrapping_add(1);
                Vec::new()
            }
            Event::InitApply(body) => self.store(digester, kind, &body, true),
            Event::Apply(body) => self.store(digester, kind, &body, false),
            Event::Delete(body) => {
                let at = self.place_of(&body);
                self.forget(at)
            }
            Event::InitDone => self.finish_list(),
        }
    }

    /// A first failure is worth telling those who wait for the list.
    pub(super) fn fail(&mut self, failure: String) -> Vec<Key> {
        let first = self.failure.replace(failure).is_none();
        if first && !self.synced {
            self.waiting.iter().cloned().collect()
        } else {
            Vec::new()
        }
    }

    /// Everybody who follows a child, in the order of the keys.
    pub(super) fn followers(&self) -> BTreeSet<Key> {
        let first = self.slots.values().filter_map(|slot| slot.follower.as_ref());
        first.chain(self.others.values().flatten()).cloned().collect()
    }

    fn store(&mut self, digester: &Digester, kind: &str, body: &Body, listed: bool) -> Vec<Key> {
        let Some(child) = Child::observe(digester, kind, &body.value) else {
            return Vec::new();
        };
        let at = self.place_of(body);
        let slot = self.slots.entry(at).or_default();
        slot.list = self.list;
        let held = slot.child.as_ref();
        if !listed && held.is_some_and(|held| held.is_newer_than(&child)) {
            return Vec::new();
        }
        let (arrived, news) = (held.is_none(), held.is_none_or(|held| !held.same_as(&child)));
        if listed {
            slot.lookup.listed();
            self.missed += u64::from(self.synced && news && child.version() <= self.newest);
        } else {
            self.newest = self.newest.max(child.version());
        }
        slot.child = Some(child);
        match news {
            true => self.whom(at, arrived),
            false => Vec::new(),
        }
    }

    fn forget(&mut self, at: Place) -> Vec<Key> {
        if let Some(slot) = self.slots.get_mut(&at) {
            slot.child = None;
            slot.lookup = Lookup::default();
        }
        let keys = self.whom(at, true);
        self.tidy(at);
        keys
    }

    /// A complete list: what it did not show has left the watch.
    fn finish_list(&mut self) -> Vec<Key> {
        let lost = |slot: &Slot| slot.child.is_some() && slot.list != self.list;
        let lost: Vec<Place> = self
            .slots
            .iter()
            .filter(|(_, slot)| lost(slot))
            .map(|(place, _)| *place)
            .collect();
        let mut keys: Vec<Key> = lost.into_iter().flat_map(|place| self.forget(place)).collect();
        // In order: one seed of a simulation leads to one run.
        keys.sort_unstable();
        self.failure = None;
        self.synced = true;
        keys.extend(std::mem::take(&mut self.waiting));
        keys
    }

    /// Those who follow a child; on arrivals and departures the crowd too.
    fn whom(&self, at: Place, all: bool) -> Vec<Key> {
        let crowd = self.crowd.iter().filter(|_| all && self.synced);
        self.followers_of(at).chain(crowd).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    pub(super) struct Subject {
        pub(super) state: State,
        pub(super) key: Key,
    }

    impl Subject {
        pub(super) fn new() -> Self {
            Self {
                state: State::default(),
                key: Key::new("X", "a", "x"),
            }
        }
        pub(super) fn take(&mut self, event: Event<Body>) -> usize {
            self.state
                .take(&Digester::new("m", "k"), "ConfigMap", event)
                .len()
        }
        pub(super) fn list(&mut self, bodies: &[Body]) -> usize {
            self.take(Event::Init);
            let woken: usize = bodies
                .iter()
                .map(|body| self.take(Event::InitApply(body.clone())))
                .sum();
            woken + self.take(Event::InitDone)
        }
        pub(super) fn follow(&mut self, name: &str) -> Option<Child> {
            self.state.follow("a", name, &self.key).0
        }
    }

    pub(super) fn body(name: &str, version: u64, value: &str) -> Body {
        let text = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value}, "metadata": {
            "namespace": "a", "name": name, "uid": "6a2bd2c5-3b8e-4a54-a1d8-60b2b7a7e0c1",
            "resourceVersion": version.to_string(),
            "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": {"f:data": {"f:k": {}}}}]}});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_follower_is_woken_by_changes_of_what_is_ours_only() {
        let mut it = Subject::new();
        it.list(&[body("c", 1, "v")]);
        assert!(it.follow("c").is_some());
        assert_eq!(
            it.take(Event::Apply(body("c", 2, "v"))),
            0,
            "another version, the same fields"
        );
        assert_eq!(it.take(Event::Apply(body("c", 3, "w"))), 1);
        assert_eq!(it.take(Event::Apply(body("c", 2, "v"))), 0, "old news");
    }

    #[test]
    fn an_own_apply_is_no_news() {
        let mut it = Subject::new();
        it.list(&[]);
        it.follow("c");
        let child = Child::observe(&Digester::new("m", "k"), "ConfigMap", &body("c", 5, "v").value).unwrap();
        it.state.record("a", "c", child);
        assert_eq!(it.take(Event::Apply(body("c", 5, "v"))), 0);
    }

    #[test]
    fn only_a_complete_list_makes_a_child_leave() {
        let mut it = Subject::new();
        it.list(&[body("c", 1, "v"), body("d", 1, "v")]);
        it.follow("c");
        it.take(Event::Init);
        it.take(Event::InitApply(body("d", 1, "v")));
        assert!(it.follow("c").is_some());
        assert_eq!(it.take(Event::InitDone), 1);
        assert!(it.follow("c").is_none());
    }

    #[test]
    fn what_a_list_shows_and_the_watch_had_passed_over_is_counted_as_missed() {
        let mut it = Subject::new();
        it.list(&[body("c", 1, "v"), body("d", 1, "v")]);
        it.take(Event::Apply(body("d", 9, "w")));
        it.list(&[body("c", 5, "changed"), body("d", 9, "w")]);
        assert_eq!(it.state.take_missed(), 1);
        it.list(&[body("c", 10, "later"), body("d", 9, "w")]);
        assert_eq!(
            it.state.take_missed(),
            0,
            "it may have happened while no watch was open"
        );
    }

    #[test]
    fn places_that_nobody_follows_and_that_are_empty_are_forgotten() {
        let mut it = Subject::new();
        it.list(&[]);
        let (_, place) = it.state.follow("a", "c", &it.key.clone());
        let (place, key) = (place.unwrap(), it.key.clone());
        assert!(it.state.follow("a", "c", &key).1.is_none(), "followed already");
        it.state.unfollow(place, &key);
        assert!(it.state.slots.is_empty());
    }

    #[test]
    fn a_place_with_its_child_takes_no_more_than_80_bytes() {
        assert!(size_of::<(Place, Slot)>() <= 80, "{}", size_of::<(Place, Slot)>());
    }

    #[test]
    fn all_followers_are_woken_and_who_leaves_is_not() {
        let mut it = Subject::new();
        it.list(&[body("c", 1, "v")]);
        let keys = ["x", "y", "z"].map(|name| Key::new("X", "a", name));
        let places = keys
            .each_ref()
            .map(|key| it.state.follow("a", "c", key).1.unwrap());
        assert_eq!(it.take(Event::Apply(body("c", 2, "w"))), 3);
        for (left, (key, place)) in [2, 1, 0].into_iter().zip(keys.iter().zip(places)) {
            it.state.unfollow(place, key);
            assert_eq!(it.state.followers().len(), left);
        }
        assert!(it.state.others.is_empty());
    }

    #[test]
    fn the_crowd_is_woken_by_arrivals_and_departures_after_the_first_list() {
        let mut it = Subject::new();
        it.state.join_crowd(&it.key.clone());
        assert_eq!(it.list(&[body("c", 1, "v")]), 0);
        assert_eq!(it.take(Event::Apply(body("d", 2, "v"))), 1);
        assert_eq!(it.take(Event::Apply(body("d", 3, "w"))), 0);
        assert_eq!(it.take(Event::Delete(body("d", 4, "w"))), 1);
    }
}
