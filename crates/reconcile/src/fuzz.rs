//! Arbitrary input for the parsers: nonsense, documents of the right words in the wrong places, and valid documents with
//! something else somewhere in them. Seeds that failed once are kept in `proptest-regressions`.
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// serde_json and serde_yaml read no deeper than this.
pub(crate) const DEEPEST: usize = 126;

/// Words that the code looks for, and some that look like them.
const WORDS: &[&str] = &[
    "",
    ".",
    "metadata",
    "name",
    "uid",
    "annotations",
    "managedFields",
    "manager",
    "operation",
    "Apply",
    "us",
    "subresource",
    "fieldsV1",
    "f:",
    "f:spec",
    "f:é",
    "k:{\"name\":\"a\"}",
    "k:{",
    "k:[]",
    "v:\"a\"",
    "v:",
    "i:0",
    "i:-1",
    "i:99999999999999999999",
    "é",
    "aé",
    "spec",
    "replicas",
    "status",
    "conditions",
    "type",
    "Ready",
    "Stalled",
    "True",
    "message",
    "observedGeneration",
    "generation",
    "deletionTimestamp",
    "phase",
    "data",
    "a",
    "/data/a",
    "/spec /metadata//",
    "kind",
    "items",
    "reconcile/ignored-paths",
    "reconcile/exact-paths",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

/// Any value; the words in it are such as the code looks for.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((word(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// `valid` with other values at some places.
pub(crate) fn mutated(valid: Value) -> impl Strategy<Value = Value> {
    vec((vec(any::<prop::sample::Index>(), 0..8), value()), 1..4).prop_map(move |mutations| {
        let mut mutant = valid.clone();
        for (path, other) in mutations {
            replace(&mut mutant, &path, other);
        }
        mutant
    })
}

fn replace(at: &mut Value, path: &[prop::sample::Index], other: Value) {
    let next = match (path.split_first(), &mut *at) {
        (Some((step, rest)), Value::Object(fields)) if !fields.is_empty() => {
            let nth = step.index(fields.len());
            fields.values_mut().nth(nth).map(|field| (field, rest))
        }
        (Some((step, rest)), Value::Array(items)) if !items.is_empty() => {
            let nth = step.index(items.len());
            items.get_mut(nth).map(|item| (item, rest))
        }
        _ => None,
    };
    match next {
        Some((next, rest)) => replace(next, rest, other),
        None => *at = other,
    }
}

/// A value as deep as can be read, of one field in the other.
pub(crate) fn deep(field: &str, depth: usize) -> Value {
    (0..depth).fold(json!({}), |inner, _| {
        Value::Object(Map::from_iter([(field.to_owned(), inner)]))
    })
}
