//! What is kept of a live child: identity, digest, health. Bodies are dropped as they arrive.
use super::{
    kinds::Kind,
    kstatus::{self, Health},
};
use crate::{
    digest::{Digest, Digester},
    inventory::Id,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DynamicResourceScope, discovery::ApiResource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::{borrow::Cow, fmt, num::NonZeroU64};
use xxhash_rust::xxh3::xxh3_128;

/// When what a child holds must be made anew (a token): a time, as an annotation that our manager owns.
pub const RENEW_ANNOTATION: &str = "reconcile/renew-at";

/// Where one object lives on its API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// As its API server serves it.
    pub kind: Kind,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Id {
    /// Where it is, on a cluster that serves its kind so.
    pub(crate) fn at(&self, kind: &Kind) -> Address {
        Address {
            kind: kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
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

/// A UID in 16 bytes: the API server's are UUIDs; of any other text a hash, which is only ever compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Uid([u8; 16]);

impl Uid {
    pub(super) fn of(text: &str) -> Self {
        let hex = text.replace('-', "");
        let number = (hex.len() == 32)
            .then(|| u128::from_str_radix(&hex, 16).ok())
            .flatten();
        Self(number.unwrap_or_else(|| xxh3_128(text.as_bytes())).to_le_bytes())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_le_bytes(self.0))
    }
}

/// A live child as a digest: 48 bytes as a rule, nothing secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    uid: Uid,
    /// The resourceVersion: a decimal number that grows.
    version: NonZeroU64,
    /// Of the fields that our manager owns.
    digest: Digest,
    /// What most children do not have.
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Extra {
    health: Health,
    /// It is being deleted; this holds it.
    holders: Option<Box<[Box<str>]>>,
    renew_at: Option<Timestamp>,
}

impl Child {
    /// Reduces a body. `None` for something that is no stored object (no UID).
    pub fn observe(digester: &Digester, kind: &str, body: &Value) -> Option<Self> {
        let meta = &body["metadata"];
        let extra = Extra {
            health: kstatus::health(kind, body),
            holders: (!meta["deletionTimestamp"].is_null())
                .then(|| kstatus::holders(kind, body).map(Box::from).collect()),
            renew_at: meta["annotations"][RENEW_ANNOTATION]
                .as_str()
                .and_then(|text| text.parse().ok()),
        };
        let plain = extra.health.is_ready() && extra.holders.is_none() && extra.renew_at.is_none();
        Some(Self {
            uid: Uid::of(meta["uid"].as_str()?),
            version: meta["resourceVersion"]
                .as_str()?
                .parse()
                .unwrap_or(NonZeroU64::MIN),
            digest: digester.of_owned(body),
            extra: (!plain).then(|| Box::new(extra)),
        })
    }

    /// Whether it is the object with this UID.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid == Uid::of(uid)
    }

    /// Of the fields that our manager owns.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it works.
    pub fn health(&self) -> &Health {
        self.extra.as_ref().map_or(&Health::Ready, |extra| &extra.health)
    }

    /// It is being deleted, and these hold it: finalizers, and what a namespace says of its content.
    pub fn holders(&self) -> Option<&[Box<str>]> {
        self.extra.as_ref()?.holders.as_deref()
    }

    /// When what it holds must be made anew, see [`RENEW_ANNOTATION`].
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.extra.as_ref()?.renew_at
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.holders().is_some()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Whether `self` and `other` are the same to a reconcile; resourceVersion and foreign writes aside.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        (self.uid, self.digest, &self.extra) == (other.uid, other.digest, &other.extra)
    }

    /// Whether `self` was read after `other`.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.version > other.version
    }
}

/// " (held by a, b)", or nothing.
pub(super) fn held_by(holders: &[impl AsRef<str>]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = holders.iter().map(AsRef::as_ref).collect();
    format!(" (held by {})", names.join(", "))
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
