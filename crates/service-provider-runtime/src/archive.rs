//! A watch of a kind of which there may be tens of thousands: what it has seen is kept deflated, a hundred bytes or two
//! an object instead of several thousand, and inflated for whoever reads it (some microseconds).
//!
//! Objects of one kind look alike: the first one that is seen is the dictionary of all others. What they do not share is
//! mostly hexadecimal, see [`hex`].
//!
//! An object that this build cannot decode is there all the same, and kept as [`Unreadable`]: it is never taken for one
//! that does not exist (invariant 6).
mod hex;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, runtime::watcher};
use openmcp_reconcile::{
    Fault,
    fault::Class,
    watch::{self, Broken, Change, Store},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    cell::RefCell,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    marker::PhantomData,
    sync::{Arc, OnceLock},
};
use tokio_util::sync::CancellationToken;

/// As a power of two: a dictionary and an object of usual size fit into it, and the state of a deflation is small.
const WINDOW_BITS: u8 = 13;

thread_local! {
    /// Kept, because to make them for each object took more than half of the work (seen in a profile of a start).
    static DEFLATE: RefCell<Work<Compress>> =
        RefCell::new(Work::new(Compress::new_with_window_bits(Compression::fast(), false, WINDOW_BITS)));
    static INFLATE: RefCell<Work<Decompress>> = RefCell::new(Work::new(Decompress::new(false)));
}

/// What one thread deflates or inflates with.
struct Work<S> {
    state: S,
    /// Text, as [`hex`] packs it.
    packed: Vec<u8>,
    out: Vec<u8>,
}

impl<S> Work<S> {
    fn new(state: S) -> Self {
        Self {
            state,
            packed: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Runs `step` with the state and two empty buffers: for packed text, and for what comes of it.
    fn run<T>(&mut self, step: impl FnOnce(&mut S, &mut Vec<u8>, &mut Vec<u8>) -> T) -> T {
        let done = step(&mut self.state, &mut self.packed, &mut self.out);
        for buffer in [&mut self.packed, &mut self.out] {
            buffer.clear();
            // One huge object does not hold memory for ever.
            buffer.shrink_to(KEPT);
        }
        done
    }
}

/// Runs `step`, which appends to `out`, until the stream ends. `None`: it does not end.
fn finish(
    out: &mut Vec<u8>,
    expected: usize,
    mut step: impl FnMut(&mut Vec<u8>) -> Option<Status>,
) -> Option<()> {
    out.reserve(expected);
    loop {
        let room = out.capacity();
        match step(out)? {
            Status::StreamEnd => return Some(()),
            _ if out.len() < room => return None,
            _ => out.reserve(room),
        }
    }
}

/// Kept of each buffer of a thread.
const KEPT: usize = 32 * 1024;

/// The first object of a kind, as packed text.
#[derive(Default)]
struct Dictionary(OnceLock<Box<[u8]>>);

impl Dictionary {
    /// Raw, without zlib's header. No step can fail: all is in memory, and both directions use one dictionary.
    fn deflate(&self, json: &[u8]) -> Option<Box<[u8]>> {
        DEFLATE.with_borrow_mut(|work| {
            work.run(|state, packed, out| {
                hex::pack(json, packed);
                let dictionary = self.0.get_or_init(|| packed.as_slice().into());
                state.reset();
                state.set_dictionary(dictionary).ok()?;
                finish(out, packed.len() / 2 + 64, |out| {
                    let rest = packed.get(usize::try_from(state.total_in()).ok()?..)?;
                    state.compress_vec(rest, out, FlushCompress::Finish).ok()
                })?;
                Some(out.as_slice().into())
            })
        })
    }

    /// Calls `read` with the text.
    fn inflate<T>(&self, deflated: &[u8], read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let dictionary = self.0.get()?;
        INFLATE.with_borrow_mut(|work| {
            work.run(|state, packed, out| {
                state.reset(false);
                state.set_dictionary(dictionary).ok()?;
                finish(packed, deflated.len() + dictionary.len() + 64, |packed| {
                    let rest = deflated.get(usize::try_from(state.total_in()).ok()?..)?;
                    state.decompress_vec(rest, packed, FlushDecompress::Finish).ok()
                })?;
                hex::unpack(packed, out)?;
                Some(read(out))
            })
        })
    }
}

/// An object that exists, and of which this build understands no more than its metadata.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "this version of the provider cannot read {kind} {}/{}: {error}",
    metadata.namespace.as_deref().unwrap_or_default(),
    metadata.name.as_deref().unwrap_or_default()
)]
pub(crate) struct Unreadable {
    kind: String,
    pub(crate) metadata: ObjectMeta,
    pub(crate) status: Value,
    error: String,
}

impl Unreadable {
    pub(crate) const REASON: &'static str = "ObjectUnreadable";

    fn of<K: Resource<DynamicType = ()>>(broken: Broken) -> Box<Self> {
        Box::new(Self {
            kind: K::kind(&()).into_owned(),
            metadata: broken.metadata,
            status: broken.status,
            error: broken.error,
        })
    }
}

impl From<Box<Unreadable>> for Fault {
    fn from(unreadable: Box<Unreadable>) -> Self {
        Self::new(Class::Bug, Unreadable::REASON, unreadable.to_string())
    }
}

/// An object as it is kept.
pub(crate) struct Packed<K> {
    dictionary: Arc<Dictionary>,
    content: Content,
    wish: u64,
    kind: PhantomData<fn() -> K>,
}

