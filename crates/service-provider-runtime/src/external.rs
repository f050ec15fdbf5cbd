//! Back ends that are not Kubernetes: what a provider says of them, and how their resources live.
//!
//! A resource of a back end is desired, recorded, repaired and removed with the objects of its service object. This
//! module owns the contract and its rules; its rooms are [`calls`] (provider code, contained) and [`steps`] (what is
//! done next, and what is written before). It knows nothing of any back end, and gives provider code nothing but an
//! [`ExternalResource`].
//!
//! The rules (runtime design §1; I3, I5 and I6 of the fault matrix):
//! - a **nonce** is written to the Inventory before [`ExternalService::create`] is called: a creation whose answer was
//!   lost is found by it, without anybody's help;
//! - only a successful observation leads to a creation or a deletion; [`Observation::Unknown`] and every fault lead
//!   to neither;
//! - only [`Removal::Gone`] takes a resource out of the Inventory, and so the finalizer off the service object.
mod calls;
mod steps;

pub(crate) use calls::Calls;
pub(crate) use steps::{DELETING, Ensured, Ledger, Looks, Scene, ensure, preview, prune, remove_all};

use serde_json::Value;
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

/// A back end that is not Kubernetes: a database server, a cloud's API.
///
/// Every method may be called again after a crash, a time-out or an answer that was lost; none may ask a person. A
/// call has ten seconds, is cancelled then or when this process loses its lease, and a panic in it is a fault of one
/// service object. It must not block its thread: a client that blocks belongs into `tokio::task::spawn_blocking`.
/// While a back end does not answer, it is asked seldom, and nobody else waits for it.
///
/// ```
/// use service_provider_runtime::{ExternalFault, ExternalResource, ExternalService, Observation, Removal};
///
/// struct Databases; // its client
///
/// impl ExternalService for Databases {
///     async fn observe(&self, resource: &ExternalResource) -> Result<Observation, ExternalFault> {
///         // Looked up by `resource.name()`, or by the tag `resource.nonce()` where that is not known yet.
///         Ok(Observation::Absent)
///     }
///     async fn create(&self, resource: &ExternalResource) -> Result<String, ExternalFault> {
///         // Made with the tag `resource.nonce()`, as `resource.spec()` says.
///         Ok("db-17".to_owned())
///     }
///     async fn update(&self, resource: &ExternalResource, diff: &str) -> Result<(), ExternalFault> {
///         Err(ExternalFault::Invalid(format!("a database cannot be changed: {diff}")))
///     }
///     async fn delete(&self, resource: &ExternalResource) -> Result<Removal, ExternalFault> {
///         Ok(Removal::Gone)
///     }
/// }
/// ```
pub trait ExternalService: Send + Sync + 'static {
    /// How the resource is. Changes nothing. Without a [name](ExternalResource::name) it looks for the
    /// [nonce](ExternalResource::nonce): it must find what [`create`](Self::create) made, also when the answer never
    /// arrived; where it cannot be sure it says [`Observation::Unknown`]. Without a [spec](ExternalResource::spec) the
    /// resource is to be removed, and whatever exists is [`Observation::Current`].
    fn observe(
        &self,
        resource: &ExternalResource,
    ) -> impl Future<Output = Result<Observation, ExternalFault>> + Send;

    /// Makes the resource, marked with its nonce, and returns the back end's name for it: what the other methods need
    /// to find it later, the place included. Only called when the nonce was observed absent. A back end that takes
    /// idempotency tokens should be given the nonce as one: then even a request that arrives late makes nothing twice.
    fn create(
        &self,
        resource: &ExternalResource,
    ) -> impl Future<Output = Result<String, ExternalFault>> + Send;

    /// Brings the resource to its spec. `diff` is what [`observe`](Self::observe) found. May do a part: it is observed
    /// again.
    fn update(
        &self,
        resource: &ExternalResource,
        diff: &str,
    ) -> impl Future<Output = Result<(), ExternalFault>> + Send;

    /// Removes the resource. Called again until it is [`Removal::Gone`], or observed absent. Has no spec to go by: a
    /// deletion needs no configuration and no order any more.
    fn delete(
        &self,
        resource: &ExternalResource,
    ) -> impl Future<Output = Result<Removal, ExternalFault>> + Send;

    /// What is as it should be is looked at again after this time, 20 % more or less. Nobody tells of drift there.
    fn interval(&self) -> Duration {
        Duration::from_secs(600)
    }
}

