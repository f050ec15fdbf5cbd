//! Drift in words: which of our fields somebody changed, and who now owns them.
//!
//! Who did it is read from managedFields and never guessed from times: where nobody is recorded (a removed field,
//! a deletion, `kubectl scale --replicas=0`) it says `unknown`.
use super::exact::Surplus;
use crate::digest::{child_at, is_apply_entry, key_of, managed_fields};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

/// Fields named in one Event; the rest are counted.
const NAMED_FIELDS: usize = 3;

const DELETED: &str = "re-created, deleted";

/// One repaired difference: `Deployment kro .spec.template image changed by kubectl-edit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Of the object.
    pub kind: String,
    /// Of the object.
    pub name: String,
    /// ".spec.template image changed", "re-created, deleted".
    pub what: String,
    /// The managers that now own what we lost, or `unknown`.
    pub by: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} by {}", self.kind, self.name, self.what, self.by)
    }
}

impl Drift {
    /// Whether the object had gone.
    pub(super) fn is_deletion(&self) -> bool {
        self.what == DELETED
    }

    /// The object had gone: nobody is recorded.
    pub(super) fn deleted(kind: &str, name: &str) -> Self {
        let (what, by) = (DELETED.to_owned(), "unknown".to_owned());
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            what,
            by,
        }
    }

    /// How `live` differs from what was `applied` by `manager`. `None` when all our values are there: then only
    /// ownership was taken, and the caller knows by whom.
    pub(super) fn between(applied: &Value, live: &Value, manager: &str) -> Option<Self> {
        let mut found = Vec::new();
        compare(applied, Some(live), &mut Vec::new(), &mut found);
        if found.is_empty() {
            return None;
        }
        let by = owners(live, manager, |tree| {
            found.iter().any(|difference| owns(tree, &difference.path))
        });
        let mut what: Vec<String> = found.iter().take(NAMED_FIELDS).map(Difference::text).collect();
        if found.len() > NAMED_FIELDS {
            what.push(format!("{} more", found.len() - NAMED_FIELDS));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let verb = if found.iter().all(|difference| difference.removed) {
            "removed"
        } else {
            "changed"
        };
        Some(Self {
            kind: text(&applied["kind"]),
            name: text(&applied["metadata"]["name"]),
            what: format!("{} {verb}", what.join(", ")),
            by,
        })
    }

    /// The values of what was `applied` are all in `live`, but our manager does not own them any more.
    pub(super) fn taken_over(applied: &Value, live: &Value, manager: &str) -> Self {
        let (mut lost, entries) = (Vec::new(), managed_fields(live));
        let ours: Vec<_> = entries.filter(|entry| is_apply_entry(entry, manager)).collect();
        leaves(applied, &mut Vec::new(), &mut lost);
        lost.retain(|path| {
            let mut trees = ours.iter().filter_map(|entry| entry["fieldsV1"].as_object());
            !trees.any(|tree| owns(tree, path))
        });
        let by = owners(live, manager, |tree| lost.iter().any(|path| owns(tree, path)));
        Self::of(live, "ownership of fields taken", by)
    }

    /// Something was added to `live` where nothing but what is wanted may be.
    pub(super) fn added(live: &Value, surplus: &[Surplus], manager: &str) -> Self {
        let mut what: Vec<String> = surplus
            .iter()
            .take(NAMED_FIELDS)
            .map(|it| format!("{} {}", it.at, it.name))
            .collect();
        if surplus.len() > NAMED_FIELDS {
            what.push(format!("{} more", surplus.len() - NAMED_FIELDS));
        }
        let by = owners(live, manager, |tree| {
            surplus.iter().any(|it| owns_at(tree, live, &it.pointer))
        });
        Self::of(live, &format!("{} added", what.join(", ")), by)
    }

    /// Another object has the name: `live`, of which all is theirs.
    pub(super) fn replaced(live: &Value, manager: &str) -> Self {
        let by = owners(live, manager, |_| true);
        Self::of(live, "replaced by another object", by)
    }

    fn of(live: &Value, what: &str, by: String) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            kind: text(&live["kind"]),
            name: text(&live["metadata"]["name"]),
            what: what.to_owned(),
            by,
        }
    }
}

