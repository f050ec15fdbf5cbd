//! Small writes to the metadata of an object that others write too: tested against what was read, so that nothing
//! of theirs is lost.
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Adds a finalizer.
pub(crate) async fn add_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(finalizer.to_owned());
    replace_finalizers(api, object, &finalizers).await
}

/// Removes a finalizer. An object that is gone, or was made anew, is no error.
pub(crate) async fn remove_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kept: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|held| *held != finalizer)
        .cloned()
        .collect();
    replace_finalizers(api, object, &kept).await
}

async fn replace_finalizers<K>(api: &Api<K>, object: &K, finalizers: &[String]) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut patch = vec![json!({"op": "test", "path": "/metadata/uid", "value": object.uid()})];
    if !object.finalizers().is_empty() {
        patch.push(json!({"op": "test", "path": "/metadata/finalizers", "value": object.finalizers()}));
    }
    patch.push(json!({"op": "add", "path": "/metadata/finalizers", "value": finalizers}));
    send(api, object, patch, "change the finalizers of").await
}

/// Removes an annotation, if it still has the value that was read.
pub(crate) async fn remove_annotation<K>(api: &Api<K>, object: &K, annotation: &str) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let path = format!(
        "/metadata/annotations/{}",
        annotation.replace('~', "~0").replace('/', "~1")
    );
    let patch = vec![
        json!({"op": "test", "path": path, "value": object.annotations().get(annotation)}),
        json!({"op": "remove", "path": path}),
    ];
    send(api, object, patch, "remove an annotation of").await
}

async fn send<K>(api: &Api<K>, object: &K, patch: Vec<Value>, doing: &str) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let doing = format!("{doing} {} {}", K::kind(&()), object.name_any());
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(patch))
        .map_err(|error| Fault::retry("ApiError", format!("{doing}: {error}")))?;
    match api
        .patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Json::<()>(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        // A test failed: somebody was faster. What they wrote will be read first.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            Err(Fault::retry("Conflict", format!("{doing}: it changed meanwhile")))
        }
        Err(error) => Err(Fault::api(doing, &error)),
    }
}
