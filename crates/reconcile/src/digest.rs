//! Digests: what our field manager owns of a live object, in 128 bits (runtime design §4).
//!
//! Owns the walk of `FieldsV1` over a body and the hash. Knows nothing of watches or of what is done about a
//! difference.
//!
//! A digest covers the value of every field that our manager owns by server-side apply, and which fields those
//! are. So it is equal through defaulting, status, and other managers' fields, and differs as soon as somebody
//! changes, removes or takes over one of ours.
mod paths;

pub(crate) use paths::{
    at_path, child_at, is_apply_entry, is_named, key_of, managed_fields, segment_of, segments,
};

use paths::paths;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Stands before each digest as text. A digest with another one cannot be compared: it is made anew.
const ALGORITHM: &str = "x1";

/// Names the paths of a child that are left to others, on the child itself: so a watch can decode it without
/// further knowledge. Our manager owns the annotation, so changing it is drift like any other.
pub const IGNORE_ANNOTATION: &str = "reconcile/ignored-paths";

/// Names the paths of a child at which nothing but what is wanted may be, whoever owns it: see [`IGNORE_ANNOTATION`]
/// for why it is on the child itself.
pub const EXACT_ANNOTATION: &str = "reconcile/exact-paths";

/// The fields that one manager owns, as FieldsV1 has them.
type Tree = Map<String, Value>;

/// 128 bits that stand for a canonical JSON value or for the owned fields of a live object.
///
/// As text it is `x1:` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest in `text`; `None` when it was made by an algorithm that this build does not know.
    ///
    /// ```
    /// use openmcp_reconcile::digest::Digest;
    /// assert!(Digest::parse("x0:00").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(ALGORITHM)?.strip_prefix(':')?;
        (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok().map(Self::from))?
    }
}

/// Stored as bytes: a `u128` would make everything that holds one bigger, for its alignment.
impl From<u128> for Digest {
    fn from(number: u128) -> Self {
        Self(number.to_be_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes digests for one field manager of one installation.
#[derive(Debug, Clone)]
pub struct Digester {
    manager: Arc<str>,
    seed: u64,
}

/// Field trees, one a manager.
type Trees<'a> = Vec<&'a Tree>;

impl Digester {
    /// `key` is any text that tenants cannot read: they write what is hashed, and must not be able to search for
    /// two values with one digest.
    pub fn new(manager: impl Into<Arc<str>>, key: &str) -> Self {
        Self {
            manager: manager.into(),
            seed: xxh3_64(key.as_bytes()),
        }
    }

    /// The field manager whose fields are digested.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// The digest of a whole value: of a desired object.
    pub fn of_value(&self, value: &Value) -> Digest {
        let mut hash = Hash::new(self.seed);
        hash.value(value);
        hash.finish()
    }

    /// The digest of the fields of `body` that our manager owns.
    pub fn of_owned(&self, body: &Value) -> Digest {
        let mut hash = Hash::new(self.seed);
        let (ours, others) = self.split_owners(body);
        let ignored = paths(body, IGNORE_ANNOTATION);
        for tree in ours {
            let place = Place {
                value: Some(body),
                others: others.clone(),
            };
            walk(tree, &place, &ignored, &mut Vec::new(), &mut hash);
        }
        for path in paths(body, EXACT_ANNOTATION) {
            hash.tag(b'=');
            hash.value(at_path(body, &path).unwrap_or(&Value::Null));
        }
        hash.finish()
    }

    /// The field trees of our apply entries, and those of everybody else.
    fn split_owners<'a>(&self, body: &'a Value) -> (Trees<'a>, Trees<'a>) {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for entry in managed_fields(body) {
            let Some(tree) = entry["fieldsV1"].as_object() else {
                continue;
            };
            if is_apply_entry(entry, &self.manager) {
                ours.push(tree)
            } else {
                others.push(tree)
            }
        }
        (ours, others)
    }
}

/// A place in the body, with what others own below it.
struct Place<'a> {
    value: Option<&'a Value>,
    others: Vec<&'a Tree>,
}

impl<'a> Place<'a> {
    fn step(&self, key: &str) -> Place<'a> {
        let others = self
            .others
            .iter()
            .filter_map(|tree| tree.get(key)?.as_object())
            .collect();
        Place {
            value: self.value.and_then(|value| child_at(value, key)),
            others,
        }
    }

    /// A container that others own parts of, or an empty one, is granular: what is in it is not ours.
    fn is_granular(&self) -> bool {
        let empty = match self.value {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            _ => return false,
        };
        empty || self.others.iter().any(|tree| tree.keys().any(|key| key != "."))
    }
}

fn walk(tree: &Tree, at: &Place<'_>, ignored: &[Vec<&str>], path: &mut Vec<String>, hash: &mut Hash) {
    if tree.keys().all(|key| key == ".") {
        match at.value {
            None => hash.tag(b'-'),
            Some(_) if at.is_granular() => hash.tag(b'+'),
            Some(value) => hash.value(value),
        }
        return;
    }
    let mut keys: Vec<&String> = tree.keys().collect();
    keys.sort_unstable();
    for key in keys {
        path.push(segment_of(key));
        // Whether it is owned does not count either: whoever changes it takes it over.
        if !ignored.iter().any(|ignored| ignored.iter().eq(path.iter())) {
            hash.bytes(b'(', key.as_bytes());
            if let Some(subtree) = tree[key.as_str()].as_object().filter(|_| key != ".") {
                walk(subtree, &at.step(key), ignored, path, hash);
            }
            hash.tag(b')');
        }
        path.pop();
    }
}

/// Feeds tagged, length-delimited pieces, so that no two different inputs give the same bytes.
struct Hash(Xxh3);

