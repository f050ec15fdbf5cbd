//! The arithmetic of server-side apply: which fields an object has, how two objects differ, how they are merged, and
//! what is pruned. The rules are those of structured-merge-diff.
use super::{
    answer::Refusal,
    fields::Fields,
    schema::{Node, Shape},
};
use serde_json::{Map, Value};

/// How two objects differ.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) added: Fields,
    pub(crate) modified: Fields,
    pub(crate) removed: Fields,
}

/// A list's or object's rule, once it is known what is there.
enum As<'a> {
    Leaf,
    Object,
    Items(&'a Shape),
}

fn rule<'a>(node: &'a Node, value: &Value, path: &[String]) -> Result<As<'a>, Refusal> {
    match (value, &node.shape) {
        (Value::Object(_), Shape::Atomic) => Ok(As::Leaf),
        (Value::Object(_), _) => Ok(As::Object),
        (Value::Array(_), Shape::Atomic) => Ok(As::Leaf),
        (Value::Array(_), shape @ (Shape::Set | Shape::Keyed(_))) => Ok(As::Items(shape)),
        (Value::Array(_), Shape::Granular) if node.is_deduced() => Ok(As::Leaf),
        (Value::Array(_), Shape::Granular) => Err(Refusal::unsupported(format!(
            "how the list {} is merged is not in the in-memory API server's table",
            path.join(".")
        ))),
        _ => Ok(As::Leaf),
    }
}

/// How a list item is called.
fn segment(shape: &Shape, item: &Value) -> Result<String, Refusal> {
    let Shape::Keyed(keys) = shape else {
        return Ok(format!("v:{item}"));
    };
    let mut named = Map::new();
    for (key, default) in keys {
        match item.get(key).or(default.as_ref()) {
            Some(value) => drop(named.insert(key.clone(), value.clone())),
            None => {
                return Err(Refusal::bad_request(format!(
                    "list item without its key {key}: {item}"
                )));
            }
        }
    }
    Ok(format!("k:{}", Value::Object(named)))
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// The fields that an applied object has.
pub(crate) fn fields_of(object: &Value, node: &Node) -> Result<Fields, Refusal> {
    let mut fields = Fields::default();
    collect(object, node, &mut Vec::new(), &mut fields)?;
    Ok(fields)
}

fn collect(value: &Value, node: &Node, path: &mut Vec<String>, out: &mut Fields) -> Result<(), Refusal> {
    match rule(node, value, path)? {
        As::Leaf => out.insert(path),
        As::Object => {
            for (name, value) in value.as_object().into_iter().flatten() {
                path.push(format!("f:{name}"));
                collect(value, node.field(name), path, out)?;
                if value.is_null() || is_empty_object(value) || node.is_map() {
                    out.insert(path);
                }
                path.pop();
            }
        }
        As::Items(shape) => {
            for item in value.as_array().into_iter().flatten() {
                path.push(segment(shape, item)?);
                collect(item, node.item(), path, out)?;
                out.insert(path);
                path.pop();
            }
        }
    }
    Ok(())
}

/// How `new` differs from `old`.
pub(crate) fn compare(old: &Value, new: &Value, node: &Node) -> Result<Changes, Refusal> {
    let mut changes = Changes::default();
    walk(Some(old), Some(new), node, &mut Vec::new(), &mut changes)?;
    Ok(changes)
}

fn walk(
    old: Option<&Value>,
    new: Option<&Value>,
    node: &Node,
    path: &mut Vec<String>,
    out: &mut Changes,
) -> Result<(), Refusal> {
    // Null is of any type.
    let present = [new, old]
        .into_iter()
        .flatten()
        .max_by_key(|value| !value.is_null());
    let Some(present) = present else { return Ok(()) };
    let alike = match (old, new) {
        (Some(Value::Null), Some(_)) | (Some(_), Some(Value::Null)) => true,
        (Some(old), Some(new)) => std::mem::discriminant(old) == std::mem::discriminant(new),
        _ => true,
    };
    let empty = |value: Option<&Value>| match value {
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Null) | None => true,
        Some(_) => false,
    };
    let how = rule(node, present, path)?;
    if !alike || matches!(how, As::Leaf) || (empty(old) && empty(new)) {
        match (old, new) {
            (None, _) => out.added.insert(path),
            (_, None) => out.removed.insert(path),
            (Some(old), Some(new)) if old != new => out.modified.insert(path),
            _ => {}
        }
        return Ok(());
    }
    for (name, old, new, node) in pairs(old, new, node, &how)? {
        path.push(name);
        walk(old, new, node, path, out)?;
        path.pop();
    }
    match (old, new) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ => {}
    }
    Ok(())
}

type Pair<'a> = (String, Option<&'a Value>, Option<&'a Value>, &'a Node);

