//! Watches: an own store per watch, filled by kube's `watcher`, with deletes reported across relists, one
//! back-off a watch outside the stream, objects that cannot be decoded skipped and reported.
//!
//! Lost information is never deletion: only a watch DELETE or a *complete* list that lacks the object is reported.
mod decode;
mod pace;
mod store;

pub use decode::Broken;
pub use store::{Place, Store, Undecodable};

use crate::{Fault, metrics::WatchMetrics, process};
use decode::Decoded;
use futures::StreamExt;
use kube::{Api, Resource, runtime::watcher};
pub(crate) use pace::{Failures, paced};
use serde::de::DeserializeOwned;
use std::{
    collections::HashSet, fmt::Debug, hash::Hash, marker::PhantomData, panic::AssertUnwindSafe, sync::Arc,
    time::Duration,
};
use store::{Held, Version};
use tokio_util::sync::CancellationToken;

/// The API server ends each watch after so many seconds, and it is opened again where it ended: a watch that is silent
/// for longer has stalled, and is found within a minute (fault 4). One request a watch, no list.
pub(crate) const RENEWAL: u32 = 45;

/// What a watch reports. A relist reports `Applied` only for objects whose resourceVersion moved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change<K> {
    /// The object exists, new or changed. `first` is set while the first list is read (use [`crate::Lane::Bulk`]).
    Applied {
        /// Where it is.
        at: Place,
        /// As it is now.
        object: Arc<K>,
        /// As it was seen before.
        old: Option<Arc<K>>,
        /// While the first list is read.
        first: bool,
    },
    /// The object left the watch (deleted, or its label was removed: confirm with a GET before acting on it).
    Deleted {
        /// Where it was.
        at: Place,
        /// As it was last seen.
        object: Arc<K>,
    },
}

impl<K> Change<K> {
    /// The object, as last seen.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { object, .. } | Self::Deleted { object, .. } => object,
        }
    }

    /// Where it is, also when the object itself does not say.
    pub fn place(&self) -> &Place {
        match self {
            Self::Applied { at, .. } | Self::Deleted { at, .. } => at,
        }
    }
}

/// Starts a watch as a task that ends with `shutdown`; `on_change` is called after the store holds the change.
///
/// `on_change` must not block. Say which cluster it is with [`watch_on`] where there are several.
///
/// ```no_run
/// use k8s_openapi::api::core::v1::Secret;
/// use kube::{Api, runtime::watcher};
/// use openmcp_reconcile::{Handle, Key, Lane, watch::{Change, watch}};
/// # async fn example(client: kube::Client, handle: Handle) {
/// let secrets = watch(Api::<Secret>::all(client), watcher::Config::default(), Default::default(), move |change| {
///     let lane = if matches!(change, Change::Applied { first: true, .. }) { Lane::Bulk } else { Lane::Urgent };
///     let meta = &change.object().metadata;
///     handle.wake(
///         Key::new("Secret", meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default()),
///         lane,
///     );
/// });
/// secrets.synced().await;
/// # }
/// ```
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
    on_change: impl FnMut(Change<K>) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    watch_on("root cluster", api, config, shutdown, on_change)
}

/// [`watch`], with the cluster named in what it logs.
pub fn watch_on<K>(
    cluster: impl Into<String>,
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
    on_change: impl FnMut(Change<K>) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    watch_dynamic(
        cluster,
        &K::DynamicType::default(),
        api,
        config,
        shutdown,
        on_change,
    )
}

/// [`watch_on`], for kinds that are known at run time only. The decoder of `K` sees the object without managedFields.
pub fn watch_dynamic<K>(
    cluster: impl Into<String>,
    dyntype: &K::DynamicType,
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
    on_change: impl FnMut(Change<K>) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    start(
        cluster.into(),
        dyntype,
        api,
        config,
        shutdown,
        Result::ok,
        on_change,
    )
}

/// [`watch`], which keeps of each object only what `reduce` makes of it: for kinds of which there are many. It is asked
/// about objects that cannot be decoded, too; where it answers `None`, what was known before stays known.
pub fn watch_reduced<K, P>(
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
    reduce: impl Fn(Result<K, Broken>) -> Option<P> + Send + 'static,
    on_change: impl FnMut(Change<P>) + Send + 'static,
) -> Store<P>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
    P: Send + Sync + 'static,
{
    let (cluster, dyntype) = ("root cluster".to_owned(), K::DynamicType::default());
    start(cluster, &dyntype, api, config, shutdown, reduce, on_change)
}

fn start<K, P>(
    cluster: String,
    dyntype: &K::DynamicType,
    api: Api<K>,
    config: watcher::Config,
    shutdown: CancellationToken,
    reduce: impl Fn(Result<K, Broken>) -> Option<P> + Send + 'static,
    on_change: impl FnMut(Change<P>) + Send + 'static,
) -> Store<P>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    P: Send + Sync + 'static,
{
    let kind = K::kind(dyntype).into_owned();
    let store = Store::new();
    process::add_watch(store.look(cluster.clone(), kind.clone()));
    let watch = Watch::new(cluster, kind, store.clone(), reduce, on_change);
    let decoding = match api.namespace() {
        Some(namespace) => Api::namespaced_with(paced(api.clone().into_client()), namespace, dyntype),
        None => Api::all_with(paced(api.into_client()), dyntype),
    };
    let config = config.timeout(RENEWAL);
    tokio::spawn(async move {
        let _ended = shutdown.run_until_cancelled(watch.run(decoding, config)).await;
    });
    store
}