/// The other managers with fields for which this holds, status aside; `unknown` where there are none.
fn owners(live: &Value, manager: &str, holds: impl Fn(&Map<String, Value>) -> bool) -> String {
    let owners: BTreeSet<&str> = managed_fields(live)
        .filter(|entry| !is_apply_entry(entry, manager) && entry["subresource"] != "status")
        .filter(|entry| entry["fieldsV1"].as_object().is_some_and(&holds))
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    match owners.is_empty() {
        true => "unknown".to_owned(),
        false => owners.into_iter().collect::<Vec<_>>().join(", "),
    }
}

/// A step on the way to a difference: a field, or an item of a list whose items have keys.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(&'a Value),
}

struct Difference<'a> {
    path: Vec<Step<'a>>,
    removed: bool,
}

impl Difference<'_> {
    /// `.spec.template image`: the first two fields and the last, which is what a person looks for.
    fn text(&self) -> String {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| {
                if let Step::Field(name) = step {
                    Some(*name)
                } else {
                    None
                }
            })
            .collect();
        match fields.as_slice() {
            [first, second, .., last] => format!(".{first}.{second} {last}"),
            short => format!(".{}", short.join(".")),
        }
    }
}

fn compare<'a>(
    applied: &'a Value,
    live: Option<&Value>,
    path: &mut Vec<Step<'a>>,
    found: &mut Vec<Difference<'a>>,
) {
    match (applied, live) {
        (Value::Object(fields), Some(Value::Object(others))) => {
            for (name, value) in fields {
                path.push(Step::Field(name));
                compare(value, others.get(name), path, found);
                path.pop();
            }
        }
        (Value::Array(items), Some(Value::Array(others))) if keyed(items) => {
            for item in items {
                path.push(Step::Item(item));
                compare(
                    item,
                    others.iter().find(|other| same_item(item, other)),
                    path,
                    found,
                );
                path.pop();
            }
        }
        (applied, Some(live)) if applied == live || same_quantity(applied, live) => {}
        (Value::Object(fields), None) if fields.is_empty() => {}
        (_, live) => found.push(Difference {
            path: path.clone(),
            removed: live.is_none(),
        }),
    }
}

