//! Shared watches: one per (connection, kind, selector), counted by those who need it, ended after a linger.
//!
//! Not per API server: a watch sees what the credentials of its connection may see. What another connection to the same
//! server may see can be more or less, and can change at any time without a word: shown through the wrong one, objects
//! would be missing that are there (and a repair be forgotten), or be seen by somebody who has lost the right to. Where
//! service objects share a cluster on purpose, they share its AccessRequest, and so connection, rights and watches.
//!
//! Owns the tasks; what they know is in [`state`]. A DELETED event only wakes: removing a label produces one while the
//! object lives.
mod state;
mod unfollowed;

pub use unfollowed::Unfollowed;

use super::{
    cluster::Cluster,
    counters,
    kinds::Kind,
    observe::{Body, Child},
};
use crate::{
    Key, Lane,
    digest::Digester,
    environment::chance,
    fault::chain,
    metrics::WatchMetrics,
    watch::{Failures, needs_new_list, paced},
};
use futures::StreamExt;
use kube::{
    Api,
    runtime::watcher::{self, Event},
};
use state::{Place, State};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch as signal, time::Instant};

/// Pages are read one after the other, and each is decoded whole: few of them, and none that is big.
const PAGE: u32 = 500;
/// A server that only blinks is not worth a word.
const LASTING: Duration = Duration::from_secs(2);
/// Between two lists of a watch that works: the net under it. What only such a list finds is counted, and should be
/// nothing.
const AUDIT: Duration = Duration::from_secs(6 * 3600);

/// Which objects of a kind a watch sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those with our label.
    Marked,
    /// All of them: to learn when the last one has gone.
    All,
}

/// Drift and deletions are urgent, an outage concerns everybody in turn, and a first list is bulk: who orders something
/// new meanwhile does not wait for all who are compared with it.
type Wake = dyn Fn(&Key, Lane) + Send + Sync;

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
    id: WatchId,
    cluster: Cluster,
    state: Mutex<State>,
    /// How many leases there are; the watch ends when there has been none for the linger.
    leases: signal::Sender<usize>,
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
        wake: impl Fn(&Key, Lane) + Send + Sync + 'static,
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

    /// The key of the label that watches select by.
    pub(super) fn label(&self) -> &str {
        let selector = &self.0.selector;
        selector.split_once('=').map_or(selector, |(key, _)| key)
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
                id,
                cluster: cluster.clone(),
                state: Mutex::default(),
                leases: signal::Sender::new(0),
            });
            tokio::spawn(run(self.0.clone(), watch.clone()));
            watch
        });
        watch.leases.send_modify(|count| *count += 1);
        if scope == Scope::All {
            watch.state().join_crowd(key);
        }
        Lease {
            watch: watch.clone(),
            key: key.clone(),
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
    places: Mutex<Vec<Place>>,
}

impl Lease {
    /// Whether it is a share in this watch.
    pub(super) fn is_of(&self, cluster: &Cluster, kind: &Kind, scope: Scope) -> bool {
        let id = &self.watch.id;
        id.connection == cluster.connection && id.scope == scope && id.kind == *kind
    }

    /// `Ok(false)` until the first list is complete: absence means nothing before; the key is woken then.
    /// `Err` says why the list fails; the key is woken when it does not any more.
    pub fn synced(&self) -> Result<bool, String> {
        self.watch.state().synced(&self.key)
    }

    /// The child at a place, and from now on wake the key when it changes.
    pub fn follow(&self, namespace: &str, name: &str) -> Option<Child> {
        let (child, new) = self.watch.state().follow(namespace, name, &self.key);
        if let Some(place) = new {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            // There are very many leases, and few places in each.
            places.reserve_exact(1);
            places.push(place);
        }
        child
    }

    /// Takes over what an own apply answered, so that its event is no news.
    pub fn record(&self, namespace: &str, name: &str, child: Child) {
        self.watch.state().record(namespace, name, child);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.watch.state();
        for place in self
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            state.unfollow(place, &self.key);
        }
        if self.watch.id.scope == Scope::All {
            state.leave_crowd(&self.key);
        }
        drop(state);
        self.watch.leases.send_modify(|count| *count -= 1);
    }
}

