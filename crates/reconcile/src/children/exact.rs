//! Mode Exact: at a path nothing but what is wanted may be. Server-side apply leaves alone what others add beside our
//! fields; here it is found, and removed by a patch that is tested against what was read.
//!
//! Which items of a list are ours is read from what the API server says that we own: it alone knows which fields of an
//! item are its key (of a container's port the number and the protocol, of a mount the path).
use crate::digest::{at_path, child_at, is_apply_entry, is_named, key_of, managed_fields, segments};
use serde_json::{Map, Value, json};

/// Something that others added at an exact path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surplus {
    /// ".data", for people.
    pub(super) at: String,
    /// The key of the map, or of the list item.
    pub(super) name: String,
    /// JSON pointer.
    pub(super) pointer: String,
}

/// What `live` has at the exact paths beyond `wanted`, and the operations of the JSON patch that removes it.
pub(super) fn surplus<'a>(
    manager: &str,
    wanted: &Value,
    live: &Value,
    paths: impl Iterator<Item = &'a str>,
) -> (Vec<Surplus>, Vec<Value>) {
    let (mut found, mut patch) = (Vec::new(), Vec::new());
    for path in paths {
        let path = segments(path);
        let Some(there) = Place::find(manager, live, &path) else {
            continue;
        };
        let (at, pointer) = (format!(".{}", path.join(".")), &there.pointer);
        let mut add = |name: &str, pointer: String, mut operation: Value| {
            operation["path"] = Value::from(pointer.as_str());
            patch.push(operation);
            found.push(Surplus {
                at: at.clone(),
                name: name.to_owned(),
                pointer,
            });
        };
        let removal = || json!({"op": "remove"});
        match (at_path(wanted, &path), there.value) {
            (Some(Value::Object(wanted)), Value::Object(live)) => {
                for key in live.keys().filter(|key| !wanted.contains_key(*key)) {
                    add(key, format!("{pointer}/{}", escaped(key)), removal());
                }
            }
            (Some(Value::Array(wanted)), Value::Array(live)) if there.has_keyed_items() => {
                // From the end, so that the indices of those that follow stay what they are.
                for (index, item) in live.iter().enumerate().rev() {
                    if !there.owns(item) && !wanted.contains(item) {
                        add(&name_of(item), format!("{pointer}/{index}"), removal());
                    }
                }
            }
            (Some(wanted), live) if wanted != live => {
                let operation = json!({"op": "replace", "value": wanted});
                add("items", pointer.clone(), operation);
            }
            _ => {}
        }
    }
    (found, patch)
}

/// How people call a list item.
fn name_of(item: &Value) -> String {
    match key_of(item).map(|key| &item[key]) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "item".to_owned(),
    }
}

/// A value at a path, with its JSON pointer and what our manager owns of it.
struct Place<'v> {
    value: &'v Value,
    pointer: String,
    ours: Vec<&'v Map<String, Value>>,
}

impl<'v> Place<'v> {
    fn find(manager: &str, live: &'v Value, path: &[&str]) -> Option<Self> {
        let applied = managed_fields(live).filter(|entry| is_apply_entry(entry, manager));
        let mut at = Self {
            value: live,
            pointer: String::new(),
            ours: applied
                .filter_map(|entry| entry["fieldsV1"].as_object())
                .collect(),
        };
        for segment in path {
            let (value, step) = match at.value {
                Value::Object(fields) => (fields.get(*segment)?, escaped(segment)),
                Value::Array(items) => {
                    let index = items.iter().position(|item| is_named(item, segment))?;
                    (&items[index], index.to_string())
                }
                _ => return None,
            };
            at = Self {
                value,
                pointer: format!("{}/{step}", at.pointer),
                ours: at.below(value).filter_map(Value::as_object).collect(),
            };
        }
        Some(at)
    }

