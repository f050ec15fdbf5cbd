//! Adds and removes this provider's finalizer. Each write is conditional on the resourceVersion that was read.
use crate::names::MANAGER;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use openmcp_api::keys::finalizers::CLUSTER_PROVIDER;
use openmcp_reconcile::Fault;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// Whether the object bears our finalizer.
pub(crate) fn is_set(object: &impl ResourceExt) -> bool {
    object.finalizers().iter().any(|it| it == CLUSTER_PROVIDER)
}

/// Adds our finalizer.
pub(crate) async fn add<K>(api: &Api<K>, object: &K) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut next = object.finalizers().to_vec();
    next.push(CLUSTER_PROVIDER.to_owned());
    write(api, object, &next).await
}

/// Removes our finalizer. An object that is gone needs none.
pub(crate) async fn remove<K>(api: &Api<K>, object: &K) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let next: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|it| *it != CLUSTER_PROVIDER)
        .cloned()
        .collect();
    write(api, object, &next).await
}

async fn write<K>(api: &Api<K>, object: &K, finalizers: &[String]) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
    match api
        .patch_metadata(
            &object.name_any(),
            &PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            },
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Fault::api(
            format!("write the finalizers of {} {}", K::kind(&()), object.name_any()),
            &error,
        )),
    }
}
