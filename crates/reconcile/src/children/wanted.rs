//! One wanted object, and how it is to be kept.
use super::kinds::Kind;
use crate::{
    Fault,
    digest::{EXACT_ANNOTATION, IGNORE_ANNOTATION, at_path, segments},
    inventory::{Entry, Id},
};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// When an object is applied: lower waves first, and each is ready before the next begins to be made. Removal
/// goes the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wave {
    /// Namespaces and definitions, until they are established.
    Foundation,
    /// RBAC, configuration, and whatever has no other place.
    Config,
    /// What is made from objects of earlier waves: tokens.
    Credential,
    /// What runs.
    Workload,
    /// Objects of kinds that somebody defined.
    Custom,
}

impl Wave {
    /// All waves, in order.
    pub const ALL: [Self; 5] = [
        Self::Foundation,
        Self::Config,
        Self::Credential,
        Self::Workload,
        Self::Custom,
    ];

    /// The wave that a kind belongs to unless its author says otherwise.
    pub fn of(group: &str, kind: &str) -> Self {
        match (group, kind) {
            ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::Foundation,
            ("", "Pod") | ("apps" | "batch", _) => Self::Workload,
            (group, _) if !group.contains('.') || group.ends_with(".k8s.io") => Self::Config,
            _ => Self::Custom,
        }
    }
}

/// How far an object is kept as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Made, changed and repaired.
    #[default]
    Enforce,
    /// Made when it is absent, then left to others.
    IfAbsent,
    /// Made and changed; a difference that others made is reported, not repaired.
    Detect,
}

/// What to do about an object of the same name that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adoption {
    /// Leave it alone and say so.
    #[default]
    Refuse,
    /// Take it over by force.
    Adopt,
}

/// What an object is made from when not all of it is in [`Wanted::object`]: a change of it makes the object anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Whatever else goes into it, as text.
    pub text: String,
    /// An object of an earlier wave that it belongs to: made anew when that has another UID.
    pub of: Id,
}

/// An object that is wanted on a cluster.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The cluster, as the caller calls it.
    pub cluster: String,
    /// apiVersion, kind, metadata.name and what is to be owned of the rest.
    pub object: Value,
    /// Made when all earlier waves are ready, removed before they are.
    pub wave: Wave,
    /// How far it is kept as it is wanted.
    pub mode: Mode,
    /// What to do about an object of its name that is not ours.
    pub adoption: Adoption,
    /// Left in place, without our marks, when it is no longer wanted.
    pub retain: bool,
    /// Deleted and made anew when a field that cannot be changed is to change.
    pub replace: bool,
    /// Set when a [`super::Maker`] completes the object.
    pub recipe: Option<Recipe>,
}

impl Wanted {
    /// `object` on `cluster`, enforced, in the wave of its kind.
    pub fn new(cluster: impl Into<String>, object: Value) -> Self {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let wave = Wave::of(group, object["kind"].as_str().unwrap_or_default());
        Self {
            cluster: cluster.into(),
            object,
            wave,
            mode: Mode::default(),
            adoption: Adoption::default(),
            retain: false,
            replace: false,
            recipe: None,
        }
    }

    /// Leaves the field at `path` (`/spec/replicas`; a list item by its key's value) to others once it is made.
    pub fn ignore(&mut self, path: &str) {
        self.note_path(IGNORE_ANNOTATION, path);
    }

    /// Removes whatever others add at `path` (`/data`; `/spec/template/spec/containers`): a map has the wanted keys,
    /// a list the wanted items and no more. What is inside of an item is not concerned: it has a path of its own, with the
    /// value of its key (`/spec/template/spec/containers/kro/env`). [`Wanted::normalize`] refuses a path at which nothing
    /// is wanted.
    pub fn exact(&mut self, path: &str) {
        self.note_path(EXACT_ANNOTATION, path);
    }

    fn note_path(&mut self, annotation: &str, path: &str) {
        if let Some(annotations) = slot(&mut self.object, &["metadata", "annotations"]) {
            let held = annotations.entry(annotation).or_insert_with(|| Value::from(""));
            *held = Value::from(format!("{} {path}", held.as_str().unwrap_or_default()).trim());
        }
    }

