//! What the API server stores: objects, and the log of their changes by resourceVersion.
use super::{
    answer::{Named, Refusal},
    kinds::{Collection, Kind, Kinds},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// No object has a resourceVersion below.
const FIRST: u64 = 1000;

/// Wall-clock time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) group: String,
    pub(crate) plural: String,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            group: kind.group.clone(),
            plural: kind.plural.clone(),
            namespace: if kind.namespaced { namespace } else { "" }.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn collection(&self) -> Collection {
        (self.group.clone(), self.plural.clone())
    }

    pub(crate) fn named(&self) -> Named<'_> {
        Named {
            plural: &self.plural,
            group: &self.group,
            name: &self.name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) place: Place,
    pub(crate) change: Change,
    pub(crate) object: Arc<Value>,
    pub(crate) previous: Option<Arc<Value>>,
}

/// A list that is read page by page.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) version: u64,
    pub(crate) items: Arc<Vec<Arc<Value>>>,
}

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) kinds: Kinds,
    objects: BTreeMap<Place, Arc<Value>>,
    log: VecDeque<Entry>,
    version: u64,
    /// Watches and pages from below are gone.
    compacted: u64,
    /// Reads show the state of this version, while it is set.
    pub(crate) stale_at: Option<u64>,
    pages: HashMap<u64, Pages>,
    made: u64,
    installation: u32,
    pub(crate) clock: Clock,
    versions: Arc<AtomicU64>,
}

impl State {
    /// `installation` tells the UIDs of several servers apart.
    pub(crate) fn new(installation: u32, clock: Clock, versions: Arc<AtomicU64>) -> Self {
        versions.fetch_max(FIRST, Ordering::Relaxed);
        let mut state = Self {
            kinds: Kinds::default(),
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            version: FIRST,
            compacted: 0,
            stale_at: None,
            pages: HashMap::new(),
            made: 0,
            installation,
            clock,
            versions,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let mut namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            state.stamp(&mut namespace);
            if let Some(kind) = state.kinds.of_kind("v1", "Namespace") {
                state.put(Place::new(&kind, "", name), namespace);
            }
        }
        state
    }

    /// The same with another clock and counter.
    pub(crate) fn fork(&self, clock: Clock, versions: Arc<AtomicU64>) -> Self {
        Self {
            clock,
            versions,
            ..self.clone()
        }
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Now, in whole seconds, as objects have it.
    pub(crate) fn now(&self) -> String {
        let now = (self.clock)();
        Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
    }

    /// A number that was not used before.
    pub(crate) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// UID and creation time of a new object.
    pub(crate) fn stamp(&mut self, object: &mut Value) {
        let number = self.number();
        object["metadata"]["uid"] = format!("{:08x}-0000-4000-8000-{number:012x}", self.installation).into();
        object["metadata"]["creationTimestamp"] = self.now().into();
    }

    /// The live object.
    pub(crate) fn get(&self, place: &Place) -> Option<&Arc<Value>> {
        self.objects.get(place)
    }

    /// The live objects of a kind.
    pub(crate) fn all_of(&self, collection: &Collection) -> impl Iterator<Item = (&Place, &Arc<Value>)> {
        let first = Place {
            group: collection.0.clone(),
            plural: collection.1.clone(),
            namespace: String::new(),
            name: String::new(),
        };
        let collection = collection.clone();
        self.objects
            .range(first..)
            .take_while(move |(place, _)| place.group == collection.0 && place.plural == collection.1)
    }

    /// Every live object.
    pub(crate) fn everything(&self) -> impl Iterator<Item = (&Place, &Arc<Value>)> {
        self.objects.iter()
    }

    /// What reads show, and its version.
    pub(crate) fn shown(&self) -> (u64, BTreeMap<Place, Arc<Value>>) {
        let Some(at) = self.stale_at else {
            return (self.version, self.objects.clone());
        };
        let mut objects = self.objects.clone();
        for entry in self.log.iter().rev().take_while(|entry| entry.version > at) {
            match &entry.previous {
                Some(previous) => drop(objects.insert(entry.place.clone(), previous.clone())),
                None => drop(objects.remove(&entry.place)),
            }
        }
        (at, objects)
    }

    /// Stores an object under a new resourceVersion.
    pub(crate) fn put(&mut self, place: Place, mut object: Value) -> Arc<Value> {
        self.version = self.next_version();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let previous = self.objects.insert(place.clone(), object.clone());
        self.log.push_back(Entry {
            version: self.version,
            change: if previous.is_some() {
                Change::Modified
            } else {
                Change::Added
            },
            place,
            object: object.clone(),
            previous,
        });
        object
    }

    /// Removes an object; its last state bears the version of its removal.
    pub(crate) fn remove(&mut self, place: &Place) {
        let Some(previous) = self.objects.remove(place) else {
            return;
        };
        self.version = self.next_version();
        let mut object = (*previous).clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log.push_back(Entry {
            version: self.version,
            change: Change::Deleted,
            place: place.clone(),
            object: Arc::new(object),
            previous: Some(previous),
        });
    }

    /// Watches from now on are refused from below the current version, and so are open pages.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.pages.clear();
    }

    /// The changes after a version, as far as reads show them. `Err`: they are compacted.
    pub(crate) fn changes_after(&self, version: u64) -> Result<Vec<Entry>, Refusal> {
        if version < self.compacted {
            return Err(Refusal::expired(&format!(
                "too old resource version: {version} ({})",
                self.compacted
            )));
        }
        let until = self.stale_at.unwrap_or(u64::MAX);
        let start = self.log.partition_point(|entry| entry.version <= version);
        Ok(self
            .log
            .range(start..)
            .take_while(|entry| entry.version <= until)
            .cloned()
            .collect())
    }

    pub(crate) fn keep_pages(&mut self, pages: Pages) -> u64 {
        let session = self.number();
        self.pages.insert(session, pages);
        session
    }

    pub(crate) fn pages(&self, session: u64) -> Option<Pages> {
        self.pages.get(&session).cloned()
    }

    /// Every change so far, for those who judge afterwards.
    pub(crate) fn log(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter()
    }
}
