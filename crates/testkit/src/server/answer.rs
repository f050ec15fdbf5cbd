//! Answers of the API server: Status objects as the real one writes them.
use http::StatusCode;
use serde_json::{Value, json};

/// A request that is not granted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    /// `None`: plain text, as for unknown paths.
    pub(crate) reason: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) details: Value,
}

/// The kind of an object in messages: its plural and its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) plural: &'a str,
    pub(crate) group: &'a str,
    pub(crate) name: &'a str,
}

impl Named<'_> {
    fn details(&self) -> Value {
        let mut details = json!({"kind": self.plural});
        if !self.name.is_empty() {
            details["name"] = self.name.into();
        }
        if !self.group.is_empty() {
            details["group"] = self.group.into();
        }
        details
    }

    fn words(&self) -> String {
        let Self { plural, group, name } = self;
        match *group {
            "" => format!("{plural} {name:?}"),
            group => format!("{plural}.{group} {name:?}"),
        }
    }
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self {
            code: StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            reason: Some(reason),
            message: message.into(),
            details,
        }
    }

    pub(crate) fn unknown_path() -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: None,
            message: "404 page not found\n".to_owned(),
            details: Value::Null,
        }
    }

    /// Beyond what the in-memory API server does: refused, not guessed.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        let message = format!("testkit: {}", message.into());
        Self::new(501, "NotImplemented", message, Value::Null)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    pub(crate) fn absent(of: Named<'_>) -> Self {
        Self::new(404, "NotFound", format!("{} not found", of.words()), of.details())
    }

    pub(crate) fn exists(of: Named<'_>) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} already exists", of.words()),
            of.details(),
        )
    }

    pub(crate) fn conflict(of: Named<'_>, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", of.words());
        Self::new(409, "Conflict", message, of.details())
    }

    pub(crate) fn modified(of: Named<'_>) -> Self {
        Self::conflict(
            of,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `kind` is the kind's name, not its plural.
    pub(crate) fn invalid(kind: &str, of: Named<'_>, reason: &str, field: &str, why: &str) -> Self {
        let word = match reason {
            "FieldValueRequired" => "Required value",
            "FieldValueForbidden" => "Forbidden",
            _ => "Invalid value",
        };
        let full = match of.group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        let mut details = of.details();
        details["kind"] = kind.into();
        details["causes"] = json!([{"reason": reason, "message": format!("{word}: {why}"), "field": field}]);
        let message = format!("{full} {:?} is invalid: {field}: {word}: {why}", of.name);
        Self::new(422, "Invalid", message, details)
    }

    pub(crate) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message, Value::Null)
    }

    /// The body that is sent.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
