//! Mode Exact: at a path nothing but what is wanted may be. Server-side apply leaves alone what others add beside our
//! fields; here it is found, and removed by a patch that is tested against what was read.
use super::drift::key_of;
use crate::digest::{at_path, segments};
use serde_json::{Value, json};

/// Something that others added at an exact path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surplus {
    /// ".data", for people.
    pub(super) at: String,
    /// The key of the map, or of the list item.
    pub(super) name: String,
}

/// What `live` has at the exact paths beyond `wanted`, and the operations of the JSON patch that removes it.
pub(super) fn surplus<'a>(
    wanted: &Value,
    live: &Value,
    paths: impl Iterator<Item = &'a str>,
) -> (Vec<Surplus>, Vec<Value>) {
    let (mut found, mut patch) = (Vec::new(), Vec::new());
    for path in paths {
        let path = segments(path);
        let Some((there, pointer)) = locate(live, &path) else {
            continue;
        };
        let at = format!(".{}", path.join("."));
        let named = |name: &str| Surplus {
            at: at.clone(),
            name: name.to_owned(),
        };
        match (at_path(wanted, &path), there) {
            (Some(Value::Object(wanted)), Value::Object(live)) => {
                for key in live.keys().filter(|key| !wanted.contains_key(*key)) {
                    found.push(named(key));
                    patch.push(json!({"op": "remove", "path": format!("{pointer}/{}", escaped(key))}));
                }
            }
            (Some(Value::Array(wanted)), Value::Array(live))
                if live.iter().all(|it| key_of(it).is_some()) =>
            {
                let is_wanted = |item: &Value| {
                    key_of(item).is_some_and(|key| wanted.iter().any(|it| it[key] == item[key]))
                };
                // From the end, so that the indices of those that follow stay what they are.
                for (index, item) in live.iter().enumerate().rev().filter(|(_, item)| !is_wanted(item)) {
                    found.push(named(
                        key_of(item).map_or("", |key| item[key].as_str().unwrap_or(key)),
                    ));
                    patch.push(json!({"op": "remove", "path": format!("{pointer}/{index}")}));
                }
            }
            (Some(wanted), live) if wanted != live => {
                found.push(named("items"));
                patch.push(json!({"op": "replace", "path": pointer, "value": wanted}));
            }
            _ => {}
        }
    }
    (found, patch)
}

/// The value at a path of segments, with its JSON pointer.
fn locate<'v>(value: &'v Value, path: &[&str]) -> Option<(&'v Value, String)> {
    let (mut at, mut pointer) = (value, String::new());
    for segment in path {
        at = match at {
            Value::Object(fields) => {
                pointer.push_str(&format!("/{}", escaped(segment)));
                fields.get(*segment)?
            }
            Value::Array(items) => {
                let index = items
                    .iter()
                    .position(|item| crate::digest::is_named(item, segment))?;
                pointer.push_str(&format!("/{index}"));
                &items[index]
            }
            _ => return None,
        };
    }
    Some((at, pointer))
}

/// RFC 6901.
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: Value, live: Value, path: &str) -> Value {
        json!(surplus(&wanted, &live, [path].into_iter()).1)
    }

    #[test]
    fn a_key_that_somebody_added_to_a_map_is_removed() {
        let (found, patch) = surplus(
            &json!({"data": {"a": "1"}}),
            &json!({"data": {"a": "1", "b/c": "2"}}),
            ["/data"].into_iter(),
        );
        assert_eq!(patch, [json!({"op": "remove", "path": "/data/b~1c"})]);
        assert_eq!((found[0].at.as_str(), found[0].name.as_str()), (".data", "b/c"));
    }

    #[test]
    fn items_that_somebody_added_to_a_list_are_removed_from_its_end() {
        let wanted = json!({"spec": {"containers": [{"name": "a"}]}});
        let live =
            json!({"spec": {"containers": [{"name": "x"}, {"name": "a", "tty": true}, {"name": "y"}]}});
        assert_eq!(
            check(wanted, live, "/spec/containers"),
            json!([{"op": "remove", "path": "/spec/containers/2"}, {"op": "remove", "path": "/spec/containers/0"}])
        );
    }

    #[test]
    fn a_path_below_a_list_item_is_found_by_its_key() {
        let wanted = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "A"}]}]}});
        let live = json!({"spec": {"containers": [{"name": "x"}, {"name": "a", "env": [{"name": "A"}, {"name": "B"}]}]}});
        assert_eq!(
            check(wanted, live, "/spec/containers/a/env"),
            json!([{"op": "remove", "path": "/spec/containers/1/env/1"}])
        );
    }

    #[test]
    fn a_list_without_keys_is_put_back_whole() {
        let (wanted, live) = (
            json!({"rules": [{"verbs": ["get"]}]}),
            json!({"rules": [{"verbs": ["get", "*"]}]}),
        );
        assert_eq!(
            check(wanted.clone(), live, "/rules"),
            json!([{"op": "replace", "path": "/rules", "value": [{"verbs": ["get"]}]}])
        );
        assert_eq!(check(wanted.clone(), wanted, "/rules"), json!([]));
    }
}
