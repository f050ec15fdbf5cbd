//! Decodes objects one by one, so that one that cannot be decoded does not stop the list of all others.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DynamicResourceScope};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt};

/// An object, or why it is none.
#[derive(Debug, Clone)]
pub(super) struct Decoded<K>(pub(super) Result<K, Broken>);

/// An object that cannot be decoded: the little that is known of it all the same.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What is wrong with it.
    pub error: String,
    /// Without managedFields; only name, namespace, UID and resourceVersion if the rest of it is broken, too.
    pub metadata: ObjectMeta,
    /// Its status, null if it has none.
    pub status: Value,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Lean::Object.deserialize(deserializer)?;
        Ok(Self(K::deserialize(&value).map_err(|error| Broken {
            error: error.to_string(),
            metadata: metadata(&value),
            status: value.get("status").cloned().unwrap_or_default(),
        })))
    }
}

/// Reads an object, or its metadata, as a tree without managedFields, which no store keeps.
#[derive(Clone, Copy)]
enum Lean {
    Object,
    Metadata,
}

impl<'de> DeserializeSeed<'de> for Lean {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lean {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match (self, key.as_str()) {
                (Self::Object, "metadata") => map.next_value_seed(Self::Metadata)?,
                (Self::Metadata, "managedFields") => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => map.next_value()?,
            };
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

fn metadata(value: &Value) -> ObjectMeta {
    let whole = value.get("metadata").map(ObjectMeta::deserialize);
    match whole {
        Some(Ok(whole)) => whole,
        _ => identity(value),
    }
}

/// The little of the metadata that a watch needs, read without trusting the rest.
fn identity(value: &Value) -> ObjectMeta {
    let field = |name: &str| {
        value
            .pointer(&format!("/metadata/{name}"))?
            .as_str()
            .map(str::to_owned)
    };
    ObjectMeta {
        name: field("name"),
        namespace: field("namespace"),
        uid: field("uid"),
        resource_version: field("resourceVersion"),
        ..ObjectMeta::default()
    }
}

/// The scope is dynamic whatever that of `K` is: it only decides which constructors [`kube::Api`] offers.
impl<K: Resource> Resource for Decoded<K> {
    type DynamicType = K::DynamicType;
    type Scope = DynamicResourceScope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }
    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }
    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }
    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }
    fn metadata_api() -> bool {
        K::metadata_api()
    }
    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(broken) => &broken.metadata,
        }
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(broken) => &mut broken.metadata,
        }
    }
}
