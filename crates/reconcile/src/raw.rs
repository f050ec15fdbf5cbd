//! The requests about one child, by its address.
use crate::{
    Fault,
    apply::target::Target,
    children::Address,
    request::{APPLY, Answer, JSON, JSON_PATCH, METADATA_ONLY, Sent, send},
};
use http::{Method, StatusCode};
use kube::{Resource, core::DynamicObject};
use serde_json::{Value, json};

/// Server-side apply of `object`. The answer's status tells what became of it.
pub(crate) async fn apply(
    client: &kube::Client,
    address: &Address,
    manager: &str,
    force: bool,
    object: &Value,
) -> Result<Answer, Fault> {
    let path = format!(
        "{}?fieldManager={manager}&force={force}&fieldValidation=Strict",
        path(address)
    );
    let sent = Sent {
        body: Some((APPLY, object)),
        ..Sent::default()
    };
    send(client, Method::PATCH, &path, sent, &format!("apply {address}")).await
}

/// A JSON patch (RFC 6902). A test in it that fails is answered with 422.
pub(crate) async fn patch(
    client: &kube::Client,
    address: &Address,
    manager: &str,
    patch: &Value,
) -> Result<Answer, Fault> {
    let path = format!("{}?fieldManager={manager}", path(address));
    let sent = Sent {
        body: Some((JSON_PATCH, patch)),
        ..Sent::default()
    };
    send(client, Method::PATCH, &path, sent, &format!("patch {address}")).await
}

/// The whole object.
pub(crate) async fn get(client: &kube::Client, address: &Address) -> Result<Option<Value>, Fault> {
    get_as(client, address, JSON).await
}

/// Its metadata.
pub(crate) async fn get_metadata(client: &kube::Client, address: &Address) -> Result<Option<Value>, Fault> {
    get_as(client, address, METADATA_ONLY).await
}

async fn get_as(
    client: &kube::Client,
    address: &Address,
    accept: &'static str,
) -> Result<Option<Value>, Fault> {
    let doing = format!("read {address}");
    let sent = Sent {
        accept: Some(accept),
        ..Sent::default()
    };
    let answer = send(client, Method::GET, &path(address), sent, &doing).await?;
    if answer.is_absent(&address.name) {
        return Ok(None);
    }
    // A kind that does not exist any more has no objects. One that is not served at the moment may have.
    if answer.status == StatusCode::NOT_FOUND && place(address)?.kind_is_gone(client).await? {
        return Ok(None);
    }
    answer.into_success(&doing).map(Some)
}

/// DELETE of exactly the object with `uid`, and where a version is given only as long as it has that.
pub(crate) async fn delete(
    client: &kube::Client,
    address: &Address,
    (uid, version): (&str, Option<u64>),
    policy: &str,
) -> Result<Answer, Fault> {
    let mut preconditions = json!({"uid": uid});
    if let Some(version) = version {
        preconditions["resourceVersion"] = version.to_string().into();
    }
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": preconditions, "propagationPolicy": policy,
    });
    let sent = Sent {
        body: Some((JSON, &options)),
        ..Sent::default()
    };
    send(
        client,
        Method::DELETE,
        &path(address),
        sent,
        &format!("delete {address}"),
    )
    .await
}

fn place(address: &Address) -> Result<Target, Fault> {
    let resource = &address.kind.resource;
    let namespace = Some(address.namespace.as_str());
    Target::new(&resource.api_version, &resource.kind, namespace, &address.name)
}

fn path(address: &Address) -> String {
    let namespace = Some(address.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let collection = DynamicObject::url_path(&address.kind.resource, namespace);
    format!("{collection}/{}", address.name)
}
