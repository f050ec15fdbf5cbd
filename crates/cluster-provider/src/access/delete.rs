//! Removes what was made for an AccessRequest: on the target, then the Secret.
use super::{
    plan::{self, Id, Kind},
    target::Target,
};
use crate::{
    apply::{self, Ownership, ownership},
    names::LABEL_ACCESS_REQUEST,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, api::ListParams};
use openmcp_api::{AccessRequest, names::secret_of_access_request};
use openmcp_reconcile::{
    Fault,
    apply::{Deletion, Mark, delete},
};
use serde_json::json;
use std::collections::BTreeMap;

/// Removes the request's objects from its target and sees them gone. Namespaces stay: what is in them is the tenant's.
/// The target is asked, not its stores: an object whose event has not come yet must not be left behind.
pub(super) async fn on_target(request: &AccessRequest, target: &Target, provider: &str) -> Result<(), Fault> {
    let mark = Mark {
        label: LABEL_ACCESS_REQUEST,
        value: request.uid().unwrap_or_default(),
    };
    let mut found: BTreeMap<Id, String> = BTreeMap::new();
    for kind in Kind::ALL {
        let sample = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {}});
        let listed = apply::api_for(&target.client, &sample)
            .list_metadata(&ListParams::default().labels(&format!("{}={}", mark.label, mark.value)))
            .await
            .map_err(|error| {
                Fault::api(
                    format!("list {} at {}", kind.as_str(), target.endpoint.server),
                    &error,
                )
            })?;
        for object in listed {
            let id = Id {
                kind,
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
            };
            found.insert(id, object.uid().unwrap_or_default());
        }
    }
    // What lost its mark is found by its name.
    let plan = request
        .spec
        .token
        .as_ref()
        .map(|token| plan::of_token(request, token, provider))
        .unwrap_or_default();
    for (id, object) in plan
        .objects
        .iter()
        .filter(|(id, _)| !found.contains_key(id))
        .collect::<Vec<_>>()
    {
        let live = apply::api_for(&target.client, object)
            .get_metadata_opt(&id.name)
            .await
            .map_err(|error| Fault::api(format!("read {id} at {}", target.endpoint.server), &error))?;
        if let Some(live) = live.filter(|live| ownership(&live.metadata, &mark) != Ownership::Foreign) {
            found.insert(id.clone(), live.uid().unwrap_or_default());
        }
    }
    all(target, &found).await
}

/// Removes what AccessRequests of this name left on a target that went past their finalizer; `uid` is that of the one
/// that lives now.
pub(super) async fn former(target: &Target, request: &str, uid: &str) -> Result<(), Fault> {
    let found: BTreeMap<Id, String> = target.of_former(request, uid).into_iter().collect();
    if !found.is_empty() {
        tracing::info!(request, "the AccessRequest is gone: removing what is left of it");
    }
    all(target, &found).await
}

/// Removes objects and sees them gone.
async fn all(target: &Target, found: &BTreeMap<Id, String>) -> Result<(), Fault> {
    // Bindings first: what they grant ends at once.
    for (id, uid) in found.iter().rev() {
        if self::object(&target.client, id, uid).await? == Deletion::Waiting {
            return Err(Fault::retry(
                "WaitingForObject",
                format!("{id} at {} is not gone yet", target.endpoint.server),
            ));
        }
    }
    Ok(())
}

/// Deletes one object of that UID.
pub(super) async fn object(client: &Client, id: &Id, uid: &str) -> Result<Deletion, Fault> {
    let namespace = Some(id.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    delete(
        client,
        id.kind.api_version(),
        id.kind.as_str(),
        namespace,
        &id.name,
        uid,
    )
    .await
}

/// Deletes the kubeconfig Secret if it is the request's.
pub(super) async fn secret(client: &Client, request: &AccessRequest) -> Result<(), Fault> {
    let namespace = request.namespace().unwrap_or_default();
    let name = secret_of_access_request(&request.name_any());
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let live = api
        .get_metadata_opt(&name)
        .await
        .map_err(|error| Fault::api(format!("read Secret {name}"), &error))?;
    let mark = Mark {
        label: LABEL_ACCESS_REQUEST,
        value: request.uid().unwrap_or_default(),
    };
    let Some(live) = live.filter(|live| ownership(&live.metadata, &mark) != Ownership::Foreign) else {
        return Ok(());
    };
    match delete(
        client,
        "v1",
        "Secret",
        Some(&namespace),
        &name,
        &live.uid().unwrap_or_default(),
    )
    .await?
    {
        Deletion::Gone => Ok(()),
        Deletion::Waiting => Err(Fault::retry(
            "WaitingForObject",
            format!("Secret {namespace}/{name} is not gone yet"),
        )),
    }
}
