//! `metadata.managedFields`: who owns what after an apply or an update.
use super::{
    answer::Refusal,
    fields::Fields,
    merge::{Changes, compare, fields_of, merge, prune},
    schema::Node,
};
use serde_json::{Value, json};

/// What never has an owner; fields beneath them may have one.
const UNOWNED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// Who writes, and through which door.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) manager: String,
    pub(crate) subresource: Option<&'static str>,
    pub(crate) api_version: String,
    pub(crate) now: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    subresource: String,
    api_version: String,
    time: String,
    fields: Fields,
}

impl Entry {
    /// How a conflict names it.
    fn in_words(&self) -> String {
        let mut words = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            words += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" {
            words += &format!(" using {}", self.api_version);
        }
        words
    }

    fn is_of(&self, writer: &Writer, operation: &str) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource.unwrap_or_default()
            && self.api_version == writer.api_version
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = object["metadata"]["managedFields"].as_array();
    let entry = |entry: &Value| Entry {
        manager: text(&entry["manager"]),
        operation: text(&entry["operation"]),
        subresource: text(&entry["subresource"]),
        api_version: text(&entry["apiVersion"]),
        time: text(&entry["time"]),
        fields: Fields::from_json(&entry["fieldsV1"]),
    };
    listed.into_iter().flatten().map(entry).collect()
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let order = |entry: &Entry| {
        let Entry {
            operation,
            time,
            manager,
            subresource,
            ..
        } = entry.clone();
        (operation, time, manager, subresource)
    };
    entries.sort_by_key(order);
    let listed: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let mut out = json!({
                "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version,
                "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_json(),
            });
            if !entry.time.is_empty() {
                out["time"] = entry.time.into();
            }
            if !entry.subresource.is_empty() {
                out["subresource"] = entry.subresource.into();
            }
            out
        })
        .collect();
    match (listed.is_empty(), object["metadata"].as_object_mut()) {
        (true, Some(metadata)) => drop(metadata.remove("managedFields")),
        (false, Some(metadata)) => drop(metadata.insert("managedFields".to_owned(), listed.into())),
        _ => {}
    }
}

fn without_entries(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// Status is written through its own door, and nothing else is written there.
fn admit(fields: &mut Fields, writer: &Writer, has_status: bool) {
    UNOWNED.iter().for_each(|path| fields.remove(path));
    match writer.subresource {
        Some("status") => fields.keep_only("f:status"),
        _ if has_status => fields.strip("f:status"),
        _ => {}
    }
}

/// Takes what changed from everybody but `keep`, and returns what the others lost by whom.
fn dispossess(
    entries: &mut [Entry],
    keep: impl Fn(&Entry) -> bool,
    changes: &Changes,
) -> Vec<(String, Fields)> {
    let touched = changes.modified.union(&changes.added);
    let mut lost = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !keep(entry)) {
        let taken = entry.fields.intersection(&touched);
        if !taken.is_empty() {
            lost.push((entry.in_words(), taken.clone()));
        }
        entry.fields = entry.fields.difference(&taken).difference(&changes.removed);
    }
    lost
}

/// Records an update (POST, PUT, patches): `new` is the object to be stored.
pub(crate) fn update(
    old: &Value,
    new: &mut Value,
    node: &Node,
    writer: &Writer,
    has_status: bool,
) -> Result<(), Refusal> {
    let mut held = entries(old);
    let mut changes = compare(&without_entries(old), &without_entries(new), node)?;
    for fields in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        UNOWNED.iter().for_each(|path| fields.remove(path));
    }
    if held.is_empty() && !old["metadata"]["uid"].is_null() {
        // Owners of an object that has none are recorded from its first apply on.
        store(new, held);
        return Ok(());
    }
    dispossess(&mut held, |entry| entry.is_of(writer, "Update"), &changes);
    let mut touched = changes.modified.union(&changes.added);
    admit(&mut touched, writer, has_status);
    match held.iter_mut().find(|entry| entry.is_of(writer, "Update")) {
        Some(own) => {
            let fields = own.fields.difference(&changes.removed).union(&touched);
            if fields != own.fields {
                own.fields = fields;
                own.time.clone_from(&writer.now);
            }
        }
        None => held.push(Entry {
            manager: writer.manager.clone(),
            operation: "Update".to_owned(),
            subresource: writer.subresource.unwrap_or_default().to_owned(),
            api_version: writer.api_version.clone(),
            time: writer.now.clone(),
            fields: touched,
        }),
    }
    store(new, held);
    Ok(())
}

/// Which managers an apply would take fields from, without force.
pub(crate) struct Conflicts(pub(crate) Vec<(String, Fields)>);

