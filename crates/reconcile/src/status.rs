//! Status by server-side apply, written only when it differs; conditions whose lastTransitionTime moves only
//! when their status value does.
use crate::{
    Fault,
    fault::NOT_CONFORMING,
    text::{MESSAGE_MAX, brief},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;

/// The API server's bound of a condition's reason.
const REASON_MAX: usize = 1_024;

/// A condition as computed, before it is merged with the live one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// PascalCase type, positive polarity.
    pub type_: String,
    /// `Some(true)` True, `Some(false)` False, `None` Unknown.
    pub status: Option<bool>,
    /// PascalCase; if empty it becomes `<Type>_<Status>` (contract §11.3).
    pub reason: String,
    /// What happened, to which object, what to do.
    pub message: String,
}

impl Observed {
    fn status_text(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }

    /// The reason in the form that the API server accepts: empty becomes `<Type>_<Status>`, characters outside
    /// `A-Za-z0-9_:,` become `_`, it starts with a letter and ends with no `:` or `,`.
    fn legal_reason(&self) -> String {
        let reason = match self.reason.as_str() {
            "" => format!("{}_{}", self.type_, self.status_text()),
            reason => reason.to_owned(),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | ',');
        let mut reason: String = reason
            .chars()
            .map(|c| if legal(c) { c } else { '_' })
            .take(REASON_MAX - 1)
            .collect();
        if !reason.starts_with(|c: char| c.is_ascii_alphabetic()) {
            reason.insert(0, 'R');
        }
        let trimmed = reason.trim_end_matches([':', ',']).len();
        reason.truncate(trimmed);
        reason
    }
}

/// The next conditions list: `observed` in its order, then nothing else; lastTransitionTime is kept where the
/// status value is unchanged, `now` otherwise. Of two with one type the first counts.
pub fn merge_conditions(
    live: &[Condition],
    observed: &[Observed],
    generation: i64,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = Vec::with_capacity(observed.len());
    for new in observed {
        if merged.iter().any(|known| known.type_ == new.type_) {
            continue;
        }
        let status = new.status_text();
        let kept = live
            .iter()
            .find(|old| old.type_ == new.type_ && old.status == status);
        merged.push(Condition {
            type_: new.type_.clone(),
            status: status.to_owned(),
            reason: new.legal_reason(),
            message: brief(&new.message, MESSAGE_MAX).into_owned(),
            observed_generation: Some(generation),
            last_transition_time: kept.map_or(Time(now), |old| old.last_transition_time.clone()),
        });
    }
    merged
}

/// Writes `desired` (the whole `status` that `manager` owns) to the status subresource by a forced server-side
/// apply, if it differs from `live` (the current `status`). Returns the object as it was written; `None` where nothing
/// was. A 404 is not an error: the object is gone. One of the same name with another UID is not written to: that is a
/// conflict.
///
/// Where several managers share a status, pass as `live` only the fields that are this manager's. Nulls and empty
/// objects and lists count as absent.
pub async fn apply_status<K>(
    api: &Api<K>,
    object: &K,
    live: &Value,
    desired: &impl Serialize,
    manager: &str,
) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()), object.name_any());
    let desired = as_written(object, desired)?;
    if essence(&desired) == essence(live) {
        return Ok(None);
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = object.namespace() {
        metadata["namespace"] = namespace.into();
    }
    if let Some(uid) = object.uid() {
        metadata["uid"] = uid.into();
    }
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": kind, "metadata": metadata, "status": desired,
    });
    let params = PatchParams::apply(manager).force();
    send(api, object, &params, &Patch::Apply(&patch)).await
}

/// [`apply_status`] of a status that is nobody's but `manager`'s.
///
/// When its definition has changed so that a stored object does not conform to it any more, the API server refuses every
/// server-side apply to it, also that of a status that does conform. It takes a merge patch: what that does not change is
/// not validated (seen on 1.36). It forgets managedFields with it, so this is for that one refusal only.
pub async fn write_status<K>(
    api: &Api<K>,
    object: &K,
    live: &Value,
    desired: &impl Serialize,
    manager: &str,
) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match apply_status(api, object, live, desired, manager).await {
        Err(fault) if fault.reason == NOT_CONFORMING => {
            // Nobody's later write is undone: it says which version it is about.
            let metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
            let change = difference(live, &as_written(object, desired)?);
            let patch = json!({"metadata": metadata, "status": change});
            let params = PatchParams {
                field_manager: Some(manager.to_owned()),
                ..PatchParams::default()
            };
            send(api, object, &params, &Patch::Merge(&patch)).await
        }
        written => written,
    }
}

