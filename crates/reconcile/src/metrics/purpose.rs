//! What a request to an API server is for, read off the request: a Kubernetes verb and a resource. Bounded by the
//! kinds that a process deals with; never a name.
use http::{Method, Request, header::CONTENT_TYPE};

/// The verb, and the resource with its subresource: `("apply", "deployments")`, `("patch", "kros/status")`.
pub(super) fn of<B>(request: &Request<B>) -> (&'static str, String) {
    let mut parts = request.uri().path().split('/').filter(|part| !part.is_empty());
    match parts.next() {
        Some("api") => drop(parts.next()),
        Some("apis") => drop(parts.by_ref().take(2).count()),
        _ => return ("other", "other".to_owned()),
    }
    let mut rest: Vec<&str> = parts.collect();
    // A namespace in front of a resource; `namespaces/x` and `namespaces/x/status` are the resource itself.
    if rest.len() > 2 && rest[0] == "namespaces" && !["status", "finalize"].contains(&rest[2]) {
        rest.drain(..2);
    }
    match rest.as_slice() {
        [] => ("get", "discovery".to_owned()),
        [resource] => (verb(request, false), (*resource).to_owned()),
        [resource, _name] => (verb(request, true), (*resource).to_owned()),
        [resource, _name, sub, ..] => (verb(request, true), format!("{resource}/{sub}")),
    }
}

fn verb<B>(request: &Request<B>, named: bool) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let content = request.headers().get(CONTENT_TYPE);
    let is_apply = || content.is_some_and(|it| it.as_bytes().starts_with(b"application/apply-patch"));
    match *request.method() {
        Method::GET if query.contains("watch=true") || query.contains("watch=1") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if is_apply() => "apply",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_told_by_verb_and_resource() {
        let told = |method: &str, uri: &str| {
            let (verb, purpose) = of(&Request::builder().method(method).uri(uri).body(()).unwrap());
            format!("{verb} {purpose}")
        };
        assert_eq!(told("GET", "/api/v1/pods?watch=true"), "watch pods");
        assert_eq!(told("GET", "/api/v1/namespaces/kube-system"), "get namespaces");
        assert_eq!(
            told("PUT", "/api/v1/namespaces/x/status"),
            "update namespaces/status"
        );
        assert_eq!(
            told("GET", "/apis/apps/v1/namespaces/a/deployments"),
            "list deployments"
        );
        assert_eq!(
            told("PATCH", "/apis/x.y/v1/namespaces/a/kros/b/status"),
            "patch kros/status"
        );
        assert_eq!(told("GET", "/apis/x.y/v1"), "get discovery");
        assert_eq!(told("GET", "/version"), "other other");
    }

    #[test]
    fn an_apply_is_no_patch() {
        let request = Request::patch("/api/v1/namespaces/a/configmaps/b");
        let request = request
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .body(())
            .unwrap();
        assert_eq!(of(&request), ("apply", "configmaps".to_owned()));
    }
}