/// Where all values of an object are that server-side apply owns one by one.
fn leaves<'a>(applied: &'a Value, path: &mut Vec<Step<'a>>, found: &mut Vec<Vec<Step<'a>>>) {
    match applied {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(Step::Field(name));
                leaves(value, path, found);
                path.pop();
            }
        }
        Value::Array(items) if keyed(items) => {
            for item in items {
                path.push(Step::Item(item));
                leaves(item, path, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

fn keyed(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| key_of(item).is_some())
}

fn same_item(item: &Value, other: &Value) -> bool {
    key_of(item).is_some_and(|key| item[key] == other[key])
}

/// Quantities are stored in another spelling than they were applied in (`0.5` as `500m`): not worth naming.
fn same_quantity(applied: &Value, live: &Value) -> bool {
    matches!((applied, live), (Value::Number(number), Value::String(text)) if number.to_string() == *text)
}

fn owns(tree: &Map<String, Value>, path: &[Step<'_>]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let subtree = match step {
        Step::Field(name) => tree.get(&format!("f:{name}")),
        Step::Item(item) => tree
            .iter()
            .find(|(key, _)| selects(key, item))
            .map(|(_, subtree)| subtree),
    };
    match subtree.and_then(Value::as_object) {
        Some(subtree) => subtree.is_empty() || owns(subtree, rest),
        None => false,
    }
}

/// Whether fields of a manager of `value` include what is at a JSON pointer, or something in it.
fn owns_at(tree: &Map<String, Value>, value: &Value, pointer: &str) -> bool {
    let (mut tree, mut value) = (tree, value);
    for segment in pointer.split('/').skip(1) {
        let next = match value {
            Value::Array(items) => segment.parse().ok().and_then(|index: usize| items.get(index)),
            fields => fields.get(segment.replace("~1", "/").replace("~0", "~")),
        };
        let Some(next) = next else { return false };
        let leads = |key: &&String| child_at(value, key).is_some_and(|it| std::ptr::eq(it, next));
        let Some(subtree) = tree.keys().find(leads).and_then(|key| tree[key].as_object()) else {
            return false;
        };
        // Of a value that is owned as a whole there is nothing below.
        if subtree.is_empty() {
            return true;
        }
        (tree, value) = (subtree, next);
    }
    true
}

fn selects(key: &str, item: &Value) -> bool {
    let Some(selector) = key.strip_prefix("k:") else {
        return false;
    };
    let Ok(selector) = serde_json::from_str::<Map<String, Value>>(selector) else {
        return false;
    };
    // A key that we left to defaulting (a port's protocol) is not in our item.
    selector
        .iter()
        .all(|(name, value)| item[name].is_null() || &item[name] == value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn applied() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kro"}, "spec": {"replicas": 1,
            "template": {"spec": {"containers": [{"name": "kro", "image": "kro:1"}]}}}})
    }

    fn edited_by(manager: &str) -> Value {
        let mut live = applied();
        live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("kro:2");
        let tree = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"kro\"}": {"f:image": {}}}}}}});
        live["metadata"]["managedFields"] = json!([
            {"manager": "sp-kro", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": manager, "operation": "Update", "fieldsV1": tree},
        ]);
        live
    }

    #[test]
    fn a_changed_image_is_named_with_its_editor() {
        let drift = Drift::between(&applied(), &edited_by("kubectl-edit"), "sp-kro").unwrap();
        assert_eq!(
            drift.to_string(),
            "Deployment kro .spec.template image changed by kubectl-edit"
        );
    }

    #[test]
    fn where_nobody_is_recorded_it_is_unknown() {
        let mut live = applied();
        live["spec"]["replicas"] = json!(0);
        let drift = Drift::between(&applied(), &live, "sp-kro").unwrap();
        assert_eq!(
            drift.to_string(),
            "Deployment kro .spec.replicas changed by unknown"
        );
        let mut live = applied();
        live["spec"].as_object_mut().unwrap().remove("replicas");
        let drift = Drift::between(&applied(), &live, "sp-kro").unwrap();
        assert_eq!(
            drift.to_string(),
            "Deployment kro .spec.replicas removed by unknown"
        );
    }

    #[test]
    fn fields_that_we_did_not_apply_are_no_drift() {
        let mut live = applied();
        live["spec"]["paused"] = json!(true);
        assert_eq!(Drift::between(&applied(), &live, "sp-kro"), None);
    }

    fn shared(ours: Value, theirs: Value) -> Value {
        let mut live = applied();
        live["spec"]["template"]["spec"]["containers"] =
            json!([{"name": "kro", "image": "kro:1"}, {"name": "side", "image": "x"}]);
        live["metadata"]["managedFields"] = json!([
            {"manager": "sp-kro", "operation": "Apply", "fieldsV1": ours},
            {"manager": "thief", "operation": "Apply", "fieldsV1": theirs},
            {"manager": "bystander", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}},
            {"manager": "scaler", "operation": "Update", "subresource": "status", "fieldsV1": theirs},
        ]);
        live
    }

    #[test]
    fn of_several_managers_that_one_is_named_which_has_taken_the_fields() {
        let rest = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"kro\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}});
        let live = shared(rest.clone(), json!({"f:spec": {"f:replicas": {}}}));
        let taken = |live: &Value| Drift::taken_over(&applied(), live, "sp-kro").to_string();
        assert_eq!(taken(&live), "Deployment kro ownership of fields taken by thief");
        let nobody = shared(rest, json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(
            taken(&nobody),
            "Deployment kro ownership of fields taken by unknown"
        );
    }

    #[test]
    fn of_several_managers_that_one_is_named_which_has_added_something() {
        let item = json!({"k:{\"name\":\"side\"}": {".": {}, "f:name": {}, "f:image": {}}});
        let theirs = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": item}}}});
        let side = Surplus {
            at: ".spec.template.spec.containers".to_owned(),
            name: "side".to_owned(),
            pointer: "/spec/template/spec/containers/1".to_owned(),
        };
        let added = |live: &Value| Drift::added(live, std::slice::from_ref(&side), "sp-kro").to_string();
        let words = "Deployment kro .spec.template.spec.containers side added by";
        let live = shared(json!({}), theirs);
        assert_eq!(added(&live), format!("{words} thief"));
        let nobody = shared(json!({}), json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(added(&nobody), format!("{words} unknown"));
    }

    #[test]
    fn a_deletion_is_by_unknown() {
        assert_eq!(
            Drift::deleted("ClusterRole", "kro").to_string(),
            "ClusterRole kro re-created, deleted by unknown"
        );
    }
}