fn doing<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let (kind, name) = (K::kind(&()), object.name_any());
    match object.namespace() {
        Some(namespace) => format!("write status of {kind} {namespace}/{name}"),
        None => format!("write status of {kind} {name}"),
    }
}

fn as_written<K: Resource<DynamicType = ()>>(object: &K, desired: &impl Serialize) -> Result<Value, Fault> {
    let desired = serde_json::to_value(desired);
    let desired = desired.map_err(|error| Fault::bug(format!("{}: {error}", doing(object))))?;
    Ok(without_nulls(&desired).unwrap_or_else(|| json!({})))
}

async fn send<K>(
    api: &Api<K>,
    object: &K,
    params: &PatchParams,
    patch: &Patch<&Value>,
) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match api.patch_status(&object.name_any(), params, patch).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Fault::api(doing(object), &error)),
    }
}

/// The merge patch (RFC 7386) that makes `to` of `from`. Lists are replaced whole.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from.keys().filter(|name| !to.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let kept = to.iter().map(|(name, value)| {
        let before = from.get(name).unwrap_or(&Value::Null);
        (name.clone(), difference(before, value))
    });
    Value::Object(gone.chain(kept).collect())
}

/// The value without nulls, which server-side apply would take for fields that we own.
fn without_nulls(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => Some(Value::Object(
            fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), without_nulls(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(without_nulls).collect())),
        other => Some(other.clone()),
    }
}

/// The value as it is compared: without nulls, empty objects and empty lists.
fn essence(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), essence(value)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| essence(item).unwrap_or(Value::Null))
                .collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(type_: &str, status: Option<bool>, reason: &str) -> Observed {
        Observed {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_value_does() {
        let first = merge_conditions(
            &[],
            &[observed("Ready", Some(false), "A"), observed("Synced", None, "A")],
            1,
            at(1),
        );
        let next = merge_conditions(
            &first,
            &[
                observed("Ready", Some(false), "B"),
                observed("Synced", Some(true), "A"),
            ],
            2,
            at(2),
        );
        assert_eq!(next[0].last_transition_time, Time(at(1)));
        assert_eq!(
            (next[0].reason.as_str(), next[0].observed_generation),
            ("B", Some(2))
        );
        assert_eq!(next[1].last_transition_time, Time(at(2)));
    }

    #[test]
    fn what_is_not_observed_any_more_is_left_out() {
        let first = merge_conditions(
            &[],
            &[
                observed("Ready", Some(true), "A"),
                observed("Old", Some(true), "A"),
            ],
            1,
            at(1),
        );
        assert_eq!(
            merge_conditions(&first, &[observed("Ready", Some(true), "A")], 1, at(2)).len(),
            1
        );
    }

    #[test]
    fn reasons_are_made_legal() {
        let reason = |type_, status, reason| observed(type_, status, reason).legal_reason();
        assert_eq!(
            reason("AccessReady.oidc_openmcp", Some(true), ""),
            "AccessReady_oidc_openmcp_True"
        );
        assert_eq!(reason("Ready", None, ""), "Ready_Unknown");
        assert_eq!(reason("Ready", None, "no spaces:"), "no_spaces");
        assert_eq!(reason("Ready", None, "9lives"), "R9lives");
        assert_eq!(reason("Ready", None, &"a".repeat(2000)).len(), REASON_MAX - 1);
    }

    #[test]
    fn a_merge_patch_makes_what_is_desired_of_what_there_is() {
        let from = json!({"phase": "Ready", "old": {"a": 1}, "conditions": [{"type": "A"}, {"type": "B"}], "kept": {"a": 1, "b": 2}});
        let to = json!({"phase": "Progressing", "conditions": [{"type": "A"}], "kept": {"b": 2, "c": 3}, "new": {}});
        let patch = difference(&from, &to);
        assert_eq!((&patch["old"], &patch["kept"]["a"]), (&Value::Null, &Value::Null));
        let mut patched = from;
        json_patch::merge(&mut patched, &patch);
        assert_eq!(patched, to);
    }

    #[test]
    fn nulls_and_empty_lists_are_no_difference() {
        assert_eq!(
            essence(&json!({"a": null, "b": [], "c": {"d": null}})),
            essence(&json!({}))
        );
        assert_ne!(essence(&json!({"a": 0})), essence(&json!({})));
        assert_eq!(
            without_nulls(&json!({"a": null, "b": []})),
            Some(json!({"b": []}))
        );
    }
}
