//! Whether a live object is as desired, without asking the API server.
use serde_json::Value;
use std::hash::Hasher;
use xxhash_rust::xxh3::Xxh3;

/// The hash of an object, independent of the order of its fields.
pub(super) fn hash(value: &Value) -> String {
    let mut hasher = Xxh3::new();
    feed(&mut hasher, value);
    format!("{:032x}", hasher.digest128())
}

/// Length-delimited and typed, so that no two values are fed alike.
fn feed(hasher: &mut Xxh3, value: &Value) {
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(value) => hasher.write(&[1, (*value).into()]),
        Value::Number(number) => text(hasher, 2, &number.to_string()),
        Value::String(string) => text(hasher, 3, string),
        Value::Array(items) => {
            hasher.write_u8(4);
            hasher.write_usize(items.len());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(fields) => {
            hasher.write_u8(5);
            hasher.write_usize(fields.len());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                text(hasher, 6, name);
                feed(hasher, value);
            }
        }
    }
}

fn text(hasher: &mut Xxh3, tag: u8, text: &str) {
    hasher.write_u8(tag);
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
}

/// Every field of `desired` is in `live` with the same value. The hash of the last desired object is one of the
/// fields, so that a field that is not desired any more is noticed, too.
pub(super) fn is_current(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(name, desired)| match live.get(name) {
                Some(live) => is_current(live, desired),
                None => is_nothing(desired),
            })
        }
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live
                    .iter()
                    .zip(desired)
                    .all(|(live, desired)| is_current(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// What the API server does not store.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaulted_fields_are_no_difference_and_changed_ones_are() {
        let live = json!({"spec": {"containers": [{"name": "a", "image": "x", "imagePullPolicy": "Always"}], "dns": 1}});
        assert!(is_current(
            &live,
            &json!({"spec": {"containers": [{"name": "a", "image": "x"}], "args": []}})
        ));
        assert!(!is_current(
            &live,
            &json!({"spec": {"containers": [{"name": "a", "image": "y"}]}})
        ));
        assert!(!is_current(&live, &json!({"spec": {"containers": []}})));
        assert!(!is_current(&live, &json!({"spec": {"replicas": 0}})));
    }

    #[test]
    fn the_hash_tells_structure_apart_and_not_order() {
        assert_eq!(
            hash(&json!({"a": 1, "b": [true]})),
            hash(&json!({"b": [true], "a": 1}))
        );
        assert_ne!(hash(&json!(["a", "b"])), hash(&json!(["ab"])));
        assert_ne!(hash(&json!({"a": null})), hash(&json!({})));
        assert_ne!(hash(&json!("1")), hash(&json!(1)));
    }
}
