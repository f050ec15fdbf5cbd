//! How lists and maps of a kind are merged: a table for built-in kinds, the OpenAPI schema for custom ones.
//!
//! A list that the table does not know is refused, never guessed.
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is known of a field.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Node {
    fields: BTreeMap<String, Node>,
    /// List items, or values of a map.
    items: Option<Box<Node>>,
    pub(crate) shape: Shape,
    default: Option<Value>,
    /// Objects here keep fields that are not declared.
    open: bool,
    /// Declared by a schema: fields that are not are pruned.
    closed: bool,
    /// What a schema wants here, where it refuses null.
    wants: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Shape {
    /// Objects field by field; a list here is not known.
    #[default]
    Granular,
    /// Lists and objects as one value.
    Atomic,
    /// A list of values.
    Set,
    /// A list of objects that are told apart by these fields, with their defaults.
    Keyed(Vec<(String, Option<Value>)>),
}

static NOTHING: Node = Node {
    fields: BTreeMap::new(),
    items: None,
    shape: Shape::Granular,
    default: None,
    open: true,
    closed: false,
    wants: None,
};
static DEDUCED: Node = Node {
    fields: BTreeMap::new(),
    items: None,
    shape: Shape::Granular,
    default: None,
    open: true,
    closed: true,
    wants: None,
};

impl Node {
    /// What is known of a field of an object here.
    pub(crate) fn field(&self, name: &str) -> &Self {
        match (self.fields.get(name), &self.items) {
            (Some(field), _) => field,
            (None, Some(items)) => items,
            (None, None) if self.closed => &DEDUCED,
            (None, None) => &NOTHING,
        }
    }

    /// What is known of an item of a list here.
    pub(crate) fn item(&self) -> &Self {
        self.items
            .as_deref()
            .unwrap_or(if self.closed { &DEDUCED } else { &NOTHING })
    }

    /// Where a schema leaves everything open, lists are atomic.
    pub(crate) fn is_deduced(&self) -> bool {
        self.closed
    }

    /// Whether a field's name is a key of a map rather than declared.
    pub(crate) fn is_map(&self) -> bool {
        self.closed && self.fields.is_empty()
    }

    /// A table of `path: rule` lines.
    pub(crate) fn of_table(rows: &[(&str, &str)]) -> Self {
        let mut root = Self::default();
        for (path, rule) in rows {
            let mut node = &mut root;
            for segment in path.split('.') {
                node = match segment {
                    "*" => node.items.get_or_insert_default(),
                    name => node.fields.entry(name.to_owned()).or_default(),
                };
            }
            node.shape = match *rule {
                "atomic" => Shape::Atomic,
                "set" => Shape::Set,
                keys => Shape::Keyed(keys.split(',').map(key).collect()),
            };
        }
        root
    }

    /// Joins a table beneath a field.
    pub(crate) fn with(mut self, path: &str, node: Self) -> Self {
        let mut at = &mut self;
        for segment in path.split('.') {
            at = at.fields.entry(segment.to_owned()).or_default();
        }
        at.fields.extend(node.fields);
        self
    }

    /// Joins a table beneath the items of a list.
    pub(crate) fn with_items(mut self, list: &str, node: Self) -> Self {
        let items = self
            .fields
            .entry(list.to_owned())
            .or_default()
            .items
            .get_or_insert_default();
        items.fields.extend(node.fields);
        self
    }

    /// The OpenAPI schema of a custom kind; metadata is that of every kind.
    pub(crate) fn of_schema(schema: &Value, metadata: Self) -> Self {
        let mut root = schema_node(schema);
        root.fields.insert("metadata".to_owned(), metadata);
        for name in ["apiVersion", "kind"] {
            root.fields.entry(name.to_owned()).or_default();
        }
        root
    }

    /// Takes out what the schema does not declare, and fills in its defaults.
    pub(crate) fn conform(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if self.closed && !self.open && self.items.is_none() {
                    fields.retain(|name, _| self.fields.contains_key(name));
                }
                for (name, node) in &self.fields {
                    if let Some(default) = &node.default
                        && fields.get(name).is_none_or(Value::is_null)
                    {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in fields.iter_mut() {
                    self.field(name).conform(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.item().conform(item)),
            _ => {}
        }
    }
}

impl Node {
    /// The first null where the schema refuses it: its path, and what is wanted there.
    pub(crate) fn refused_null(&self, value: &Value) -> Option<(Vec<String>, String)> {
        let beneath = |name: String, node: &Self, value: &Value| {
            node.refused_null(value).map(|(mut path, wants)| {
                path.insert(0, name);
                (path, wants)
            })
        };
        match value {
            Value::Null => self.wants.clone().map(|wants| (Vec::new(), wants)),
            Value::Object(fields) => fields
                .iter()
                .find_map(|(name, value)| beneath(name.clone(), self.field(name), value)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .find_map(|(at, value)| beneath(format!("[{at}]"), self.item(), value)),
            _ => None,
        }
    }

    /// Drops nulls: those of built-in kinds are not stored.
    pub(crate) fn drop_nulls(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(Self::drop_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(Self::drop_nulls),
            _ => {}
        }
    }
}

fn key(text: &str) -> (String, Option<Value>) {
    match text.split_once('=') {
        Some((name, default)) => (name.to_owned(), Some(json!(default))),
        None => (text.to_owned(), None),
    }
}

fn schema_node(schema: &Value) -> Node {
    let text = |name: &str| schema[name].as_str().unwrap_or_default();
    let is_true = |name: &str| schema[name] == true;
    let mut node = Node {
        closed: true,
        open: is_true("x-kubernetes-preserve-unknown-fields"),
        default: schema.get("default").cloned(),
        wants: Some(text("type").to_owned()).filter(|it| !it.is_empty() && !is_true("nullable")),
        ..Node::default()
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        node.fields.insert(name.clone(), schema_node(field));
    }
    match &schema["additionalProperties"] {
        Value::Object(_) => node.items = Some(Box::new(schema_node(&schema["additionalProperties"]))),
        Value::Bool(true) => node.open = true,
        _ => {}
    }
    if schema["items"].is_object() {
        node.items = Some(Box::new(schema_node(&schema["items"])));
    }
    node.shape = match (text("x-kubernetes-list-type"), text("x-kubernetes-map-type")) {
        ("set", _) => Shape::Set,
        ("map", _) => {
            let item = &schema["items"]["properties"];
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            Shape::Keyed(
                keys.into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(|key| (key.to_owned(), item[key].get("default").cloned()))
                    .collect(),
            )
        }
        (_, "atomic") => Shape::Atomic,
        _ if text("type") == "array" => Shape::Atomic,
        _ => Shape::Granular,
    };
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_prunes_and_fills_in() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        }}}});
        let node = Node::of_schema(&schema, Node::default());
        let mut object = json!({"metadata": {"name": "x"}, "other": 1,
            "spec": {"bogus": 1, "free": {"a": {"b": 1}}, "map": {"k": "v"}}});
        node.conform(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "x"},
                "spec": {"size": 3, "free": {"a": {"b": 1}}, "map": {"k": "v"}}})
        );
    }
}
