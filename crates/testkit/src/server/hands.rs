//! Requests without a network and without waiting: what people, other controllers and tests do to a server.
use super::{Server, lock, serve::said};
use http::{Method, Request, header};
use hyper::body::Bytes;
use serde_json::Value;

/// A request that was not granted, as the server's Status says it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {}", status["message"].as_str().unwrap_or_default())]
pub struct Denied {
    /// The HTTP status.
    pub code: u16,
    /// The Status object.
    pub status: Value,
}

/// Who people are, in managedFields.
pub const PERSON: &str = "person";

impl Server {
    /// POST of an object with apiVersion and kind.
    pub fn create(&self, object: &Value) -> Result<Value, Denied> {
        let path = self.path(object, false)?;
        self.send(
            Method::POST,
            &format!("{path}?fieldManager={PERSON}"),
            "application/json",
            object,
        )
    }

    /// Server-side apply with force.
    pub fn apply(&self, manager: &str, object: &Value) -> Result<Value, Denied> {
        let path = self.path(object, true)?;
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", object)
    }

    /// A merge patch of the object that `of` names by apiVersion, kind, namespace and name.
    pub fn merge(&self, of: &Value, patch: &Value) -> Result<Value, Denied> {
        let path = format!("{}?fieldManager={PERSON}", self.path(of, true)?);
        self.send(Method::PATCH, &path, "application/merge-patch+json", patch)
    }

    /// A merge patch of its status.
    pub fn merge_status(&self, of: &Value, status: &Value) -> Result<Value, Denied> {
        let path = format!("{}/status?fieldManager={PERSON}", self.path(of, true)?);
        let patch = serde_json::json!({"status": status});
        self.send(Method::PATCH, &path, "application/merge-patch+json", &patch)
    }

    /// DELETE of the object that `of` names.
    pub fn delete(&self, of: &Value) -> Result<Value, Denied> {
        let path = self.path(of, true)?;
        self.send(Method::DELETE, &path, "application/json", &Value::Null)
    }

    /// The live object that `of` names.
    pub fn live(&self, of: &Value) -> Option<Value> {
        let text = |path: &str| of.pointer(path).and_then(Value::as_str).unwrap_or_default();
        self.object(
            text("/apiVersion"),
            text("/kind"),
            text("/metadata/namespace"),
            text("/metadata/name"),
        )
    }

    fn path(&self, object: &Value, named: bool) -> Result<String, Denied> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let Some(kind) = lock(&self.0.state).kinds.of_kind(api_version, kind) else {
            let status = super::answer::Refusal::unsupported(format!("the kind {kind} of {api_version}"));
            return Err(Denied {
                code: status.code.as_u16(),
                status: status.status(),
            });
        };
        let root = if kind.group.is_empty() { "api" } else { "apis" };
        let mut path = format!("/{root}/{api_version}");
        if kind.namespaced {
            path += &format!("/namespaces/{}", text("/metadata/namespace"));
        }
        path += &format!("/{}", kind.plural);
        if named {
            path += &format!("/{}", text("/metadata/name"));
        }
        Ok(path)
    }

    fn send(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Value, Denied> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(())
            .map_err(|error| Denied {
                code: 400,
                status: serde_json::json!({"message": error.to_string()}),
            })?;
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        let (parts, ()) = request.into_parts();
        let (status, body) = said(self.answer_anyone(&parts, &bytes));
        if status.is_success() {
            return Ok(body);
        }
        Err(Denied {
            code: status.as_u16(),
            status: body,
        })
    }
}
