//! What k8s-openapi's schemas of Kubernetes' own types leave out: how server-side apply merges them, and their defaults.
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Quantities, as Kubernetes parses them.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Fields whose objects are replaced as a whole.
const ATOMIC: [&str; 5] = [
    "dataSource",
    "fieldRef",
    "labelSelector",
    "resourceFieldRef",
    "selector",
];

/// Fields that refer to an object by its name, which may be empty; replaced as a whole too.
const REFERENCES: [&str; 4] = ["configMap", "nodePublishSecretRef", "secret", "secretRef"];

/// Defaults: the object, its field, the value.
const DEFAULTS: [(&str, &str, &str); 7] = [
    ("azureDisk", "fsType", "ext4"),
    ("iscsi", "iscsiInterface", "default"),
    ("rbd", "keyring", "/etc/ceph/keyring"),
    ("rbd", "pool", "rbd"),
    ("rbd", "user", "admin"),
    ("scaleIO", "fsType", "xfs"),
    ("scaleIO", "storageMode", "ThinProvisioned"),
];

/// What a template may say about the metadata of the object that is made from it.
const TEMPLATE_METADATA: [&str; 5] = ["annotations", "finalizers", "labels", "name", "namespace"];

/// A list of a Kubernetes type.
pub(super) fn list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut item = generator.subschema_for::<T>().to_value();
    refine("", &mut item);
    json_schema!({"type": "array", "items": item})
}

/// Like [`list`], with items that are replaced as a whole.
pub(super) fn list_of_atomic<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut list = list::<T>(generator);
    if let Some(item) = list.get_mut("items").and_then(Value::as_object_mut) {
        item.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    list
}

/// Completes the schema of a field called `name`, and what is in it.
fn refine(name: &str, schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    match schema.get("type").and_then(Value::as_str) {
        Some("array") if name != "finalizers" => {
            schema.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        Some("object") => refine_object(name, schema),
        _ if schema.contains_key("x-kubernetes-int-or-string") => {
            schema.insert("pattern".into(), QUANTITY.into());
            schema.insert(
                "description".into(),
                "An amount, such as `500Mi` or `1.5`.".into(),
            );
        }
        _ => {}
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties
            .iter_mut()
            .for_each(|(name, schema)| refine(name, schema));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            refine("", inner);
        }
    }
}

fn refine_object(name: &str, schema: &mut Map<String, Value>) {
    let is_reference = REFERENCES.contains(&name) && schema.get("required") == Some(&json!(["name"]));
    if is_reference {
        schema.remove("required");
    }
    if is_reference || ATOMIC.contains(&name) {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    if is_reference {
        set_default(properties, "name", "".into());
    }
    for (_, field, value) in DEFAULTS.iter().filter(|(object, ..)| *object == name) {
        set_default(properties, field, (*value).into());
    }
    if name == "azureDisk" {
        set_default(properties, "readOnly", false.into());
    }
    let template_metadata = properties
        .get_mut("metadata")
        .filter(|_| name == "volumeClaimTemplate");
    if let Some(fields) = template_metadata.and_then(|it| it.get_mut("properties")?.as_object_mut()) {
        fields.retain(|field, _| TEMPLATE_METADATA.contains(&field.as_str()));
    }
}

fn set_default(properties: &mut Map<String, Value>, field: &str, value: Value) {
    if let Some(schema) = properties.get_mut(field).and_then(Value::as_object_mut) {
        schema.insert("default".into(), value);
    }
}
