//! Schemas for fields whose Rust type says less than a CRD has to: conditions, raw objects, and Kubernetes' own types
//! with their list keys. For `#[schemars(schema_with = "…")]`, in this crate and in providers' own CRDs.
use k8s_openapi::api::{
    core::v1::{TopologySpreadConstraint, Volume, VolumeMount},
    rbac::v1::{PolicyRule, Subject},
};
use schemars::{Schema, SchemaGenerator, json_schema};

use self::kubernetes::{list, list_of_atomic};

mod kubernetes;

/// A list of `metav1.Condition`, of which each type occurs once.
///
/// ```
/// use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Status {
///     #[serde(default, skip_serializing_if = "Vec::is_empty")]
///     #[schemars(schema_with = "openmcp_api::schema::conditions")]
///     conditions: Vec<Condition>,
/// }
/// ```
pub fn conditions(generator: &mut SchemaGenerator) -> Schema {
    list_map(conditions_atomic(generator), "type")
}

/// A list of `metav1.Condition` that is always replaced as a whole, as the provider kinds have it.
pub fn conditions_atomic(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "Which aspect.",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "type": "string",
                    "description": "Whether it is as it should be.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "Why, for programs.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, for people.",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The generation of the object that this was said of.",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "Since when the status has its value.",
                },
            },
        },
    })
}

/// An object of any shape.
pub fn raw_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A list of `rbac/v1` Subjects.
pub(crate) fn subjects(generator: &mut SchemaGenerator) -> Schema {
    list_of_atomic::<Subject>(generator)
}

/// A list of `rbac/v1` PolicyRules.
pub(crate) fn policy_rules(generator: &mut SchemaGenerator) -> Schema {
    list::<PolicyRule>(generator)
}

/// A list of `core/v1` Volumes, by name.
pub(crate) fn volumes(generator: &mut SchemaGenerator) -> Schema {
    list_map(list::<Volume>(generator), "name")
}

/// A list of `core/v1` VolumeMounts, by mount path.
pub(crate) fn volume_mounts(generator: &mut SchemaGenerator) -> Schema {
    list_map(list::<VolumeMount>(generator), "mountPath")
}

/// A list of `core/v1` TopologySpreadConstraints, by topology key.
pub(crate) fn topology_spread_constraints(generator: &mut SchemaGenerator) -> Schema {
    list_map(list::<TopologySpreadConstraint>(generator), "topologyKey")
}

fn list_map(mut list: Schema, key: &str) -> Schema {
    list.insert("x-kubernetes-list-type".into(), "map".into());
    list.insert("x-kubernetes-list-map-keys".into(), vec![key].into());
    list
}