struct Watch<K, P, R, F> {
    cluster: String,
    kind: String,
    metrics: WatchMetrics,
    store: Store<P>,
    /// What the list that is being read has named so far.
    listed: HashSet<Place>,
    reduce: R,
    on_change: F,
    decoded: PhantomData<fn() -> K>,
}

impl<K, P, R, F> Watch<K, P, R, F>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    P: Send + Sync + 'static,
    R: Fn(Result<K, Broken>) -> Option<P> + Send,
    F: FnMut(Change<P>) + Send,
{
    fn new(cluster: String, kind: String, store: Store<P>, reduce: R, on_change: F) -> Self {
        Self {
            cluster,
            metrics: WatchMetrics::new(&kind),
            kind,
            store,
            listed: HashSet::new(),
            reduce,
            on_change,
            decoded: PhantomData,
        }
    }

    async fn run(mut self, api: Api<Decoded<K>>, config: watcher::Config) {
        let mut failures = Failures::default();
        loop {
            let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if self.take(event) {
                            failures.over();
                        }
                    }
                    Err(error) => {
                        let nth = failures.again(tokio::time::Instant::now());
                        let wait = failures.pause();
                        self.failed(&error, nth, wait);
                        tokio::time::sleep(wait).await;
                        if needs_new_list(&error) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Takes over an event. Returns whether it proves that the watch works.
    fn take(&mut self, event: watcher::Event<Decoded<K>>) -> bool {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                return false;
            }
            watcher::Event::InitApply(object) => {
                self.listed.insert(Place::of(object.meta()));
                self.applied(object);
                return false;
            }
            watcher::Event::InitDone => {
                for (at, object) in self.store.retain(&std::mem::take(&mut self.listed)) {
                    self.report(Change::Deleted { at, object });
                }
                self.store.set_synced();
                tracing::debug!(
                    cluster = self.cluster,
                    kind = self.kind,
                    objects = self.store.len(),
                    "listed"
                );
            }
            watcher::Event::Apply(object) => self.applied(object),
            watcher::Event::Delete(object) => {
                let at = Place::of(object.meta());
                if let Some(object) = self.store.remove(&at) {
                    self.report(Change::Deleted { at, object });
                }
            }
        }
        if self.store.set_trouble(None) {
            tracing::info!(cluster = self.cluster, kind = self.kind, "the watch works again");
        }
        true
    }

    fn applied(&mut self, object: Decoded<K>) {
        let (at, version) = (Place::of(object.meta()), Version::of(object.meta()));
        let error = object.0.as_ref().err().map(|broken| broken.error.clone());
        if let Some(object) = (self.reduce)(object.0) {
            self.store_applied(at.clone(), version, Arc::new(object));
        }
        if let Some(error) = error {
            self.metrics.undecodable();
            tracing::warn!(
                cluster = self.cluster,
                kind = self.kind,
                object = %at,
                "an object that cannot be decoded: nothing is done by what it says: {error}"
            );
            self.store.set_undecodable(at, error);
        }
    }

    fn store_applied(&mut self, at: Place, version: Version, object: Arc<P>) {
        let first = !self.store.is_synced();
        let held = Held {
            version,
            object: object.clone(),
        };
        match self.store.insert(at.clone(), held) {
            Some(old) if old.version == version => {}
            Some(old) if old.version.is_other_object(&version) => {
                let gone = old.object;
                self.report(Change::Deleted {
                    at: at.clone(),
                    object: gone,
                });
                self.report(Change::Applied {
                    at,
                    object,
                    old: None,
                    first,
                });
            }
            old => {
                let old = old.map(|old| old.object);
                self.report(Change::Applied {
                    at,
                    object,
                    old,
                    first,
                });
            }
        }
    }

    /// Calls the observer. A panic of it costs this change only.
    fn report(&mut self, change: Change<P>) {
        let on_change = &mut self.on_change;
        if std::panic::catch_unwind(AssertUnwindSafe(|| on_change(change))).is_err() {
            tracing::error!(
                cluster = self.cluster,
                kind = self.kind,
                "the observer of a watch panicked"
            );
        }
    }

    /// What failed, in the words of the API server where it has said something.
    fn words(&self, error: &watcher::Error) -> String {
        let kind = &self.kind;
        match error {
            watcher::Error::InitialListFailed(error) => {
                Fault::api(format_args!("list {kind}"), error).message
            }
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Fault::api(format_args!("watch {kind}"), error).message
            }
            watcher::Error::WatchError(status) => Fault::status(format_args!("watch {kind}"), status).message,
            watcher::Error::NoResourceVersion => {
                format!("{kind} cannot be watched: its list has no resourceVersion")
            }
        }
    }

    /// Reports a failure.
    fn failed(&mut self, error: &watcher::Error, failures: u32, wait: Duration) {
        let text = self.words(error);
        self.metrics.restarted();
        if self.store.set_trouble(Some(text.clone())) {
            tracing::warn!(
                cluster = self.cluster,
                kind = self.kind,
                failures,
                ?wait,
                "a watch failed: {text}"
            );
        } else {
            tracing::debug!(
                cluster = self.cluster,
                kind = self.kind,
                failures,
                ?wait,
                "a watch failed: {text}"
            );
        }
    }
}

/// kube goes on from the old resourceVersion when a watch cannot be *started*; when that version is gone, it would
/// do so for ever.
pub(crate) fn needs_new_list(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
