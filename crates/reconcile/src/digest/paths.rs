//! How an object's own text names its parts: managedFields entries, steps of FieldsV1, paths for people.
use serde_json::{Map, Value};

/// The entries of `metadata.managedFields`.
pub(crate) fn managed_fields(body: &Value) -> impl Iterator<Item = &Value> {
    body["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// Whether a managedFields entry is what `manager` applied (not its updates, not a subresource).
pub(crate) fn is_apply_entry(entry: &Value, manager: &str) -> bool {
    entry["manager"] == manager
        && entry["operation"] == "Apply"
        && entry["subresource"].as_str().is_none_or(str::is_empty)
}

/// The paths in an annotation of a child, each as its segments.
pub(super) fn paths<'a>(body: &'a Value, annotation: &str) -> Vec<Vec<&'a str>> {
    let text = body["metadata"]["annotations"][annotation]
        .as_str()
        .unwrap_or_default();
    text.split_whitespace().map(segments).collect()
}

/// `/spec/template/spec/containers/kro/image` as segments; a list item is named by the value of its key.
pub(crate) fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// The value at a path. A list item is named by the value of its key.
pub(crate) fn at_path<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let Some((segment, rest)) = path.split_first() else {
        return Some(value);
    };
    let next = match value {
        Value::Object(fields) => fields.get(*segment)?,
        Value::Array(items) => items.iter().find(|item| is_named(item, segment))?,
        _ => return None,
    };
    at_path(next, rest)
}

/// What list items are told apart by, the most usual first. Volumes may be mounted twice under one name.
const ITEM_KEYS: [&str; 8] = [
    "mountPath",
    "devicePath",
    "name",
    "key",
    "type",
    "containerPort",
    "port",
    "ip",
];

/// The field that tells this list item apart.
pub(crate) fn key_of(item: &Value) -> Option<&'static str> {
    ITEM_KEYS.into_iter().find(|key| !item[*key].is_null())
}

/// Whether a path's segment names this list item: it is the value of a field that tells items apart. Of an item that has
/// none of the usual ones, as in custom resources, it is the value of any field.
pub(crate) fn is_named(item: &Value, segment: &str) -> bool {
    let is = |value: &Value| match value {
        Value::String(text) => text == segment,
        Value::Number(number) => number.to_string() == segment,
        _ => false,
    };
    match key_of(item) {
        Some(_) => ITEM_KEYS.into_iter().any(|key| is(&item[key])),
        None => item.as_object().is_some_and(|fields| fields.values().any(is)),
    }
}

/// What a step of FieldsV1 leads to: `f:` a field, `k:` the list item with these keys, `v:` the set member with
/// this value, `i:` the item at this index.
pub(crate) fn child_at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let (prefix, rest) = key.split_at_checked(2)?;
    match prefix {
        "f:" => value.get(rest),
        "k:" => {
            let selector: Map<String, Value> = serde_json::from_str(rest).ok()?;
            let bears = |item: &&Value| {
                selector
                    .iter()
                    .all(|(name, wanted)| item.get(name) == Some(wanted))
            };
            value.as_array()?.iter().find(bears)
        }
        "v:" => {
            let wanted: Value = serde_json::from_str(rest).ok()?;
            value.as_array()?.iter().find(|item| **item == wanted)
        }
        "i:" => value.get(rest.parse::<usize>().ok()?),
        _ => None,
    }
}

/// How a step of FieldsV1 is written in a path for people and in ignore paths: the field, the first key's value.
pub(crate) fn segment_of(key: &str) -> String {
    let Some((prefix, rest)) = key.split_at_checked(2) else {
        return key.to_owned();
    };
    let first = match prefix {
        "k:" => serde_json::from_str::<Map<String, Value>>(rest)
            .ok()
            .and_then(|keys| keys.values().next().cloned()),
        "v:" => serde_json::from_str(rest).ok(),
        _ => None,
    };
    match first {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_without_a_usual_key_is_named_by_any_field_and_one_with_a_key_is_not() {
        let usual = json!({"name": "kro", "image": "a"});
        assert!(is_named(&usual, "kro") && !is_named(&usual, "a"));
        let custom = json!({"id": 7, "text": "a"});
        assert!(is_named(&custom, "7") && !is_named(&custom, "8"));
    }
}