    /// The ignored paths.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.paths(IGNORE_ANNOTATION)
    }

    /// The exact paths.
    pub(crate) fn exacts(&self) -> impl Iterator<Item = &str> {
        self.paths(EXACT_ANNOTATION)
    }

    fn paths(&self, annotation: &str) -> impl Iterator<Item = &str> {
        self.object["metadata"]["annotations"][annotation]
            .as_str()
            .unwrap_or_default()
            .split_whitespace()
    }

    /// Puts a label on it.
    pub fn label(&mut self, key: &str, value: &str) {
        if let Some(labels) = slot(&mut self.object, &["metadata", "labels"]) {
            labels.insert(key.to_owned(), Value::from(value));
        }
    }

    pub(crate) fn api_version(&self) -> &str {
        self.object["apiVersion"].as_str().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    /// Which object it is. `kind` is how its cluster serves it, if it does yet.
    pub(crate) fn id(&self, kind: Option<&Kind>) -> Id {
        let text = |field: &str| {
            self.object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let namespace = if kind.is_some_and(|kind| !kind.namespaced) {
            String::new()
        } else {
            text("namespace")
        };
        Id {
            cluster: self.cluster.clone(),
            group: self
                .api_version()
                .split_once('/')
                .map_or("", |(group, _)| group)
                .to_owned(),
            kind: self.kind().to_owned(),
            namespace,
            name: text("name"),
        }
    }

    /// What is recorded of it, whether its cluster serves its kind in namespaces or not.
    pub fn entry<'e>(&self, recorded: &'e BTreeMap<Id, Entry>) -> Option<&'e Entry> {
        let id = self.id(None);
        recorded.get(&id).or_else(|| {
            recorded.get(&Id {
                namespace: String::new(),
                ..id
            })
        })
    }

    /// Whether both are of one kind on one cluster: one watch shows both.
    pub(super) fn is_beside(&self, id: &Id) -> bool {
        let group = self.api_version().split_once('/').map_or("", |(group, _)| group);
        self.cluster == id.cluster && self.kind() == id.kind && group == id.group
    }

    /// The version of its kind.
    pub(crate) fn version(&self) -> &str {
        self.api_version().rsplit('/').next().unwrap_or_default()
    }

    /// Brings it into the form that is hashed and applied: what the API server would turn into something else, or
    /// own under another name, is turned before. Refuses what no apply could carry.
    pub fn normalize(&mut self) -> Result<(), Fault> {
        for field in ["apiVersion", "kind"] {
            if self.object[field].as_str().is_none_or(str::is_empty) {
                return Err(Fault::invalid(
                    "InvalidObject",
                    format!("a desired object has no {field}"),
                ));
            }
        }
        if self.object["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(Fault::invalid(
                "InvalidObject",
                format!("a desired {} has no name", self.kind()),
            ));
        }
        if let Some(fields) = self.object.as_object_mut() {
            fields.remove("status");
        }
        if let Some(meta) = self.object["metadata"].as_object_mut() {
            for field in [
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "managedFields",
                "selfLink",
            ] {
                meta.remove(field);
            }
        }
        if self.kind() == "Secret" && self.api_version() == "v1" {
            encode_string_data(&mut self.object);
        }
        drop_nulls(&mut self.object);
        self.check_exact_paths()
    }

    /// At a path that leads nowhere nothing would ever be removed.
    fn check_exact_paths(&self) -> Result<(), Fault> {
        let leads_nowhere = |path: &&str| {
            let there = at_path(&self.object, &segments(path));
            !there.is_some_and(|it| it.is_object() || it.is_array())
        };
        match self.exacts().find(leads_nowhere) {
            // What a maker completes is not here yet.
            Some(path) if self.recipe.is_none() => Err(Fault::invalid(
                "InvalidObject",
                format!(
                    "{}: nothing can be kept exact at {path}, for no map and no list is desired there: a list item is \
                     named by the value of its key, as in /spec/template/spec/containers/NAME/env, and what is to stay \
                     empty is desired empty",
                    self.id(None)
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The object at a path of fields, made where it is missing; `None` where something else is in the way.
fn slot<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut at = value;
    for field in path {
        at = at.as_object_mut()?.entry(*field).or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    at.as_object_mut()
}

/// `stringData` is write-only: the API server stores it as `data`, and nobody would own that.
pub(crate) fn encode_string_data(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    let Some(data) = slot(secret, &["data"]) else {
        return;
    };
    for (key, text) in texts {
        let bytes = ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
        data.insert(key, serde_json::to_value(bytes).unwrap_or_default());
    }
}

/// Nulls would be owned by us and never be seen again.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1"}});
        let mut wanted = Wanted::new("mcp", secret);
        wanted.normalize().unwrap();
        assert_eq!(wanted.object["data"], json!({"a": "MQ=="}));
        assert!(wanted.object.get("stringData").is_none());
    }

    #[test]
    fn what_the_server_writes_and_nulls_are_dropped() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": null},
            "metadata": {"name": "c", "creationTimestamp": null, "uid": "1"}, "status": {}});
        let mut wanted = Wanted::new("mcp", object);
        wanted.normalize().unwrap();
        assert_eq!(
            wanted.object,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {}, "metadata": {"name": "c"}})
        );
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        let mut wanted = Wanted::new("mcp", json!({"apiVersion": "v1", "kind": "ConfigMap"}));
        assert_eq!(
            wanted.normalize().unwrap_err().message,
            "a desired ConfigMap has no name"
        );
    }

    #[test]
    fn an_exact_path_that_leads_nowhere_is_refused_and_the_possible_ones_are_told() {
        let normalized = |path: &str| {
            let containers = json!([{"name": "kro", "image": "kro:1", "env": [{"name": "A"}], "ports": []}]);
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": containers}});
            let mut wanted = Wanted::new("mcp", object);
            wanted.exact(path);
            wanted.normalize().map_err(|fault| fault.message)
        };
        for path in [
            "/spec/containers",
            "/spec/containers/kro/env",
            "/spec/containers/kro/ports",
            "/spec",
        ] {
            assert_eq!(normalized(path), Ok(()), "{path}");
        }
        for path in [
            "/spec/containers/kro:1/env",
            "/spec/containers[name=kro]/env",
            "/spec/containers/kro/image",
            "/data",
        ] {
            let message = normalized(path).unwrap_err();
            assert!(
                message.starts_with(&format!("Pod x: nothing can be kept exact at {path},")),
                "{message}"
            );
        }
    }

    #[test]
    fn kinds_find_their_waves() {
        assert_eq!(Wave::of("", "Namespace"), Wave::Foundation);
        assert_eq!(Wave::of("rbac.authorization.k8s.io", "ClusterRole"), Wave::Config);
        assert_eq!(Wave::of("apps", "Deployment"), Wave::Workload);
        assert_eq!(Wave::of("kro.run", "ResourceGraphDefinition"), Wave::Custom);
    }

    #[test]
    fn ignored_paths_are_written_on_the_object() {
        let mut wanted = Wanted::new("mcp", json!({"metadata": {"name": "x"}}));
        wanted.ignore("/spec/replicas");
        wanted.ignore("/spec/paused");
        assert_eq!(
            wanted.ignored().collect::<Vec<_>>(),
            ["/spec/replicas", "/spec/paused"]
        );
    }
}
