//! Shared watches: one per (API server, kind, selector), counted by those who need it, ended after a linger.
//!
//! Owns the store of digests and who is woken by which child. A DELETED event only wakes: removing a label
//! produces one while the object lives.
use super::{
    kinds::Kind,
    observe::{Body, Child},
};
use crate::{Key, digest::Digester, fault::chain, metrics::WatchMetrics};
use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch as signal;

/// Pages of bodies are decoded whole: keep them small.
const PAGE: u32 = 100;
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// A cluster that children are on.
#[derive(Clone)]
pub struct Cluster {
    pub client: kube::Client,
    /// The identity of its API server.
    pub identity: String,
    /// Tells connections apart: a watch lives as long as the connection that it was started on. Swapped
    /// credentials leave the connection what it is.
    pub connection: u64,
}

/// Which objects of a kind a watch sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those with our label.
    Marked,
    /// All of them: to learn when the last one has gone.
    All,
}

/// Namespace (empty for cluster-scoped kinds) and name.
type Place = (Box<str>, Box<str>);
type Wake = dyn Fn(&Key) + Send + Sync;

#[derive(Clone, PartialEq, Eq, Hash)]
struct WatchId {
    connection: u64,
    kind: Kind,
    scope: Scope,
}

/// All watches of a process. Cheap to clone.
#[derive(Clone)]
pub struct Children(Arc<Shared>);

struct Shared {
    digester: Digester,
    selector: String,
    linger: Duration,
    wake: Box<Wake>,
    watches: Mutex<HashMap<WatchId, Arc<Watch>>>,
}

struct Watch {
    state: Mutex<State>,
    /// How many leases there are; the watch ends when there has been none for the linger.
    leases: signal::Sender<usize>,
}

#[derive(Default)]
struct State {
    children: HashMap<Place, Arc<Child>>,
    /// Who is woken by the child at a place.
    followers: HashMap<Place, Vec<Key>>,
    /// Who is woken when any object comes or goes.
    crowd: Vec<Key>,
    /// Who is woken when the first list is complete, or fails.
    waiting: HashSet<Key>,
    synced: bool,
    /// Why the last try failed.
    failure: Option<String>,
    /// What the list in progress has shown, while there is one.
    listing: Option<HashSet<Place>>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Children {
    /// Watches objects with `selector` (a label selector) and wakes keys by `wake`. A watch without leases ends
    /// after `linger`.
    pub fn new(
        digester: Digester,
        selector: String,
        linger: Duration,
        wake: impl Fn(&Key) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            digester,
            selector,
            linger,
            wake: Box::new(wake),
            watches: Mutex::default(),
        }))
    }

    /// What digests are made with.
    pub fn digester(&self) -> &Digester {
        &self.0.digester
    }

    /// How many watches run.
    pub fn active(&self) -> usize {
        self.0.watches().len()
    }

    /// A share in the watch of `kind` on `cluster`, for the reconciles of `key`. Starts the watch if it is the
    /// first.
    pub fn lease(&self, cluster: &Cluster, kind: &Kind, scope: Scope, key: &Key) -> Lease {
        let id = WatchId {
            connection: cluster.connection,
            kind: kind.clone(),
            scope,
        };
        let mut watches = self.0.watches();
        let watch = watches.entry(id.clone()).or_insert_with(|| {
            let watch = Arc::new(Watch {
                state: Mutex::default(),
                leases: signal::Sender::new(0),
            });
            tokio::spawn(run(self.0.clone(), id, cluster.client.clone(), watch.clone()));
            watch
        });
        watch.leases.send_modify(|count| *count += 1);
        if scope == Scope::All {
            watch.state().crowd.push(key.clone());
        }
        Lease {
            watch: watch.clone(),
            key: key.clone(),
            scope,
            places: Mutex::default(),
        }
    }
}