enum Content {
    Deflated(Box<[u8]>),
    Unreadable(Box<Unreadable>),
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Packed<K> {
    fn of(dictionary: &Arc<Dictionary>, object: &K) -> Self {
        let json = serde_json::to_vec(object).unwrap_or_default();
        Self {
            content: Content::Deflated(dictionary.deflate(&json).unwrap_or_default()),
            dictionary: dictionary.clone(),
            wish: wish(object.meta()),
            kind: PhantomData,
        }
    }

    /// What it said last, of an object that could be read before: with as much of its metadata as decides whether it is
    /// still there.
    fn outdated(&self, broken: &Broken) -> Option<Self> {
        let mut object = self.unpack().ok()?;
        let (meta, now) = (object.meta_mut(), broken.metadata.clone());
        if meta.uid != now.uid {
            return None;
        }
        meta.resource_version = now.resource_version;
        meta.deletion_timestamp = now.deletion_timestamp;
        meta.finalizers = now.finalizers;
        Some(Self::of(&self.dictionary, &object))
    }

    fn unreadable(dictionary: &Arc<Dictionary>, broken: Broken) -> Self {
        let mut hash = DefaultHasher::new();
        // What is broken in another way is news.
        (wish(&broken.metadata), &broken.error).hash(&mut hash);
        Self {
            content: Content::Unreadable(Unreadable::of::<K>(broken)),
            dictionary: dictionary.clone(),
            wish: hash.finish(),
            kind: PhantomData,
        }
    }

    pub(crate) fn unpack(&self) -> Result<K, Box<Unreadable>> {
        let deflated = match &self.content {
            Content::Deflated(deflated) => deflated,
            Content::Unreadable(unreadable) => return Err(unreadable.clone()),
        };
        let inflated = self.dictionary.inflate(deflated, read::<K>);
        inflated.unwrap_or_else(|| read::<K>(&[]))
    }

    /// As [`version`] of the object.
    pub(crate) fn version(&self) -> Option<u64> {
        match self.unpack() {
            Ok(object) => version(object.meta()),
            Err(unreadable) => version(&unreadable.metadata),
        }
    }

    /// Whether both want the same: status, and what we write ourselves, aside.
    pub(crate) fn wants_the_same(&self, other: &Self) -> bool {
        self.wish == other.wish
    }
}

fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(json: &[u8]) -> Result<K, Box<Unreadable>> {
    serde_json::from_slice(json).map_err(|error| {
        // A type that does not read what it has written.
        let value: Value = serde_json::from_slice(json).unwrap_or_default();
        Unreadable::of::<K>(Broken {
            error: error.to_string(),
            metadata: ObjectMeta::deserialize(&value["metadata"]).unwrap_or_default(),
            status: value["status"].clone(),
        })
    })
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// The resourceVersion: a decimal number that grows with each write.
pub(crate) fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// A hash of what a user or the platform says by an object: its generation, its annotations, that it is to go.
pub(crate) fn wish(meta: &ObjectMeta) -> u64 {
    let mut hash = DefaultHasher::new();
    (
        &meta.uid,
        meta.generation,
        meta.deletion_timestamp.is_some(),
        &meta.annotations,
    )
        .hash(&mut hash);
    hash.finish()
}

/// The objects of one kind.
pub(crate) struct Archive<K>(Store<Packed<K>>);

/// What counts of an object that cannot be read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing: it is known to exist.
    Nothing,
    /// What it said last, if this process has read it before: see [`Archive::outdated`].
    LastWords,
}

impl<K> Clone for Archive<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Archive<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// As [`watch::watch`].
    pub(crate) fn watch(
        api: Api<K>,
        config: watcher::Config,
        shutdown: CancellationToken,
        unread: Unread,
        on_change: impl FnMut(Change<Packed<K>>) + Send + 'static,
    ) -> Self {
        let dictionary = Arc::<Dictionary>::default();
        let held = Arc::<OnceLock<Store<Packed<K>>>>::default();
        let before = held.clone();
        let pack = move |object: Result<K, Broken>| {
            let broken = match object {
                Ok(object) => return Some(Packed::of(&dictionary, &object)),
                Err(broken) => broken,
            };
            let store = before.get().filter(|_| unread == Unread::LastWords);
            let last = store
                .and_then(|store| store.get(text(&broken.metadata.namespace), text(&broken.metadata.name)));
            let outdated = last.and_then(|last| last.outdated(&broken));
            Some(outdated.unwrap_or_else(|| Packed::unreadable(&dictionary, broken)))
        };
        let store = watch::watch_reduced(api, config, shutdown, pack, on_change);
        Self(held.get_or_init(|| store).clone())
    }

    /// Why an object cannot be read any more that [`Archive::get`] shows as it was.
    pub(crate) fn outdated(&self, namespace: &str, name: &str) -> Option<String> {
        let unread = self.0.undecodable().into_iter();
        let mut unread = unread.filter(|it| it.namespace == namespace && it.name == name);
        unread.next().map(|it| {
            let kind = K::kind(&());
            format!(
                "this version of the provider cannot read {kind} {namespace}/{name} any more, and goes on by what it \
                 said before: {}",
                it.error
            )
        })
    }

    pub(crate) async fn synced(&self) {
        self.0.synced().await;
    }

    /// `None`: it does not exist, as far as the watch knows.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, Box<Unreadable>> {
        let held = self.0.get(namespace, name);
        held.map(|held| held.unpack().map(Arc::new)).transpose()
    }

    /// Whether there are objects that cannot be read.
    pub(crate) fn has_unread(&self) -> bool {
        !self.0.undecodable().is_empty()
    }

    /// Namespace and name of all objects, in no order.
    pub(crate) fn places(&self) -> Vec<(String, String)> {
        self.0.places()
    }
}

#[cfg(test)]
mod tests;
