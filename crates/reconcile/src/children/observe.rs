//! What is kept of a live child: identity, digest, health. Bodies are dropped as they arrive.
use super::{
    kinds::Kind,
    kstatus::{self, Health},
};
use crate::digest::{self, Digest, Digester};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DynamicResourceScope, discovery::ApiResource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// When what a child holds must be made anew (a token): a time, as an annotation that our manager owns.
pub const RENEW_ANNOTATION: &str = "reconcile/renew-at";

/// Where one object lives on its API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub kind: Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.kind.resource.kind;
        if self.namespace.is_empty() {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

/// A live child as a digest: about 200 bytes, nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    /// Of the fields that our manager owns.
    pub digest: Digest,
    pub health: Health,
    /// Our manager applied something to it.
    pub applied: bool,
    /// It is being deleted; these finalizers hold it.
    pub finalizers: Option<Box<[Box<str>]>>,
    /// When what it holds must be made anew, see [`RENEW_ANNOTATION`].
    pub renew_at: Option<Timestamp>,
    /// Who else owns fields of it, status aside.
    pub foreign: Box<[Box<str>]>,
}

impl Child {
    /// Reduces a body. `None` for something that is no stored object (no UID).
    pub fn observe(digester: &Digester, kind: &str, body: &Value) -> Option<Self> {
        let meta = &body["metadata"];
        let finalizers = || meta["finalizers"].as_array().into_iter().flatten();
        let mut foreign: Vec<Box<str>> = digest::managed_fields(body)
            .filter(|entry| {
                !digest::is_apply_entry(entry, digester.manager()) && entry["subresource"] != "status"
            })
            .filter_map(|entry| entry["manager"].as_str().map(Box::from))
            .collect();
        foreign.sort_unstable();
        foreign.dedup();
        Some(Self {
            uid: meta["uid"].as_str()?.into(),
            resource_version: meta["resourceVersion"].as_str()?.into(),
            digest: digester.of_owned(body),
            health: kstatus::health(kind, body),
            applied: digest::managed_fields(body)
                .any(|entry| digest::is_apply_entry(entry, digester.manager())),
            finalizers: (!meta["deletionTimestamp"].is_null())
                .then(|| finalizers().filter_map(Value::as_str).map(Box::from).collect()),
            renew_at: meta["annotations"][RENEW_ANNOTATION]
                .as_str()
                .and_then(|text| text.parse().ok()),
            foreign: foreign.into(),
        })
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.finalizers.is_some()
    }

    /// Whether `self` and `other` are the same to a reconcile; resourceVersion and foreign writes aside.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        (
            &self.uid,
            &self.digest,
            &self.health,
            &self.finalizers,
            self.renew_at,
        ) == (
            &other.uid,
            &other.digest,
            &other.health,
            &other.finalizers,
            other.renew_at,
        )
    }

    /// Whether `self` was read after `other`. Resource versions are decimal numbers that grow.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.resource_version, &other.resource_version);
        (mine.len(), mine) > (theirs.len(), theirs)
    }
}

/// The type that is watched: any object, decoded without a schema.
///
/// A digest needs the manager's name and key, which serde cannot hand to `Deserialize`; so the body lives from
/// its decoding until the watch turns it into a [`Child`] in the next line, at most a page at a time.
#[derive(Debug, Clone)]
pub(super) struct Body {
    /// Name, namespace and resourceVersion: what the watcher itself needs.
    meta: ObjectMeta,
    pub(super) value: Value,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, value })
    }
}

impl Resource for Body {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