    /// What we own of something that is directly in here.
    fn below(&self, child: &Value) -> impl Iterator<Item = &'v Value> {
        let steps = self.ours.iter().flat_map(|tree| tree.iter());
        steps
            .filter(move |(key, _)| child_at(self.value, key).is_some_and(|it| std::ptr::eq(it, child)))
            .map(|(_, subtree)| subtree)
    }

    /// Whether it is a list whose items have owners of their own.
    fn has_keyed_items(&self) -> bool {
        self.ours
            .iter()
            .any(|tree| tree.keys().any(|key| key.starts_with("k:")))
    }

    fn owns(&self, item: &Value) -> bool {
        self.below(item).next().is_some()
    }
}

/// RFC 6901.
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is removed of a live object of which we own these fields.
    fn check(wanted: Value, mut live: Value, owned: Value, path: &str) -> Value {
        live["metadata"]["managedFields"] = json!([
            {"manager": "them", "operation": "Update", "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {}}}}},
            {"manager": "us", "operation": "Apply", "fieldsV1": owned},
        ]);
        json!(surplus("us", &wanted, &live, [path].into_iter()).1)
    }

    fn removals(paths: &[&str]) -> Value {
        let removal = |path: &&str| json!({"op": "remove", "path": path});
        paths.iter().map(removal).collect()
    }

    #[test]
    fn a_key_that_somebody_added_to_a_map_is_removed() {
        let (found, patch) = surplus(
            "us",
            &json!({"data": {"a": "1"}}),
            &json!({"data": {"a": "1", "b/c": "2"}}),
            ["/data"].into_iter(),
        );
        assert_eq!(json!(patch), removals(&["/data/b~1c"]));
        assert_eq!((found[0].at.as_str(), found[0].name.as_str()), (".data", "b/c"));
    }

    #[test]
    fn items_that_somebody_added_to_a_list_are_removed_from_its_end() {
        let wanted = json!({"spec": {"containers": [{"name": "a"}]}});
        let live =
            json!({"spec": {"containers": [{"name": "x"}, {"name": "a", "tty": true}, {"name": "y"}]}});
        let owned = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}}});
        assert_eq!(
            check(wanted, live, owned, "/spec/containers"),
            removals(&["/spec/containers/2", "/spec/containers/0"])
        );
    }

    #[test]
    fn a_path_through_a_list_item_is_found_by_the_value_of_its_key_and_of_no_other_field() {
        let wanted = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "A"}]}]}});
        let live = json!({"spec": {"containers": [
            {"name": "x", "image": "a", "env": [{"name": "C"}]},
            {"name": "a", "env": [{"name": "A", "value": "B"}, {"name": "B"}]},
        ]}});
        let env = json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}}}});
        let owned = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": env}}});
        assert_eq!(
            check(wanted, live, owned, "/spec/containers/a/env"),
            removals(&["/spec/containers/1/env/1"])
        );
    }

    #[test]
    fn items_are_told_apart_by_all_fields_of_their_key() {
        let port = |protocol: &str| json!({"containerPort": 53, "protocol": protocol, "name": "dns"});
        let mount = |path: &str| json!({"name": "data", "mountPath": path});
        let owned = json!({
            "f:ports": {"k:{\"containerPort\":53,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}}},
            "f:mounts": {"k:{\"mountPath\":\"/a\"}": {".": {}, "f:name": {}}},
        });
        let wanted = json!({"ports": [{"containerPort": 53, "protocol": "UDP"}], "mounts": [mount("/a")]});
        let live = json!({"ports": [port("TCP"), port("UDP")], "mounts": [mount("/a"), mount("/b")]});
        let removed = |path| check(wanted.clone(), live.clone(), owned.clone(), path);
        assert_eq!(removed("/ports"), removals(&["/ports/0"]));
        assert_eq!(removed("/mounts"), removals(&["/mounts/1"]));
    }

    #[test]
    fn a_list_without_keys_is_put_back_whole() {
        let (wanted, live) = (
            json!({"rules": [{"verbs": ["get"]}]}),
            json!({"rules": [{"verbs": ["get", "*"]}]}),
        );
        let owned = json!({"f:rules": {}});
        assert_eq!(
            check(wanted.clone(), live, owned.clone(), "/rules"),
            json!([{"op": "replace", "path": "/rules", "value": [{"verbs": ["get"]}]}])
        );
        assert_eq!(check(wanted.clone(), wanted, owned, "/rules"), json!([]));
    }
}
