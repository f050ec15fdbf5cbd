//! Raw requests: the HTTP status decides ownership (201 is not 200), and kube's typed calls hide it.
use crate::{Fault, children::Address, fault::Class};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::{Resource, client::Body, core::DynamicObject};
use serde_json::{Value, json};
use std::time::Duration;

/// The client itself knows no deadline for calls that are no watches.
const CALL_DEADLINE: Duration = Duration::from_secs(20);
const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";
/// Metadata only: managedFields and labels without a body.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// An answer of the API server that is no error of transport: its status and its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of a success, else the fault that the API server's own Status says. `doing` names the try.
    pub(crate) fn into_object(self, doing: &str) -> Result<Value, Fault> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(self.into_fault(doing))
        }
    }

    pub(crate) fn into_fault(self, doing: &str) -> Fault {
        let terminating = self.has_cause("NamespaceTerminating");
        let code = self.status.as_u16();
        let mut status: kube::core::Status = serde_json::from_value(self.body).unwrap_or_default();
        status.code = code;
        if terminating {
            return Fault::retry("NamespaceTerminating", format!("{doing}: {}", status.message));
        }
        Fault::api(doing, &kube::Error::Api(Box::new(status)))
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.causes().any(|cause| cause["reason"] == reason)
    }

    fn has_cause_at(&self, field: &str) -> bool {
        self.causes().any(|cause| cause["field"] == field)
    }

    fn causes(&self) -> impl Iterator<Item = &Value> {
        self.body["details"]["causes"].as_array().into_iter().flatten()
    }
}

/// Server-side apply of `object`.
pub(crate) async fn apply(
    client: &kube::Client,
    address: &Address,
    manager: &str,
    force: bool,
    object: &Value,
) -> Result<Answer, Fault> {
    let query = format!("?fieldManager={manager}&force={force}&fieldValidation=Strict");
    let request = request(
        Method::PATCH,
        address,
        &query,
        APPLY,
        JSON,
        object.to_string().into_bytes(),
    );
    let mut answer = send(client, request, &format!("apply {address}")).await?;
    // The UID of an object that was replaced answers 422 (seen on 1.36), that of an absent one 409: both say that
    // there is no such object under that UID.
    if answer.status == StatusCode::UNPROCESSABLE_ENTITY && answer.has_cause_at("metadata.uid") {
        answer.status = StatusCode::CONFLICT;
    }
    Ok(answer)
}

/// The whole object.
pub(crate) async fn get(client: &kube::Client, address: &Address) -> Result<Option<Value>, Fault> {
    get_as(client, address, JSON).await
}

/// Its metadata.
pub(crate) async fn get_metadata(client: &kube::Client, address: &Address) -> Result<Option<Value>, Fault> {
    get_as(client, address, METADATA).await
}

async fn get_as(client: &kube::Client, address: &Address, accept: &str) -> Result<Option<Value>, Fault> {
    let doing = format!("read {address}");
    let answer = send(
        client,
        request(Method::GET, address, "", JSON, accept, Vec::new()),
        &doing,
    )
    .await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.into_object(&doing).map(Some)
}

/// DELETE of exactly the object with `uid`.
pub(crate) async fn delete(
    client: &kube::Client,
    address: &Address,
    uid: &str,
    policy: &str,
) -> Result<Answer, Fault> {
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": uid}, "propagationPolicy": policy,
    });
    let request = request(
        Method::DELETE,
        address,
        "",
        JSON,
        JSON,
        options.to_string().into_bytes(),
    );
    send(client, request, &format!("delete {address}")).await
}

fn request(
    method: Method,
    address: &Address,
    query: &str,
    content: &str,
    accept: &str,
    body: Vec<u8>,
) -> Result<Request<Body>, http::Error> {
    let namespace = Some(address.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let collection = DynamicObject::url_path(&address.kind.resource, namespace);
    Request::builder()
        .method(method)
        .uri(format!("{collection}/{}{query}", address.name))
        .header(http::header::CONTENT_TYPE, content)
        .header(http::header::ACCEPT, accept)
        .body(Body::from(body))
}

async fn send(
    client: &kube::Client,
    request: Result<Request<Body>, http::Error>,
    doing: &str,
) -> Result<Answer, Fault> {
    let request = request.map_err(|error| Fault::invalid("Rejected", format!("{doing}: {error}")))?;
    let exchange = async {
        let response = client
            .send(request)
            .await
            .map_err(|error| Fault::api(doing, &error))?;
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|error| Fault::api(doing, &error))?
            .to_bytes();
        Ok(Answer {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    };
    let late = || {
        Fault::new(
            Class::Unreachable,
            "Unreachable",
            format!("{doing}: no answer in {CALL_DEADLINE:?}"),
        )
    };
    tokio::time::timeout(CALL_DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(late()))
}