/// The task of one watch.
async fn run(shared: Arc<Shared>, watch: Arc<Watch>) {
    let client = paced(watch.cluster.client.clone());
    let api: Api<Body> = Api::all_with(client, &watch.id.kind.resource);
    let mut leases = watch.leases.subscribe();
    let metrics = WatchMetrics::new(&watch.id.kind.resource.kind);
    let mut outage = Outage::default();
    loop {
        tokio::select! {
            () = follow_stream(&shared, &api, &watch, &metrics, &mut outage) => {}
            () = tokio::time::sleep(AUDIT.mul_f64(0.75 + 0.5 * chance())) => {}
            () = unused_for(&mut leases, shared.linger) => {}
        }
        let mut watches = shared.watches();
        if *watch.leases.borrow() == 0 {
            watches.remove(&watch.id);
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

/// Failures of one watch, one after the other.
#[derive(Default)]
struct Outage {
    failures: Failures,
    began: Option<Instant>,
    told: bool,
}

impl Outage {
    /// Notes a failure. Returns true once in an outage that lasts: whoever relies on this watch is blind by then, and
    /// should say so.
    fn lasts(&mut self, now: Instant) -> bool {
        if self.failures.again(now) == 1 {
            (self.began, self.told) = (Some(now), false);
        }
        let lasts = self
            .began
            .is_some_and(|began| now.duration_since(began) >= LASTING);
        lasts && !std::mem::replace(&mut self.told, true)
    }
}

async fn follow_stream(
    shared: &Shared,
    api: &Api<Body>,
    watch: &Watch,
    metrics: &WatchMetrics,
    outage: &mut Outage,
) {
    let id = &watch.id;
    let mut config = watcher::Config::default()
        .page_size(PAGE)
        .timeout(crate::watch::RENEWAL);
    if id.scope == Scope::Marked {
        config = config.labels(&shared.selector);
    }
    let mut stream = watcher::watcher(api.clone(), config).boxed();
    while let Some(event) = stream.next().await {
        let (woken, lane) = match event {
            Ok(event) => {
                if !matches!(event, Event::Init | Event::InitApply(_)) {
                    outage.failures.over();
                }
                let done = matches!(event, Event::InitDone);
                let mut state = watch.state();
                let lane = match state.is_synced() {
                    true => Lane::Urgent,
                    false => Lane::Bulk,
                };
                let woken = state.take(&shared.digester, &id.kind.resource.kind, event);
                if done {
                    counters::missed(&id.kind.resource.kind, state.take_missed());
                }
                (woken, lane)
            }
            Err(error) => {
                metrics.restarted();
                let failure = format!("cannot watch {}: {}", id.kind.resource.plural, chain(&error));
                tracing::warn!(
                    cluster = &*watch.cluster.name,
                    connection = id.connection,
                    "{failure}"
                );
                let woken = watch.state().fail(failure);
                woken.iter().for_each(|key| (shared.wake)(key, Lane::Normal));
                if outage.lasts(Instant::now()) {
                    let blind = watch.state().followers();
                    blind.iter().for_each(|key| (shared.wake)(key, Lane::Normal));
                }
                tokio::time::sleep(outage.failures.pause()).await;
                if needs_new_list(&error) {
                    return;
                }
                continue;
            }
        };
        woken.iter().for_each(|key| (shared.wake)(key, lane));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{Request, Response};
    use kube::{Client, client::Body as Bytes};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Known to kube's watcher as the end of a watch, after which it opens the next one by itself.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_every_watch_at_once_is_asked_ever_more_slowly() {
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let server = tower::service_fn(move |request: Request<Bytes>| {
            let watches = request.uri().query().unwrap_or_default().contains("watch=true");
            let nth = count.fetch_add(usize::from(watches), Ordering::Relaxed);
            async move {
                // A client without a pause would never let the time pass.
                if nth > 1000 {
                    std::future::pending::<()>().await;
                }
                let list = r#"{"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}"#;
                let answer = if watches { "" } else { list };
                Ok::<_, std::convert::Infallible>(Response::new(Bytes::from(answer.as_bytes().to_vec())))
            }
        });
        let client = Client::new(server, "default");
        let digester = Digester::new("m", "k");
        let children = Children::new(digester, "a=b".into(), Duration::from_secs(1), |_, _| {});
        let cluster = Cluster::new(client, "a/b", "", 1);
        let kind = cluster.kind("v1", "ConfigMap").await;
        let key = Arc::new(Key::new("X", "a", "x"));
        let _lease = children.lease(&cluster, &kind.unwrap().unwrap(), Scope::Marked, &key);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let asked = asked.load(Ordering::Relaxed);
        assert!((2..40).contains(&asked), "{asked} times in a minute");
    }

    #[test]
    fn an_outage_that_lasts_is_told_once_and_the_next_one_again() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut fails_after = |time| outage.lasts(start + time);
        assert!(!fails_after(Duration::ZERO), "it may be a blink");
        assert!(!fails_after(LASTING / 2));
        assert!(fails_after(LASTING));
        assert!(!fails_after(LASTING * 2), "once");
        let later = LASTING * 2 + Duration::from_secs(90);
        assert!(!fails_after(later));
        assert!(fails_after(later + LASTING));
    }
}
