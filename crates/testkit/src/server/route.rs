//! Paths and queries.
use super::{answer::Refusal, kinds::Kind, kinds::Kinds};
use std::{collections::HashMap, sync::Arc};

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Route {
    /// Discovery and health: the whole answer.
    Says(serde_json::Value),
    Collection {
        kind: Arc<Kind>,
        /// Empty: all namespaces, or a cluster-scoped kind.
        namespace: String,
    },
    Object {
        kind: Arc<Kind>,
        namespace: String,
        name: String,
        subresource: Option<Subresource>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    Status,
    Token,
}

/// Where a path leads.
pub(crate) fn route(path: &str, kinds: &Kinds) -> Result<Route, Refusal> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let says = |found: Option<serde_json::Value>| found.map(Route::Says).ok_or_else(Refusal::unknown_path);
    match segments[..] {
        ["healthz" | "livez" | "readyz"] => says(Some("ok".into())),
        ["version"] => says(Some(
            serde_json::json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0+testkit"}),
        )),
        ["api"] => says(Some(
            serde_json::json!({"kind": "APIVersions", "versions": ["v1"]}),
        )),
        ["apis"] => says(Some(kinds.groups())),
        ["apis", group] => says(kinds.group(group)),
        ["api", version] => says(kinds.resources("", version)),
        ["apis", group, version] => says(kinds.resources(group, version)),
        ["api", version, ref rest @ ..] => place("", version, rest, kinds),
        ["apis", group, version, ref rest @ ..] => place(group, version, rest, kinds),
        _ => Err(Refusal::unknown_path()),
    }
}

fn place(group: &str, version: &str, rest: &[&str], kinds: &Kinds) -> Result<Route, Refusal> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..]
            if !rest.is_empty() && !matches!(rest[0], "status" | "finalize") =>
        {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let [plural, rest @ ..] = rest else {
        return Err(Refusal::unknown_path());
    };
    let kind = match kinds.find(group, version, plural) {
        Some(kind) => kind,
        None if group.is_empty()
            || !kinds.all().any(|kind| kind.group == group)
            || kinds_are_custom(kinds, group) =>
        {
            return Err(if group.is_empty() {
                unserved()
            } else {
                Refusal::unknown_path()
            });
        }
        None => return Err(unserved()),
    };
    match rest {
        [] => Ok(Route::Collection {
            kind,
            namespace: namespace.to_owned(),
        }),
        [name] | [name, "status" | "token"] => {
            if kind.namespaced == namespace.is_empty() {
                return Err(Refusal::unknown_path());
            }
            let subresource = match rest.get(1) {
                Some(&"status") if kind.status => Some(Subresource::Status),
                Some(&"token") if kind.is("", "serviceaccounts") => Some(Subresource::Token),
                Some(_) => return Err(unserved()),
                None => None,
            };
            Ok(Route::Object {
                kind,
                namespace: namespace.to_owned(),
                name: (*name).to_owned(),
                subresource,
            })
        }
        _ => Err(Refusal::unsupported(format!(
            "the subresource {}",
            rest[1..].join("/")
        ))),
    }
}

fn kinds_are_custom(kinds: &Kinds, group: &str) -> bool {
    kinds.all().any(|kind| kind.group == group && kind.custom)
}

fn unserved() -> Refusal {
    let details = serde_json::json!({});
    Refusal::new(
        404,
        "NotFound",
        "the server could not find the requested resource",
        details,
    )
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (unescape(key), unescape(value))
                })
                .collect(),
        )
    }

    /// Empty, if it is not given.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }
}

fn unescape(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_unescaped() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&x");
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert!(query.is("watch"));
        assert_eq!(query.get("y"), "");
    }
}