impl Shared {
    fn watches(&self) -> MutexGuard<'_, HashMap<WatchId, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share in a watch, held for one key. Dropping it gives it back.
pub struct Lease {
    watch: Arc<Watch>,
    key: Key,
    scope: Scope,
    places: Mutex<HashSet<Place>>,
}

impl Lease {
    /// `Ok(false)` until the first list is complete: absence means nothing before; the key is woken then.
    /// `Err` says why the list fails; the key is woken when it does not any more.
    pub fn synced(&self) -> Result<bool, String> {
        let mut state = self.watch.state();
        if !state.synced {
            state.waiting.insert(self.key.clone());
        }
        match (&state.failure, state.synced) {
            (Some(failure), false) => Err(failure.clone()),
            (_, synced) => Ok(synced),
        }
    }

    /// The child at a place, and from now on wake the key when it changes.
    pub fn follow(&self, namespace: &str, name: &str) -> Option<Arc<Child>> {
        let place = (Box::from(namespace), Box::from(name));
        let mut state = self.watch.state();
        if self
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place.clone())
        {
            state
                .followers
                .entry(place.clone())
                .or_default()
                .push(self.key.clone());
        }
        state.children.get(&place).cloned()
    }

    /// Takes over what an own apply answered, so that its event is no news.
    pub fn record(&self, namespace: &str, name: &str, child: Child) {
        let mut state = self.watch.state();
        let place = (Box::from(namespace), Box::from(name));
        if state
            .children
            .get(&place)
            .is_none_or(|held| child.is_newer_than(held))
        {
            state.children.insert(place, Arc::new(child));
        }
    }

    /// Namespace and name of all objects in the watch.
    pub fn places(&self) -> Vec<(String, String)> {
        let state = self.watch.state();
        let mut places: Vec<_> = state
            .children
            .keys()
            .map(|(ns, name)| (ns.to_string(), name.to_string()))
            .collect();
        places.sort_unstable();
        places
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.watch.state();
        for place in self.places.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            if let Some(keys) = state.followers.get_mut(&place) {
                remove_one(keys, &self.key);
                if keys.is_empty() {
                    state.followers.remove(&place);
                }
            }
        }
        if self.scope == Scope::All {
            remove_one(&mut state.crowd, &self.key);
        }
        drop(state);
        self.watch.leases.send_modify(|count| *count -= 1);
    }
}

fn remove_one(keys: &mut Vec<Key>, key: &Key) {
    if let Some(index) = keys.iter().position(|held| held == key) {
        keys.swap_remove(index);
    }
}

/// The task of one watch.
async fn run(shared: Arc<Shared>, id: WatchId, client: kube::Client, watch: Arc<Watch>) {
    let mut leases = watch.leases.subscribe();
    let metrics = WatchMetrics::new(&id.kind.resource.kind);
    loop {
        tokio::select! {
            () = follow_stream(&shared, &id, &client, &watch, &metrics) => {}
            () = unused_for(&mut leases, shared.linger) => {}
        }
        let mut watches = shared.watches();
        if *watch.leases.borrow() == 0 {
            watches.remove(&id);
            return;
        }
    }
}

/// Ends when nobody has held a lease for `linger`.
async fn unused_for(leases: &mut signal::Receiver<usize>, linger: Duration) {
    loop {
        // The sender lives in the watch, which outlives this task: waiting cannot fail.
        let _ = leases.wait_for(|count| *count == 0).await;
        tokio::select! {
            () = tokio::time::sleep(linger) => return,
            _ = leases.wait_for(|count| *count > 0) => {}
        }
    }
}