/// How a resource is. The names are the back end's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// It is certain that there is none.
    Absent,
    /// It is being made; it is looked at again soon.
    Creating {
        /// The back end's name.
        name: String,
    },
    /// It is as its spec says.
    Current {
        /// The back end's name.
        name: String,
    },
    /// It is not: `diff` tells people what differs, and contains nothing secret.
    Drifted {
        /// The back end's name.
        name: String,
        /// For people.
        diff: String,
    },
    /// It cannot be told: nothing is done.
    Unknown {
        /// For people.
        why: String,
    },
}

/// How far a deletion is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It does not exist any more.
    Gone,
    /// It is going; this is called again soon.
    Waiting {
        /// For people.
        on: String,
    },
    /// Something has to be done first, by somebody else: `by` says what.
    Blocked {
        /// For people.
        by: String,
    },
}

/// Why a back end did not do what it was asked. The texts are shown to tenants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalFault {
    /// It passes: tried again, not before the time that the back end asked for.
    #[error("{why}")]
    Retry {
        /// For people.
        why: String,
        /// The back end's wish, if it gave one.
        after: Option<Duration>,
    },
    /// What is wanted is wrong: only a change of it helps.
    #[error("{0}")]
    Invalid(String),
    /// This process may not.
    #[error("{0}")]
    Denied(String),
    /// No answer: it may have happened or not.
    #[error("{0}")]
    Unreachable(String),
    /// A mistake in the provider.
    #[error("{0}")]
    Bug(String),
}

/// One resource in a back end: all that provider code is given.
#[derive(Clone)]
pub struct ExternalResource {
    key: String,
    owner: String,
    nonce: String,
    name: Option<String>,
    spec: Option<Value>,
}

impl ExternalResource {
    /// Which of the service object's resources, as the provider calls it.
    pub fn key(&self) -> &str {
        &self.key
    }
    /// The service object, for people: `Greeter team/one`.
    pub fn owner(&self) -> &str {
        &self.owner
    }
    /// Marks what is created: a UUID that no other resource of this installation has.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
    /// What the back end calls it, once that is known.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    /// What is desired; nothing when it is to be removed.
    pub fn spec(&self) -> Option<&Value> {
        self.spec.as_ref()
    }
}

impl fmt::Debug for ExternalResource {
    /// Without its spec: that may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalResource")
            .field("key", &self.key)
            .field("nonce", &self.nonce)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is desired in a back end.
#[derive(Clone)]
pub(crate) struct External {
    pub(crate) backend: &'static str,
    pub(crate) key: String,
    pub(crate) spec: Value,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.key)
    }
}

/// The back ends of a provider.
#[derive(Clone, Default)]
pub struct Externals(Vec<(&'static str, Arc<dyn Erased>)>);

impl Externals {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this one. Its name is recorded with each resource: a later release must keep it.
    #[must_use]
    pub fn with(mut self, name: &'static str, service: impl ExternalService) -> Self {
        self.0.push((name, Arc::new(service)));
        self
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, ExternalFault>> + Send>>;

/// [`ExternalService`] for a table of different ones.
trait Erased: Send + Sync {
    fn observe(self: Arc<Self>, resource: ExternalResource) -> Answer<Observation>;
    fn create(self: Arc<Self>, resource: ExternalResource) -> Answer<String>;
    fn update(self: Arc<Self>, resource: ExternalResource, diff: String) -> Answer<()>;
    fn delete(self: Arc<Self>, resource: ExternalResource) -> Answer<Removal>;
    fn interval(&self) -> Duration;
}

impl<S: ExternalService> Erased for S {
    fn observe(self: Arc<Self>, resource: ExternalResource) -> Answer<Observation> {
        Box::pin(async move { ExternalService::observe(&*self, &resource).await })
    }
    fn create(self: Arc<Self>, resource: ExternalResource) -> Answer<String> {
        Box::pin(async move { ExternalService::create(&*self, &resource).await })
    }
    fn update(self: Arc<Self>, resource: ExternalResource, diff: String) -> Answer<()> {
        Box::pin(async move { ExternalService::update(&*self, &resource, &diff).await })
    }
    fn delete(self: Arc<Self>, resource: ExternalResource) -> Answer<Removal> {
        Box::pin(async move { ExternalService::delete(&*self, &resource).await })
    }
    fn interval(&self) -> Duration {
        ExternalService::interval(self)
    }
}
