//! Applies objects under names that only this provider uses, and tells its own from foreign ones first.
//!
//! Ours is what bears the owner mark. What lost the mark but was applied by our field manager is marked again;
//! anything else of that name is foreign and never touched.
use crate::{
    drift::{covers, same},
    names::{ANNOTATION_APPLIED, MANAGER},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, ObjectMeta},
};
use openmcp_reconcile::{
    Fault,
    apply::{self, Mark},
};
use serde_json::{Value, json};

/// Fields that are wholly ours: what others add inside of them is removed.
const EXACT: [&str; 3] = ["rules", "subjects", "roleRef"];

/// Whether nothing needs to be applied. A role's rules, a binding's subjects and role must be the same to the last
/// field; everything else must hold what is desired.
pub(crate) fn is_as_desired(live: &Value, desired: &Value) -> bool {
    covers(live, desired) && EXACT.iter().all(|field| same(&live[field], &desired[field]))
}

/// Applies `object` and returns it as it lives now.
pub(crate) async fn ensure(client: &Client, mark: &Mark, object: Value) -> Result<Value, Fault> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    let api = api_for(client, &object);
    let doing = format!("{} {}", object["kind"].as_str().unwrap_or_default(), name);
    let live = api
        .get_metadata_opt(&name)
        .await
        .map_err(|error| Fault::api(format!("read {doing}"), &error))?;
    if let Some(live) = live {
        match ownership(&live.metadata, mark) {
            Ownership::Marked => {}
            Ownership::LostMark => {
                let patch = json!({"metadata": {
                    "resourceVersion": live.metadata.resource_version, "labels": {mark.label: mark.value},
                }});
                let params = PatchParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch_metadata(&live.name_any(), &params, &Patch::Merge(patch))
                    .await
                    .map_err(|error| Fault::api(format!("mark {doing}"), &error))?;
            }
            Ownership::Foreign => {
                return Err(Fault::retry(
                    "ForeignObject",
                    format!(
                        "{doing} exists and was not made by this provider; it is left alone: delete or rename it"
                    ),
                ));
            }
        }
    }
    let applied = apply::upsert(client, MANAGER, mark, object.clone()).await?;
    if is_as_desired(&applied, &object) {
        return Ok(applied);
    }
    restore(&api, &name, &applied, &object)
        .await
        .map_err(|error| Fault::api(format!("restore {doing}"), &error))
}

/// Removes what others added to lists: a server-side apply leaves items alone that another manager owns.
async fn restore(
    api: &Api<DynamicObject>,
    name: &str,
    applied: &Value,
    desired: &Value,
) -> Result<Value, kube::Error> {
    let mut patch = json!({"metadata": {"resourceVersion": applied["metadata"]["resourceVersion"]}});
    for field in EXACT.into_iter().chain(["spec"]) {
        if let Some(wanted) = desired.get(field) {
            patch[field] = wanted.clone();
        }
    }
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let restored = api.patch(name, &params, &Patch::Merge(patch)).await?;
    Ok(serde_json::to_value(restored).unwrap_or_default())
}

/// The hash of what was desired when the object was applied last.
pub(crate) fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION_APPLIED].as_str()
}

/// An untyped API for the kind, and namespace if it has one, of `object`.
pub(crate) fn api_for(client: &Client, object: &Value) -> Api<DynamicObject> {
    let (group, version) = match object["apiVersion"].as_str().unwrap_or_default() {
        core if !core.contains('/') => ("", core),
        other => other.split_once('/').unwrap_or_default(),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        group,
        version,
        object["kind"].as_str().unwrap_or_default(),
    ));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() => {
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
        _ => Api::all_with(client.clone(), &resource),
    }
}

/// Whose object is it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    Marked,
    LostMark,
    Foreign,
}

pub(crate) fn ownership(live: &ObjectMeta, mark: &Mark) -> Ownership {
    match live.labels.as_ref().and_then(|labels| labels.get(mark.label)) {
        Some(value) if *value == mark.value => Ownership::Marked,
        // Marked as another owner's.
        Some(value) if !value.is_empty() => Ownership::Foreign,
        _ if applied_by_us(live) => Ownership::LostMark,
        _ => Ownership::Foreign,
    }
}

fn applied_by_us(live: &ObjectMeta) -> bool {
    live.managed_fields
        .iter()
        .flatten()
        .any(|entry| entry.manager.as_deref() == Some(MANAGER))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn live(label: Option<&str>, manager: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "x", "labels": label.map(|value| json!({"l": value})),
            "managedFields": [{"manager": manager, "operation": "Apply"}],
        }))
        .unwrap()
    }

    #[test]
    fn an_added_subject_is_drift_and_a_foreign_label_is_not() {
        let desired = json!({"metadata": {"labels": {"a": "1"}}, "subjects": [{"kind": "ServiceAccount", "name": "x"}]});
        let live =
            |subjects: Value| json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "subjects": subjects});
        assert!(is_as_desired(
            &live(json!([{"kind": "ServiceAccount", "name": "x", "apiGroup": ""}])),
            &desired
        ));
        let added = json!([{"kind": "ServiceAccount", "name": "x"}, {"kind": "User", "name": "eve"}]);
        assert!(!is_as_desired(&live(added), &desired));
    }

    #[test]
    fn ownership_is_the_mark_or_else_who_applied_it() {
        let mark = Mark {
            label: "l",
            value: "me".into(),
        };
        assert_eq!(ownership(&live(Some("me"), "kubectl"), &mark), Ownership::Marked);
        assert_eq!(ownership(&live(None, MANAGER), &mark), Ownership::LostMark);
        assert_eq!(ownership(&live(None, "kubectl"), &mark), Ownership::Foreign);
        assert_eq!(
            ownership(&live(Some("other"), MANAGER), &mark),
            Ownership::Foreign
        );
    }
}
