//! Manifests: objects as YAML, as people write them.
use crate::inputs::Invalid;
use serde::Deserialize;
use serde_json::Value;

/// The objects of a manifest that the provider brings with it, such as `include_str!("roles.yaml")`. Text that is no
/// YAML is [`Invalid`].
///
/// ```
/// let objects = service_provider_runtime::manifests("{kind: Namespace}\n---\n# nothing\n---\n{kind: Role}")?;
/// assert_eq!(objects.len(), 2);
/// # Ok::<(), service_provider_runtime::Invalid>(())
/// ```
pub fn manifests(text: &str) -> Result<Vec<Value>, Invalid> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document)
            .map_err(|error| Invalid::new("InvalidManifest", error.to_string()))?;
        // A document of comments only.
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}
