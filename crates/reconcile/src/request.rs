//! Raw requests to an API server: kube's calls hide the HTTP status (201 or 200?).
use crate::{
    Fault,
    fault::{Class, chain},
};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::{client::Body, core::Status};
use serde_json::Value;
use std::{fmt::Display, time::Duration};

/// Metadata only: what the API server sends instead of the whole object.
pub(crate) const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// Whole objects.
pub(crate) const JSON: &str = "application/json";
/// A server-side apply. JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// RFC 6902.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
/// No answer of an API server to one object's request takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server's answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    body: Value,
}

/// What is sent besides method and path.
#[derive(Default)]
pub(crate) struct Sent<'a> {
    pub(crate) accept: Option<&'static str>,
    pub(crate) body: Option<(&'static str, &'a Value)>,
}

/// Sends one request. Only a missing answer is an error; `doing` is what its message starts with.
pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    sent: Sent<'_>,
    doing: &str,
) -> Result<Answer, Fault> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, sent.accept.unwrap_or(JSON));
    let body = match sent.body {
        Some((content_type, body)) => {
            request = request.header(header::CONTENT_TYPE, content_type);
            serde_json::to_vec(body).map_err(|error| Fault::bug(format!("{doing}: {error}")))?
        }
        None => Vec::new(),
    };
    let request = request.body(Body::from(body)).map_err(|error| {
        Fault::invalid(
            "Rejected",
            format!("{doing}: no request can be made of it: {error}"),
        )
    })?;
    let exchange = async {
        let (parts, body) = client.send(request).await?.into_parts();
        Ok::<_, kube::Error>((parts, body.collect().await?.to_bytes()))
    };
    let (parts, bytes) = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Fault::api(doing, &error)),
        Err(_elapsed) => {
            let text = format!("{doing}: no answer within {PATIENCE:?}");
            return Err(Fault::new(Class::Unreachable, "Unreachable", text));
        }
    };
    let body = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(error) if parts.status.is_success() => {
            return Err(Fault::retry(
                "Undecodable",
                format!("{doing}: the answer is no JSON: {}", chain(&error)),
            ));
        }
        // A proxy, or "404 page not found" of an unknown path.
        Err(_) => Value::Null,
    };
    Ok(Answer {
        status: parts.status,
        body,
    })
}

impl Answer {
    /// The body of a success, else the fault.
    pub(crate) fn into_success(self, doing: impl Display) -> Result<Value, Fault> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(self.fault(doing))
        }
    }

    /// The fault that this answer is.
    pub(crate) fn fault(&self, doing: impl Display) -> Fault {
        Fault::status(doing, &self.as_status())
    }

    /// The answer says that this *object* does not exist. A 404 for an unknown path or kind says nothing of it.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.status == StatusCode::NOT_FOUND
            && self
                .as_status()
                .details
                .is_some_and(|details| details.name == name)
    }

    fn as_status(&self) -> Status {
        let mut status: Status = match self.body.get("kind").and_then(Value::as_str) {
            Some("Status") => serde_json::from_value(self.body.clone()).unwrap_or_default(),
            _ => Status::default(),
        };
        status.code = self.status.as_u16();
        status
    }
}