/// Who owns what was there before anybody applied.
fn before_first_apply(
    live: &Value,
    node: &Node,
    writer: &Writer,
    has_status: bool,
) -> Result<Entry, Refusal> {
    let nothing = json!({"apiVersion": live["apiVersion"], "kind": live["kind"]});
    let mut fields = compare(&nothing, live, node)?.added;
    admit(&mut fields, writer, has_status);
    Ok(Entry {
        manager: "before-first-apply".to_owned(),
        operation: "Update".to_owned(),
        subresource: String::new(),
        api_version: writer.api_version.clone(),
        time: writer.now.clone(),
        fields,
    })
}

/// A server-side apply of `applied` to `old` (an object with apiVersion, kind and name, if there is none).
pub(crate) fn apply(
    old: &Value,
    applied: &Value,
    node: &Node,
    writer: &Writer,
    has_status: bool,
    force: bool,
) -> Result<Result<Value, Conflicts>, Refusal> {
    let live = without_entries(old);
    let mut held = entries(old);
    if held.is_empty() && !old["metadata"]["uid"].is_null() {
        held.push(before_first_apply(&live, node, writer, has_status)?);
    }
    let all = fields_of(applied, node)?;
    let mut own = all.clone();
    admit(&mut own, writer, has_status);
    let mut new = merge(&live, applied, node)?;
    let last = held
        .iter()
        .find(|entry| entry.is_of(writer, "Apply"))
        .map(|entry| entry.fields.clone())
        .unwrap_or_default();
    let others = held.iter().filter(|entry| !entry.is_of(writer, "Apply"));
    let owned = others.fold(all, |owned, entry| owned.union(&entry.fields));
    prune(&mut new, &last, &owned, node)?;
    let mut changes = compare(&live, &new, node)?;
    for fields in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        UNOWNED.iter().for_each(|path| fields.remove(path));
    }
    let lost = dispossess(&mut held, |entry| entry.is_of(writer, "Apply"), &changes);
    if !force && !lost.is_empty() {
        return Ok(Err(Conflicts(lost)));
    }
    // An apply that changes nothing but owners is not timed.
    let changed = new != live;
    match held.iter_mut().find(|entry| entry.is_of(writer, "Apply")) {
        Some(entry) => {
            entry.fields = own;
            if changed {
                entry.time.clone_from(&writer.now);
            }
        }
        None => held.push(Entry {
            manager: writer.manager.clone(),
            operation: "Apply".to_owned(),
            subresource: writer.subresource.unwrap_or_default().to_owned(),
            api_version: writer.api_version.clone(),
            time: if changed {
                writer.now.clone()
            } else {
                String::new()
            },
            fields: own,
        }),
    }
    store(&mut new, held);
    Ok(Ok(new))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn writer(manager: &str) -> Writer {
        Writer {
            manager: manager.to_owned(),
            subresource: None,
            api_version: "v1".to_owned(),
            now: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn apply_data(old: &Value, manager: &str, data: Value, force: bool) -> Result<Value, Vec<String>> {
        let applied =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
        apply(old, &applied, &Node::default(), &writer(manager), false, force)
            .unwrap()
            .map_err(|conflicts| conflicts.0[0].1.paths())
    }

    #[test]
    fn an_apply_owns_what_it_says_and_takes_back_what_it_says_no_more() {
        let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        let one = apply_data(&none, "a", json!({"k": "1", "l": "1"}), false).unwrap();
        assert_eq!(
            one["metadata"]["managedFields"][0]["fieldsV1"],
            json!({"f:data": {"f:k": {}, "f:l": {}}})
        );
        assert_eq!(
            apply_data(&one, "b", json!({"k": "2"}), false).unwrap_err(),
            [".data.k"]
        );
        let two = apply_data(&one, "b", json!({"k": "2"}), true).unwrap();
        assert_eq!(two["data"], json!({"k": "2", "l": "1"}));
        let three = apply_data(&two, "a", json!({}), false).unwrap();
        assert_eq!(three["data"], json!({"k": "2"}));
    }

    #[test]
    fn an_update_takes_what_it_changes() {
        let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        let one = apply_data(&none, "a", json!({"k": "1", "l": "1"}), false).unwrap();
        let mut two = one.clone();
        two["data"]["k"] = json!("2");
        update(&one, &mut two, &Node::default(), &writer("edit"), false).unwrap();
        let fields: Vec<_> = entries(&two)
            .into_iter()
            .map(|entry| (entry.manager, entry.fields.paths()))
            .collect();
        assert_eq!(
            fields,
            [
                ("a".to_owned(), vec![".data.l".to_owned()]),
                ("edit".to_owned(), vec![".data.k".to_owned()])
            ]
        );
    }
}
