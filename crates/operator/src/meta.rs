//! Edits of other objects' metadata: finalizers and the operation annotation, each guarded by the resourceVersion
//! on which the decision was taken.
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use openmcp_api::keys::annotations;
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// On a ServiceProvider: `"true"` leaves its CRDs (and so the objects in them) behind when it is uninstalled.
pub(crate) const KEEP_CRDS: &str = "openmcp.cloud/keep-crds";

/// What the operation annotation asks for (contract §4, §11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Ignore,
    Reconcile,
}

/// The operation that an object asks for; unknown values ask for nothing.
pub(crate) fn operation(object: &impl ResourceExt) -> Option<Operation> {
    match object
        .annotations()
        .get(annotations::OPERATION)
        .map(String::as_str)
    {
        Some(annotations::OPERATION_IGNORE) => Some(Operation::Ignore),
        Some(annotations::OPERATION_RECONCILE) => Some(Operation::Reconcile),
        _ => None,
    }
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether the object bears the finalizer.
pub(crate) fn has_finalizer(object: &impl ResourceExt, finalizer: &str) -> bool {
    object.finalizers().iter().any(|f| f == finalizer)
}

/// Adds finalizers; no request when the object bears them all. `None`: the object is gone. A conflict is a [`Fault`]
/// that is retried.
pub(crate) async fn add_finalizers<K>(api: &Api<K>, object: &K, add: &[&str]) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.extend(
        add.iter()
            .filter(|f| !has_finalizer(object, f))
            .map(|f| (*f).to_owned()),
    );
    if finalizers.len() == object.finalizers().len() {
        return Ok(Some(object.clone()));
    }
    patch(api, object, json!({ "finalizers": finalizers })).await
}

/// Removes finalizers; no request when the object bears none of them. `None`: the object is gone.
pub(crate) async fn remove_finalizers<K>(
    api: &Api<K>,
    object: &K,
    remove: impl Fn(&str) -> bool,
) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let finalizers: Vec<_> = object.finalizers().iter().filter(|f| !remove(f)).collect();
    if finalizers.len() == object.finalizers().len() {
        return Ok(Some(object.clone()));
    }
    patch(api, object, json!({ "finalizers": finalizers })).await
}

/// Takes the `reconcile` annotation off, as it is done before any work (contract §11.8).
pub(crate) async fn take_operation<K>(api: &Api<K>, object: &K) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let gone = json!({ "annotations": { annotations::OPERATION: null } });
    patch(api, object, gone).await.map(drop)
}

/// Merges `metadata` into the object's, if it is still the one that was seen. `None`: the object is gone.
pub(crate) async fn patch<K>(api: &Api<K>, object: &K, metadata: Value) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut metadata = metadata;
    metadata["resourceVersion"] = json!(object.resource_version());
    metadata["uid"] = json!(object.uid());
    let body = Patch::Merge(json!({ "metadata": metadata }));
    match api
        .patch(&object.name_any(), &PatchParams::default(), &body)
        .await
    {
        Ok(live) => Ok(Some(live)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Fault::api(
            format!("update metadata of {}", describe(object)),
            &error,
        )),
    }
}

/// Deletes exactly the object that was seen; one that is gone or being deleted needs no request.
pub(crate) async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if is_deleting(object) {
        return Ok(());
    }
    delete_if(
        api,
        object,
        Preconditions {
            uid: object.uid(),
            resource_version: None,
        },
    )
    .await
    .map(drop)
}

/// Deletes the object only if nobody changed it since it was seen; tells how it is after that. `None`: it is gone.
pub(crate) async fn delete_unchanged<K>(api: &Api<K>, object: &K) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    delete_if(
        api,
        object,
        Preconditions {
            uid: object.uid(),
            resource_version: object.resource_version(),
        },
    )
    .await
}

async fn delete_if<K>(api: &Api<K>, object: &K, preconditions: Preconditions) -> Result<Option<K>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::background()
    };
    match api.delete(&object.name_any(), &params).await {
        Ok(answer) => Ok(answer.left()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Fault::api(format!("delete {}", describe(object)), &error)),
    }
}

/// `Kind namespace/name`, for messages.
pub(crate) fn describe<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let kind = K::kind(&());
    match object.meta().namespace.as_deref() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}
