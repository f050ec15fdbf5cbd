//! The in-memory API server: a [`tower::Service`] that answers as a kube-apiserver would, and can be served over HTTP.
//!
//! It serves the built-in kinds of its table (`kinds.rs`) and those of installed CustomResourceDefinitions: GET, LIST
//! with selectors and pages, WATCH with bookmarks and 410, POST, PUT, JSON and merge patches, server-side apply with
//! managedFields, status subresources, DELETE with preconditions, finalizers and propagation, tokens of service
//! accounts, and the controllers that every cluster has (`controllers.rs`).
//!
//! Left out, and **refused with 501** rather than guessed: other kinds, other lists in server-side apply, strategic
//! merge patches, dry runs, deletion of collections, streaming lists, tables, protobuf, definitions with several
//! served versions. Left out, and not noticed: admission, authorization (only tokens are known or not), validation by
//! schema and CEL, defaults of built-in kinds but a few, field validation.
mod answer;
mod controllers;
mod delete;
mod fields;
mod hands;
mod kinds;
mod managed;
mod merge;
mod read;
mod route;
mod schema;
mod select;
mod serve;
mod state;
mod write;

pub use hands::{Denied, PERSON};
pub(crate) use serve::refusal;
pub(crate) use state::{Change, Entry, Place};

use answer::Refusal;
use jiff::Timestamp;
use serde_json::Value;
use state::{Clock, State};
use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, futures::Notified};

/// One API server and its etcd, in memory. Cheap to clone; clones are the same server.
///
/// ```
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use kube::{Api, api::PostParams};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kube::Result<()> {
/// let client = kube::Client::new(openmcp_testkit::Server::new(), "default");
/// let api: Api<ConfigMap> = Api::namespaced(client, "default");
/// let mut new = ConfigMap::default();
/// new.metadata.name = Some("x".to_owned());
/// let made = api.create(&PostParams::default(), &new).await?;
/// assert!(made.metadata.uid.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Tells the watches of this server; unlike a channel it wakes them in their order.
    changed: Notify,
    /// Tells the world.
    ticked: Arc<Notify>,
    watches: AtomicUsize,
    /// `None`: whoever asks is answered.
    tokens: Mutex<Option<HashSet<String>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("version", &self.shown_version())
            .finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server with its four first namespaces.
    pub fn new() -> Self {
        Self::with(1, Timestamp::now)
    }

    /// A server with another clock; `installation` tells its UIDs from those of other servers.
    pub fn with(installation: u32, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::counting(installation, Arc::new(clock), Arc::default(), Arc::default())
    }

    /// One of several servers with common resourceVersions, so that the writes of all have one order, and one tick.
    pub(crate) fn counting(
        installation: u32,
        clock: Clock,
        versions: Arc<AtomicU64>,
        ticked: Arc<Notify>,
    ) -> Self {
        let state = State::new(installation, clock, versions);
        Self(Arc::new(Shared {
            changed: Notify::new(),
            ticked,
            state: Mutex::new(state),
            watches: AtomicUsize::new(0),
            tokens: Mutex::default(),
        }))
    }

    /// Another server with the same content, in another world.
    pub(crate) fn fork(&self, clock: Clock, versions: Arc<AtomicU64>, ticked: Arc<Notify>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(lock(&self.0.state).fork(clock, versions)),
            changed: Notify::new(),
            ticked,
            watches: AtomicUsize::new(0),
            tokens: Mutex::new(lock(&self.0.tokens).clone()),
        }))
    }

    /// Answers only those who bear one of these tokens, and 401 to others.
    pub fn accept_only(&self, tokens: impl IntoIterator<Item = String>) {
        *lock(&self.0.tokens) = Some(tokens.into_iter().collect());
    }

    /// Accepts one more token, where tokens are asked for.
    pub fn accept(&self, token: &str) {
        if let Some(tokens) = lock(&self.0.tokens).as_mut() {
            tokens.insert(token.to_owned());
        }
    }

    /// Accepts a token no more.
    pub fn revoke(&self, token: &str) {
        if let Some(tokens) = lock(&self.0.tokens).as_mut() {
            tokens.remove(token);
        }
    }

    fn accepts(&self, bearer: Option<&str>) -> bool {
        let tokens = lock(&self.0.tokens);
        tokens
            .as_ref()
            .is_none_or(|tokens| bearer.is_some_and(|bearer| tokens.contains(bearer)))
    }

    /// Forgets all history: watches from before are gone (410), and so are lists that are being read.
    pub fn compact(&self) {
        self.with_state(State::compact);
    }

    /// Reads show the state of now until [`Server::catch_up`], while writes go on: as a replica that lags behind.
    pub fn fall_behind(&self) {
        self.with_state(|state| state.stale_at = Some(state.version()));
    }

    /// Reads show the newest state again.
    pub fn catch_up(&self) {
        self.with_state(|state| state.stale_at = None);
    }

    /// One round of the controllers that every cluster has: definitions and namespaces empty themselves, owners'
    /// dependents are collected. Returns whether anything was done.
    pub fn settle_step(&self) -> bool {
        self.with_state(State::settle_step)
    }

    /// Every Deployment, StatefulSet, DaemonSet and Job reports that it is where it should be. Returns whether any
    /// had not.
    pub fn serve_workloads(&self) -> bool {
        self.with_state(State::serve_workloads)
    }

    /// One object as it is; `namespace` is empty for cluster-scoped kinds.
    pub fn object(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = lock(&self.0.state);
        let kind = state.kinds.of_kind(api_version, kind)?;
        state
            .get(&Place::new(&kind, namespace, name))
            .map(|object| (**object).clone())
    }

    /// All objects of a kind as they are.
    pub fn objects(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let state = lock(&self.0.state);
        let Some(kind) = state.kinds.of_kind(api_version, kind) else {
            return Vec::new();
        };
        state
            .all_of(&kind.collection())
            .map(|(_, object)| (**object).clone())
            .collect()
    }

    /// How many watches are open.
    pub fn open_watches(&self) -> usize {
        self.0.watches.load(Ordering::Relaxed)
    }

    /// The number of the last write.
    pub fn version(&self) -> u64 {
        lock(&self.0.state).version()
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.0.state);
        let done = act(&mut state);
        drop(state);
        self.0.changed.notify_waiters();
        self.0.ticked.notify_waiters();
        done
    }

    /// Ends with the next write.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    fn changes_after(&self, version: u64) -> Result<Vec<Entry>, Refusal> {
        lock(&self.0.state).changes_after(version)
    }

    fn shown_version(&self) -> u64 {
        let state = lock(&self.0.state);
        state.stale_at.unwrap_or_else(|| state.version())
    }

    fn watch_opened(&self) {
        self.0.watches.fetch_add(1, Ordering::Relaxed);
    }

    fn watch_closed(&self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }

    /// Every object.
    pub(crate) fn everything(&self) -> Vec<(Place, Arc<Value>)> {
        let state = lock(&self.0.state);
        state
            .everything()
            .map(|(place, object)| (place.clone(), object.clone()))
            .collect()
    }

    /// Every write so far.
    pub(crate) fn log(&self) -> Vec<Entry> {
        lock(&self.0.state).log().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
