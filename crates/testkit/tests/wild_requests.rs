//! The in-memory API server is asked for anything: it answers, and goes on.
//!
//! A panic in it would end a simulation with the wrong word.
#![allow(clippy::unwrap_used)]
use http::{Method, Request};
use openmcp_testkit::Server;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

const WORDS: &[&str] = &[
    "",
    ".",
    "a",
    "x",
    "metadata",
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "finalizers",
    "managedFields",
    "fieldsV1",
    "f:spec",
    "aé",
    "é",
    "k:{\"name\":\"p\"}",
    "v:1",
    "spec",
    "parts",
    "tags",
    "status",
    "data",
    "stringData",
    "kind",
    "apiVersion",
    "v1",
    "ConfigMap",
    "expirationSeconds",
    "versions",
    "schema",
    "preconditions",
    "deletionTimestamp",
    "image",
    "replicas",
];
const PATHS: &[&str] = &[
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/a",
    "/api/v1/namespaces/default/secrets/a",
    "/api/v1/namespaces/default/serviceaccounts/a",
    "/api/v1/namespaces/default/serviceaccounts/a/token",
    "/api/v1/namespaces",
    "/api/v1/namespaces/default",
    "/api/v1/configmaps",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/deployments/a",
    "/apis/apps/v1/namespaces/default/deployments/a/status",
    "/apis/example.com/v1/namespaces/default/widgets",
    "/apis/example.com/v1/namespaces/default/widgets/a",
    "/apis/example.com/v1/namespaces/default/widgets/a/status",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases/a",
    "/apis/example.com/v1",
    "/version",
    "/",
];
const QUERIES: &[&str] = &[
    "",
    "fieldManager=a",
    "fieldManager=a&force=true",
    "fieldManager=%",
    "fieldManager=%c3&force=%e9%",
    "limit=1",
    "limit=18446744073709551615",
    "limit=1&continue=MS4x",
    "limit=18446744073709551615&continue=MS4x",
    "continue=MS45OTk5OTk5OTk5OTk5OTk5OTk5",
    "continue=x",
    "labelSelector=a%20in%20(b,c",
    "labelSelector=)))),a=b,!",
    "labelSelector=%20in%20&fieldSelector=a",
    "fieldSelector=metadata.name=a,.=,..=x",
    "fieldSelector=a!=b",
    "watch=true",
    "watch=true&resourceVersion=0&timeoutSeconds=18446744073709551615&allowWatchBookmarks=true",
    "watch=true&resourceVersion=x",
    "watch=true&resourceVersion=18446744073709551615",
    "resourceVersion=18446744073709551615",
    "propagationPolicy=Foreground",
    "propagationPolicy=Orphan",
    "dryRun=All",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![12 => select(WORDS).prop_map(str::to_owned), 1 => any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((word(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn definition() -> Value {
    let text = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "text": {"type": "string", "default": "x"},
                        "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
                        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "properties": {"name": text, "image": text}}},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

/// Valid bodies, to begin with.
fn bodies() -> Vec<Value> {
    let named = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "default"}});
    let with = |mut object: Value, field: &str, value: Value| {
        object[field] = value;
        object
    };
    let mut owned = named("v1", "ConfigMap");
    owned["metadata"]["managedFields"] = json!([{
        "manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {".": {}, "f:a": {}}},
    }]);
    let widget = json!({"parts": [{"name": "p", "image": "1"}, {"name": "q"}], "tags": ["x", "y"], "free": {"a": [1]}});
    vec![
        with(named("v1", "ConfigMap"), "data", json!({"a": "1"})),
        with(owned, "data", json!({"a": "1"})),
        with(named("v1", "Secret"), "data", json!({"a": "MQ=="})),
        named("v1", "ServiceAccount"),
        named("v1", "Namespace"),
        with(
            named("apps/v1", "Deployment"),
            "spec",
            json!({"replicas": 1, "selector": {}, "template": {}}),
        ),
        with(named("example.com/v1", "Widget"), "spec", widget),
        with(named("example.com/v1", "Widget"), "status", json!({"a": 1})),
        definition(),
        json!({"spec": {"expirationSeconds": 600}}),
        json!({"preconditions": {"uid": "x", "resourceVersion": "1"}, "propagationPolicy": "Foreground"}),
        json!([{"op": "add", "path": "/data/a", "value": 1}, {"op": "test", "path": "/metadata/name", "value": "a"}]),
        json!([{"op": "copy", "from": "", "path": "/spec"}, {"op": "remove", "path": "/metadata"}]),
        json!({"metadata": {"finalizers": null, "labels": {"a": "b"}}}),
    ]
}

fn replace(at: &mut Value, path: &[prop::sample::Index], other: Value) {
    let next = match (path.split_first(), &mut *at) {
        (Some((step, rest)), Value::Object(fields)) if !fields.is_empty() => {
            let nth = step.index(fields.len());
            fields.values_mut().nth(nth).map(|field| (field, rest))
        }
        (Some((step, rest)), Value::Array(items)) if !items.is_empty() => {
            let nth = step.index(items.len());
            items.get_mut(nth).map(|item| (item, rest))
        }
        _ => None,
    };
    match next {
        Some((next, rest)) => replace(next, rest, other),
        None => *at = other,
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (vec(any::<prop::sample::Index>(), 0..6), value());
    let mutant = (select(bodies()), vec(mutation, 0..3)).prop_map(|(mut body, mutations)| {
        for (path, other) in mutations {
            replace(&mut body, &path, other);
        }
        body.to_string().into_bytes()
    });
    prop_oneof![
        10 => mutant,
        2 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..64),
    ]
}

type Wild = (Method, &'static str, &'static str, &'static str, Vec<u8>);

fn request() -> impl Strategy<Value = Wild> {
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::PATCH,
        Method::DELETE,
    ];
    (
        select(methods.to_vec()),
        select(PATHS),
        select(QUERIES),
        select(TYPES),
        body(),
    )
}

async fn ask(server: &Server, (method, path, query, content_type, body): Wild) -> u16 {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?{query}"))
        .header("content-type", content_type)
        .body(http_body_util::Full::new(hyper::body::Bytes::from(body)))
        .unwrap();
    server.clone().oneshot(request).await.unwrap().status().as_u16()
}

#[test]
fn whatever_is_asked_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 64,
        ..ProptestConfig::default()
    };
    proptest!(config, |(requests in vec(request(), 1..12))| {
        let server = Server::new();
        server.create(&definition()).unwrap();
        for object in bodies().into_iter().take(7) {
            // Some of them are there already.
            let _made = server.create(&object);
        }
        for wild in requests {
            let said = wild.clone();
            let code = runtime.block_on(ask(&server, wild));
            prop_assert!((200..600).contains(&code) && code != 500, "{code} to {said:?}");
            while server.settle_step() {}
            server.serve_workloads();
        }
    });
}

#[test]
fn what_is_deep_is_refused_or_kept() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let server = Server::new();
    server.create(&definition()).unwrap();
    let deep = (0..110).fold(json!({}), |inner, _| {
        Value::Object(Map::from_iter([("a".to_owned(), inner)]))
    });
    let mut widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "default"}});
    widget["spec"] = json!({"free": deep});
    let path = "/apis/example.com/v1/namespaces/default/widgets/a";
    for query in ["fieldManager=a&force=true", "fieldManager=b&force=true"] {
        let wild = (
            Method::PATCH,
            path,
            query,
            "application/apply-patch+yaml",
            widget.to_string().into_bytes(),
        );
        assert!(runtime.block_on(ask(&server, wild)) < 300);
    }
    let endless = "[".repeat(100_000).into_bytes();
    for content_type in TYPES {
        let code = runtime.block_on(ask(
            &server,
            (
                Method::PATCH,
                path,
                "fieldManager=a",
                content_type,
                endless.clone(),
            ),
        ));
        assert!((400..600).contains(&code), "{code}");
    }
}