/// What is beneath two values, side by side.
fn pairs<'a>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
    node: &'a Node,
    how: &As<'_>,
) -> Result<Vec<Pair<'a>>, Refusal> {
    let mut out: Vec<Pair<'a>> = Vec::new();
    if let As::Items(shape) = how {
        let items = |value: Option<&'a Value>| value.and_then(Value::as_array).into_iter().flatten();
        for item in items(old) {
            out.push((segment(shape, item)?, Some(item), None, node.item()));
        }
        for item in items(new) {
            let name = segment(shape, item)?;
            match out.iter_mut().find(|(held, ..)| *held == name) {
                Some(pair) => pair.2 = Some(item),
                None => out.push((name, None, Some(item), node.item())),
            }
        }
        return Ok(out);
    }
    let fields = |value: Option<&'a Value>| value.and_then(Value::as_object);
    let (old, new) = (fields(old), fields(new));
    for (name, value) in old.into_iter().flatten() {
        let other = new.and_then(|new| new.get(name));
        out.push((format!("f:{name}"), Some(value), other, node.field(name)));
    }
    for (name, value) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(name)) {
            out.push((format!("f:{name}"), None, Some(value), node.field(name)));
        }
    }
    Ok(out)
}

/// `live` with everything that `applied` has.
pub(crate) fn merge(live: &Value, applied: &Value, node: &Node) -> Result<Value, Refusal> {
    match (live, rule(node, applied, &[])?) {
        (Value::Object(fields), As::Object) => {
            let mut out = fields.clone();
            for (name, value) in applied.as_object().into_iter().flatten() {
                let merged = match fields.get(name) {
                    Some(live) => merge(live, value, node.field(name))?,
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Ok(Value::Object(out))
        }
        (Value::Array(items), As::Items(shape)) => merge_items(
            items,
            applied.as_array().map(Vec::as_slice).unwrap_or_default(),
            node,
            shape,
        ),
        _ => Ok(applied.clone()),
    }
}

/// In the order of what is applied. What only live has comes where it stood: after the items that both have and that were
/// passed by then. Live items that are applied later are passed over until it is their turn.
fn merge_items(live: &[Value], applied: &[Value], node: &Node, shape: &Shape) -> Result<Value, Refusal> {
    let names = |items: &[Value]| -> Result<Vec<String>, Refusal> {
        items.iter().map(|item| segment(shape, item)).collect()
    };
    let (old, new) = (names(live)?, names(applied)?);
    let mut shared = new.iter().filter(|name| old.contains(name));
    let mut expected = shared.next();
    let mut out = Vec::new();
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if let Some(name) = old.get(left) {
            if !new.contains(name) {
                out.push(live[left].clone());
                left += 1;
                continue;
            }
            let turn = new.get(right) == Some(name);
            if !turn && right < new.len() && expected.is_some_and(|next| next != name) {
                left += 1;
                continue;
            }
            if turn || new[..right].contains(name) {
                left += 1;
            }
        }
        if let Some(name) = new.get(right) {
            out.push(match old.iter().position(|held| held == name) {
                Some(at) => merge(&live[at], &applied[right], node.item())?,
                None => applied[right].clone(),
            });
            right += 1;
            if expected == Some(name) {
                expected = shared.next();
            }
        }
    }
    Ok(Value::Array(out))
}

/// Takes out what the manager applied before (`last`) and nobody owns any more (`owned` has the new apply, too). What
/// is empty then is null, as on the real server.
pub(crate) fn prune(value: &mut Value, last: &Fields, owned: &Fields, node: &Node) -> Result<(), Refusal> {
    match rule(node, value, &[])? {
        As::Leaf => Ok(()),
        As::Object => prune_fields(value, last, owned, node),
        As::Items(shape) => prune_items(value, last, owned, node, shape),
    }
}

fn prune_fields(value: &mut Value, last: &Fields, owned: &Fields, node: &Node) -> Result<(), Refusal> {
    let Value::Object(fields) = value else {
        return Ok(());
    };
    let names: Vec<String> = fields.keys().cloned().collect();
    for name in names {
        let segment = format!("f:{name}");
        if !last.reaches(&segment) {
            continue;
        }
        if !owned.reaches(&segment) {
            fields.remove(&name);
        } else if let (Some(field), Some(last)) = (fields.get_mut(&name), last.child(&segment)) {
            prune(
                field,
                last,
                owned.child(&segment).unwrap_or(&Fields::NONE),
                node.field(&name),
            )?;
        }
    }
    if fields.is_empty() {
        *value = Value::Null;
    }
    Ok(())
}

/// An item is owned by those who own it as a whole: a field of it is not enough.
fn prune_items(
    value: &mut Value,
    last: &Fields,
    owned: &Fields,
    node: &Node,
    shape: &Shape,
) -> Result<(), Refusal> {
    let Value::Array(items) = value else { return Ok(()) };
    let mut kept = Vec::new();
    for mut item in std::mem::take(items) {
        let segment = segment(shape, &item)?;
        if last.has(&segment) && !owned.has(&segment) {
            continue;
        }
        if let Some(last) = last.child(&segment) {
            prune(
                &mut item,
                last,
                owned.child(&segment).unwrap_or(&Fields::NONE),
                node.item(),
            )?;
        }
        kept.push(item);
    }
    *value = if kept.is_empty() {
        Value::Null
    } else {
        Value::Array(kept)
    };
    Ok(())
}