impl Hash {
    fn new(seed: u64) -> Self {
        Self(Xxh3::with_seed(seed))
    }

    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.tag(tag);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.tag(b'n'),
            Value::Bool(flag) => self.tag(if *flag { b't' } else { b'f' }),
            Value::Number(number) => self.bytes(b'd', number.to_string().as_bytes()),
            Value::String(text) => self.bytes(b's', text.as_bytes()),
            Value::Array(items) => {
                self.bytes(b'[', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(fields) => {
                self.bytes(b'{', &(fields.len() as u64).to_le_bytes());
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(name, _)| *name);
                for (name, value) in fields {
                    self.bytes(b'.', name.as_bytes());
                    self.value(value);
                }
            }
        }
    }

    fn finish(&self) -> Digest {
        self.0.digest128().into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn digester() -> Digester {
        Digester::new("sp-kro", "installation")
    }

    fn deployment() -> Value {
        json!({
            "metadata": {
                "name": "kro",
                "labels": {"app": "kro", "tenant": "x"},
                "managedFields": [
                    {"manager": "sp-kro", "operation": "Apply", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {"f:replicas": {}, "f:strategy": {}, "f:template": {"f:spec": {"f:containers": {
                            "k:{\"name\":\"kro\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}}}}}},
                    }},
                    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
                     "fieldsV1": {"f:status": {"f:replicas": {}}}},
                ],
            },
            "spec": {"replicas": 1, "strategy": {"type": "RollingUpdate"}, "template": {"spec": {"containers": [
                {"name": "side", "image": "x"}, {"name": "kro", "image": "kro:1", "args": ["-a"], "tty": false}]}}},
            "status": {"replicas": 1},
        })
    }

    fn container(body: &mut Value) -> &mut Value {
        &mut body["spec"]["template"]["spec"]["containers"][1]
    }

    #[test]
    fn foreign_fields_status_and_list_order_do_not_change_a_digest() {
        let before = digester().of_owned(&deployment());
        let mut body = deployment();
        body["metadata"]["labels"]["tenant"] = json!("y");
        body["status"]["replicas"] = json!(7);
        container(&mut body)["tty"] = json!(true);
        let items = body["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap();
        items.reverse();
        assert_eq!(before, digester().of_owned(&body));
    }

    #[test]
    fn a_changed_owned_field_changes_the_digest() {
        let before = digester().of_owned(&deployment());
        let mut body = deployment();
        container(&mut body)["image"] = json!("kro:2");
        assert_ne!(before, digester().of_owned(&body));
        let mut body = deployment();
        container(&mut body)["args"] = json!(["-a", "-b"]);
        assert_ne!(before, digester().of_owned(&body));
        let mut body = deployment();
        body["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .pop();
        assert_ne!(before, digester().of_owned(&body));
    }

    #[test]
    fn a_field_taken_over_changes_the_digest_though_its_value_is_the_same() {
        let mut body = deployment();
        let ours = &mut body["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
        ours.as_object_mut().unwrap().remove("f:replicas");
        assert_ne!(digester().of_owned(&deployment()), digester().of_owned(&body));
    }

    #[test]
    fn an_ignored_path_is_left_to_others() {
        let ignoring = |body: &mut Value| {
            body["metadata"]["annotations"] =
                json!({IGNORE_ANNOTATION: "/spec/replicas /spec/template/spec/containers/kro/image"});
        };
        let (mut before, mut after) = (deployment(), deployment());
        ignoring(&mut before);
        ignoring(&mut after);
        after["spec"]["replicas"] = json!(5);
        let owned = after["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"].as_object_mut();
        owned.unwrap().remove("f:replicas");
        container(&mut after)["image"] = json!("kro:2");
        assert_eq!(digester().of_owned(&before), digester().of_owned(&after));
        container(&mut after)["args"] = json!([]);
        assert_ne!(digester().of_owned(&before), digester().of_owned(&after));
    }

    #[test]
    fn an_empty_map_that_others_fill_is_not_drift() {
        let owned = json!({"f:metadata": {"f:annotations": {}}});
        let mine = json!({"manager": "sp-kro", "operation": "Apply", "fieldsV1": owned});
        let before = json!({"metadata": {"annotations": {}, "managedFields": [mine]}});
        let theirs = json!({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {"f:a": {}}}}});
        let after = json!({"metadata": {"annotations": {"a": "1"}, "managedFields": [mine, theirs]}});
        assert_eq!(digester().of_owned(&before), digester().of_owned(&after));
    }

    #[test]
    fn set_members_and_indexes_are_followed() {
        let set = json!(["a", "b"]);
        assert_eq!(child_at(&set, "v:\"b\""), Some(&json!("b")));
        assert_eq!(child_at(&set, "v:\"c\""), None);
        assert_eq!(child_at(&set, "i:0"), Some(&json!("a")));
    }

    #[test]
    fn texts_that_run_together_are_told_apart() {
        let of = |value| digester().of_value(&value);
        assert_ne!(of(json!(["ab", "c"])), of(json!(["a", "bc"])));
        assert_ne!(of(json!({"a": "b"})), of(json!(["a", "b"])));
        assert_ne!(of(json!("1")), of(json!(1)));
    }

    #[test]
    fn another_installation_has_other_digests() {
        let other = Digester::new("sp-kro", "elsewhere");
        assert_ne!(digester().of_owned(&deployment()), other.of_owned(&deployment()));
    }

    #[test]
    fn a_digest_reads_back_from_its_text_and_another_algorithm_is_unknown() {
        let digest = digester().of_value(&json!({}));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&digest.to_string().replace("x1", "x9")), None);
    }
}
