//! Sets of field paths, as `managedFields` has them (FieldsV1): which paths a manager owns.
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A set of paths. A segment is written as FieldsV1 writes it: `f:name`, `k:{"name":"x"}`, `v:"x"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    members: BTreeSet<String>,
    children: BTreeMap<String, Fields>,
}

impl Fields {
    pub(crate) const NONE: Self = Self {
        members: BTreeSet::new(),
        children: BTreeMap::new(),
    };

    pub(crate) fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => drop(self.members.insert(last.clone())),
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(crate) fn insert_child(&mut self, segment: String, child: Self) {
        if !child.is_empty() {
            self.children.insert(segment, child);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// The segment itself.
    pub(crate) fn has(&self, segment: &str) -> bool {
        self.members.contains(segment)
    }

    /// The segment itself, or anything beneath it.
    pub(crate) fn reaches(&self, segment: &str) -> bool {
        self.members.contains(segment) || self.children.contains_key(segment)
    }

    pub(crate) fn child(&self, segment: &str) -> Option<&Self> {
        self.children.get(segment)
    }

    /// Takes out one path, not what is beneath.
    pub(crate) fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => drop(self.members.remove(*last)),
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes out a segment with everything beneath.
    pub(crate) fn strip(&mut self, segment: &str) {
        self.members.remove(segment);
        self.children.remove(segment);
    }

    /// Nothing but what is at and beneath a segment is left.
    pub(crate) fn keep_only(&mut self, segment: &str) {
        self.members.retain(|member| member == segment);
        self.children.retain(|child, _| child == segment);
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (segment, child) in &other.children {
            let merged = match out.children.get(segment) {
                Some(ours) => ours.union(child),
                None => child.clone(),
            };
            out.children.insert(segment.clone(), merged);
        }
        out
    }

    /// The paths of `self` that are not in `other`.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut out = Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (segment, child) in &self.children {
            let left = match other.children.get(segment) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            out.insert_child(segment.clone(), left);
        }
        out
    }

    /// The paths that are in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut out = Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: BTreeMap::new(),
        };
        for (segment, child) in &self.children {
            if let Some(theirs) = other.children.get(segment) {
                out.insert_child(segment.clone(), child.intersection(theirs));
            }
        }
        out
    }

    /// Each path as people write it: `.spec.containers[name="x"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<String>) {
        for member in &self.members {
            out.push(format!("{prefix}{}", in_words(member)));
        }
        for (segment, child) in &self.children {
            child.collect(&format!("{prefix}{}", in_words(segment)), out);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut out: Map<String, Value> = Map::new();
        for member in &self.members {
            out.insert(member.clone(), Value::Object(Map::new()));
        }
        for (segment, child) in &self.children {
            let mut child = child.to_json();
            if self.members.contains(segment) {
                child["."] = Value::Object(Map::new());
            }
            out.insert(segment.clone(), child);
        }
        Value::Object(out)
    }

    pub(crate) fn from_json(json: &Value) -> Self {
        let mut out = Self::default();
        for (segment, child) in json.as_object().into_iter().flatten().filter(|(s, _)| *s != ".") {
            let beneath = Self::from_json(child);
            if beneath.is_empty() || child.get(".").is_some() {
                out.members.insert(segment.clone());
            }
            out.insert_child(segment.clone(), beneath);
        }
        out
    }
}

fn in_words(segment: &str) -> String {
    match segment.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let words: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", words.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => segment.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_read_back_as_they_were_written() {
        let json = json!({
            "f:data": {".": {}, "f:a": {}},
            "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}}},
        });
        let fields = Fields::from_json(&json);
        assert_eq!(fields.to_json(), json);
        assert_eq!(
            fields.paths(),
            [
                ".data",
                ".data.a",
                ".spec.containers[name=\"x\"]",
                ".spec.containers[name=\"x\"].image"
            ]
        );
    }

    #[test]
    fn a_difference_takes_exact_paths_only() {
        let both = Fields::from_json(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}}));
        let other = Fields::from_json(&json!({"f:a": {".": {}, "f:b": {}}}));
        assert_eq!(both.difference(&other).to_json(), json!({"f:a": {"f:c": {}}}));
        assert_eq!(both.intersection(&other), other);
    }
}