async fn follow_stream(
    shared: &Shared,
    id: &WatchId,
    client: &kube::Client,
    watch: &Watch,
    metrics: &WatchMetrics,
) {
    let api: Api<Body> = Api::all_with(client.clone(), &id.kind.resource);
    let mut config = watcher::Config::default()
        .page_size(PAGE)
        .timeout(crate::watch::RENEWAL);
    if id.scope == Scope::Marked {
        config = config.labels(&shared.selector);
    }
    let mut stream = watcher::watcher(api, config).boxed();
    let mut backoff = FIRST_BACKOFF;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if !matches!(event, Event::Init) {
                    backoff = FIRST_BACKOFF;
                }
                for key in take_in(shared, &id.kind.resource.kind, &mut watch.state(), event) {
                    (shared.wake)(&key);
                }
            }
            Err(error) => {
                metrics.restarted();
                let failure = format!("cannot watch {}: {}", id.kind.resource.plural, chain(&error));
                tracing::warn!(connection = id.connection, "{failure}");
                for key in note_failure(&mut watch.state(), failure) {
                    (shared.wake)(&key);
                }
                let jitter = 0.5 + 0.5 * crate::environment::chance();
                tokio::time::sleep(backoff.mul_f64(jitter)).await;
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        }
    }
}

/// A first failure is worth telling those who wait for the list.
fn note_failure(state: &mut State, failure: String) -> Vec<Key> {
    let first = state.failure.replace(failure).is_none();
    if first && !state.synced {
        state.waiting.iter().cloned().collect()
    } else {
        Vec::new()
    }
}

/// Takes one event into the state and tells whom to wake.
fn take_in(shared: &Shared, kind: &str, state: &mut State, event: Event<Body>) -> Vec<Key> {
    match event {
        Event::Init => {
            state.listing = Some(HashSet::new());
            Vec::new()
        }
        Event::InitApply(body) => match place_of(&body) {
            Some(place) => {
                state.listing.get_or_insert_default().insert(place.clone());
                store(shared, kind, state, place, &body, true)
            }
            None => Vec::new(),
        },
        Event::Apply(body) => match place_of(&body) {
            Some(place) => store(shared, kind, state, place, &body, false),
            None => Vec::new(),
        },
        Event::Delete(body) => match place_of(&body) {
            Some(place) => forget(state, &place),
            None => Vec::new(),
        },
        Event::InitDone => finish_list(state),
    }
}

fn place_of(body: &Body) -> Option<Place> {
    let meta = body.meta();
    Some((
        meta.namespace.as_deref().unwrap_or_default().into(),
        meta.name.as_deref()?.into(),
    ))
}

fn store(
    shared: &Shared,
    kind: &str,
    state: &mut State,
    place: Place,
    body: &Body,
    relist: bool,
) -> Vec<Key> {
    let Some(child) = Child::observe(&shared.digester, kind, &body.value) else {
        return Vec::new();
    };
    let held = state.children.get(&place);
    if !relist && held.is_some_and(|held| held.is_newer_than(&child)) {
        return Vec::new();
    }
    let news = held.is_none_or(|held| !held.same_as(&child));
    let arrived = held.is_none();
    state.children.insert(place.clone(), Arc::new(child));
    if !news {
        return Vec::new();
    }
    whom(state, &place, arrived)
}

fn forget(state: &mut State, place: &Place) -> Vec<Key> {
    state.children.remove(place);
    whom(state, place, true)
}

/// A complete list: what it did not show has left the watch.
fn finish_list(state: &mut State) -> Vec<Key> {
    let shown = state.listing.take().unwrap_or_default();
    let lost: Vec<Place> = state
        .children
        .keys()
        .filter(|place| !shown.contains(*place))
        .cloned()
        .collect();
    let mut keys: Vec<Key> = lost.iter().flat_map(|place| forget(state, place)).collect();
    state.failure = None;
    state.synced = true;
    keys.extend(state.waiting.drain());
    keys
}

/// Those who follow a child; on arrivals and departures the crowd too.
fn whom(state: &State, place: &Place, all: bool) -> Vec<Key> {
    let followers = state.followers.get(place).into_iter().flatten();
    let crowd = state.crowd.iter().filter(|_| all && state.synced);
    followers.chain(crowd).cloned().collect()
}
