//! `Retry-After`, carried into the body of the answer: kube's calls show the Status there and hide the headers.
//!
//! API servers send seconds. A date (the other form of RFC 9110 §10.2.3) would compare two clocks: it is ignored, and the
//! back-off is ours. How long a key obeys is bounded by its queue.
use axum::body::Bytes;
use http::{header, response::Parts};
use serde_json::{Value, json};

/// The body of an answer, with what its header asks for. What is no Status becomes the message of one: that is how the
/// API server refuses what is too much at once, and how a proxy speaks.
pub(super) fn carried(parts: &mut Parts, body: Bytes) -> Bytes {
    let Some(seconds) = asked(parts) else {
        return body;
    };
    let mut status = match serde_json::from_slice::<Value>(&body) {
        Ok(status) if status["kind"] == "Status" => status,
        _ => json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": String::from_utf8_lossy(&body).trim(),
        }),
    };
    status["code"] = parts.status.as_u16().into();
    if !status["details"].is_object() {
        status["details"] = json!({});
    }
    status["details"]["retryAfterSeconds"] = seconds.into();
    parts.headers.remove(header::CONTENT_LENGTH);
    status.to_string().into()
}

fn asked(parts: &Parts) -> Option<u32> {
    let failed = parts.status.is_client_error() || parts.status.is_server_error();
    let header = parts.headers.get(header::RETRY_AFTER).filter(|_| failed)?;
    let seconds: u64 = header.to_str().ok()?.trim().parse().ok()?;
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Fault;
    use http::Response;
    use kube::core::Status;
    use std::time::Duration;

    /// The fault that a typed call makes of an answer.
    fn fault(code: u16, retry_after: &str, body: &'static str) -> Fault {
        let answer = Response::builder()
            .status(code)
            .header(header::RETRY_AFTER, retry_after)
            .body(())
            .unwrap();
        let mut parts = answer.into_parts().0;
        let body = carried(&mut parts, Bytes::from_static(body.as_bytes()));
        let status: Status = serde_json::from_slice(&body).unwrap_or_default();
        Fault::api("x", &kube::Error::Api(status.with_code(code).boxed()))
    }

    #[test]
    fn what_a_header_asks_for_is_in_the_fault_whatever_the_body_is() {
        let plain = fault(429, "7", "Too many requests, please try again later.\n");
        assert_eq!(plain.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(plain.reason, "Throttled");
        assert_eq!(plain.message, "x: Too many requests, please try again later.");
        let status =
            r#"{"kind":"Status","message":"no","reason":"Timeout","details":{"name":"a"},"code":504}"#;
        let fault = fault(504, " 3 ", status);
        assert_eq!(
            (fault.retry_after, &*fault.message),
            (Some(Duration::from_secs(3)), "x: no")
        );
    }

    #[test]
    fn a_date_and_what_cannot_be_read_ask_for_nothing_and_absurd_numbers_are_no_error() {
        let body = r#"{"kind":"Status","message":"no"}"#;
        for header in ["Wed, 21 Oct 2037 07:28:00 GMT", "soon", "-1", ""] {
            assert_eq!(fault(503, header, body).retry_after, None, "{header}");
        }
        assert!(fault(503, "18446744073709551615", body).retry_after.is_some());
    }

    #[test]
    fn an_answer_that_asks_for_nothing_is_left_as_it_is() {
        let mut parts = Response::builder()
            .header(header::RETRY_AFTER, "5")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        assert_eq!(
            carried(&mut parts, Bytes::from_static(b"{}")),
            "{}",
            "it is no failure"
        );
        parts.headers.clear();
        parts.status = http::StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(carried(&mut parts, Bytes::from_static(b"busy")), "busy");
    }
}
