//! The in-memory API server of the testkit against the real one: the same requests, the same answers.
//!
//! Answers are compared whole, with UIDs, resourceVersions and times replaced, and the watch events that follow.
//! Needs a platform; each test has a namespace of its own there.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{
    Api, Client,
    api::{DynamicObject, WatchEvent, WatchParams},
    client::Body,
    core::{ApiResource, GroupVersionKind},
};
use openmcp_e2e::Platform;
use openmcp_testkit::Server;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// One of the two servers, and what it said about objects so far.
struct Side {
    client: Client,
    namespace: String,
    /// The last metadata of each object, by path.
    seen: HashMap<String, Value>,
}

/// One request. `NS` in a path and body is the namespace; a value `$uid` or `$rv` is that of the object as last seen.
#[derive(Clone, Debug)]
struct Step {
    method: Method,
    path: String,
    query: String,
    content_type: &'static str,
    accept: &'static str,
    body: Value,
}

fn step(method: Method, path: &str, content_type: &'static str, body: Value) -> Step {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Step {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        content_type,
        accept: JSON,
        body,
    }
}

fn get(path: &str) -> Step {
    step(Method::GET, path, JSON, Value::Null)
}

impl Side {
    async fn send(&mut self, step: &Step) -> Result<(u16, Value)> {
        let key = match step.method {
            Method::POST => format!(
                "{}/{}",
                step.path,
                step.body["metadata"]["name"].as_str().unwrap_or("")
            ),
            _ => step.path.trim_end_matches("/status").to_owned(),
        };
        let body = self.fill(&step.body, &key);
        let uri = format!("{}?{}", step.path.replace("NS", &self.namespace), step.query);
        let request = Request::builder()
            .method(step.method.clone())
            .uri(uri)
            .header("content-type", step.content_type)
            .header("accept", step.accept)
            .header("user-agent", "differ/1");
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(&body)?
        };
        let answer = self.client.send(request.body(Body::from(bytes))?).await?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if body["metadata"]["uid"].is_string() {
            self.seen.insert(key, body["metadata"].clone());
        }
        Ok((status, body))
    }

    fn fill(&self, value: &Value, key: &str) -> Value {
        let seen = |field: &str| {
            let seen = self.seen.get(key);
            seen.map_or_else(
                || json!("00000000-0000-4000-8000-000000000000"),
                |seen| seen[field].clone(),
            )
        };
        match value {
            Value::String(text) if text == "$uid" => seen("uid"),
            Value::String(text) if text == "$rv" => seen("resourceVersion"),
            Value::String(text) if text == "NS" => json!(self.namespace),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.fill(value, key)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(|item| self.fill(item, key)).collect(),
            other => other.clone(),
        }
    }

    fn replaced(&self, fields: &serde_json::Map<String, Value>) -> Value {
        let known = |name: &str| {
            matches!(
                name,
                "uid"
                    | "resourceVersion"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "time"
                    | "lastTransitionTime"
                    | "continue"
            )
        };
        let replace = |(name, value): (&String, &Value)| {
            let value = if known(name) && value.is_string() {
                json!("<>")
            } else {
                self.normal(value)
            };
            (name.clone(), value)
        };
        Value::Object(fields.iter().map(replace).collect())
    }

    /// What differs between two servers without meaning anything: names, times, and the order of what has none.
    fn normal(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields = fields.clone();
                for list in ["managedFields", "causes"] {
                    if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                        sort(items);
                    }
                }
                self.replaced(&fields)
            }
            Value::Array(items) => items.iter().map(|item| self.normal(item)).collect(),
            Value::String(text) => {
                let mut text = text.replace(&self.namespace, "NS");
                for metadata in self.seen.values() {
                    text = text.replace(metadata["uid"].as_str().unwrap_or("-"), "<uid>");
                }
                // The real one lists managers in the order of a hash map.
                if text.starts_with("Apply failed with") {
                    let words = text.replacen(": ", ":\n", 1).replace("\n- ", "; ");
                    let mut lines: Vec<String> = words.lines().map(str::to_owned).collect();
                    lines[1..].sort();
                    return json!(lines);
                }
                json!(text)
            }
            other => other.clone(),
        }
    }
}

/// By everything but time; what is said twice is once.
fn sort(items: &mut Vec<Value>) {
    items.sort_by_key(|item| {
        let mut item = item.clone();
        if let Some(fields) = item.as_object_mut() {
            fields.remove("time");
        }
        item.to_string()
    });
    items.dedup();
}

/// Both servers, with a namespace and a custom kind.
struct Pair {
    real: Side,
    fake: Side,
    group: String,
    differences: Vec<String>,
}

impl Pair {
    async fn new(name: &str) -> Result<Self> {
        let real = Platform::from_env().await?.client;
        let fake = Client::new(Server::new(), "default");
        let suffix = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
        let mut pair = Self {
            real: Side {
                client: real,
                namespace: format!("diff-{name}-{suffix}"),
                seen: HashMap::new(),
            },
            fake: Side {
                client: fake,
                namespace: format!("diff-{name}-{suffix}"),
                seen: HashMap::new(),
            },
            group: format!("{name}{suffix}.example.com"),
            differences: Vec::new(),
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "NS"}});
        pair.both(&step(Method::POST, "/api/v1/namespaces", JSON, namespace))
            .await?;
        let crd = widgets(&pair.group);
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for side in [&mut pair.real, &mut pair.fake] {
            let (status, body) = side.send(&step(Method::POST, path, JSON, crd.clone())).await?;
            ensure!(status == 201, "{body}");
        }
        let start = Instant::now();
        // The definition is established, and every replica of the handler knows of it.
        while pair.real.send(&get(&pair.widget("none"))).await?.1["reason"] != "NotFound" {
            ensure!(start.elapsed() < PATIENCE, "the custom kind is not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(pair)
    }

    fn widget(&self, name: &str) -> String {
        format!("/apis/{}/v1/namespaces/NS/widgets/{name}", self.group)
    }

    /// The same request to both: the same answer.
    async fn both(&mut self, step: &Step) -> Result<(u16, Value)> {
        let real = self.real.send(step).await?;
        let fake = self.fake.send(step).await?;
        let (expected, found) = (self.real.normal(&real.1), self.fake.normal(&fake.1));
        let mut differences = Vec::new();
        differ("", &json!(real.0), &json!(fake.0), &mut differences);
        differ("", &expected, &found, &mut differences);
        if !differences.is_empty() {
            self.differences.push(format!(
                "{} {}?{} {}\n{}",
                step.method,
                step.path,
                step.query,
                step.body,
                differences.join("\n")
            ));
        }
        Ok(fake)
    }

    async fn gone(self) -> Result<()> {
        let crd = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{}",
            self.group
        );
        let mut real = self.real;
        real.send(&step(Method::DELETE, "/api/v1/namespaces/NS", JSON, Value::Null))
            .await?;
        real.send(&step(Method::DELETE, &crd, JSON, Value::Null)).await?;
        ensure!(self.differences.is_empty(), "{}", self.differences.join("\n\n"));
        Ok(())
    }
}

/// Where two answers differ.
fn differ(at: &str, real: &Value, fake: &Value, out: &mut Vec<String>) {
    match (real, fake) {
        (Value::Object(real), Value::Object(fake)) => {
            let names: std::collections::BTreeSet<&String> = real.keys().chain(fake.keys()).collect();
            for name in names {
                let (real, fake) = (real.get(name), fake.get(name));
                match (real, fake) {
                    (Some(real), Some(fake)) => differ(&format!("{at}.{name}"), real, fake, out),
                    _ => out.push(format!("  {at}.{name}: real {real:?}, fake {fake:?}")),
                }
            }
        }
        (Value::Array(real), Value::Array(fake)) if real.len() == fake.len() => {
            for (number, (real, fake)) in real.iter().zip(fake).enumerate() {
                differ(&format!("{at}[{number}]"), real, fake, out);
            }
        }
        (real, fake) if real != fake => out.push(format!("  {at}: real {real}, fake {fake}")),
        _ => {}
    }
}

fn widgets(group: &str) -> Value {
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 3},
        "text": text,
        "atoms": {"type": "array", "items": text},
        "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": text, "image": text, "note": text}},
        },
        "map": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec,
                    "status": {"type": "object", "properties": {"phase": text, "count": {"type": "integer"}}},
                }}},
            }],
        },
    })
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "NS"}, "data": data})
}

const MAPS: &str = "/api/v1/namespaces/NS/configmaps";

fn apply(path: &str, manager: &str, force: bool, body: Value) -> Step {
    step(
        Method::PATCH,
        &format!("{path}?fieldManager={manager}&force={force}"),
        APPLY,
        body,
    )
}

#[tokio::test]
async fn objects_are_made_changed_and_deleted_alike() -> Result<()> {
    let mut pair = Pair::new("crud").await?;
    let x = format!("{MAPS}/x");
    let delete = |body| step(Method::DELETE, &x, JSON, body);
    let steps = [
        get(&x),
        step(Method::POST, MAPS, JSON, config_map("x", json!({"a": "1"}))),
        step(Method::POST, MAPS, JSON, config_map("x", json!({"a": "1"}))),
        get(&x),
        Step {
            accept: METADATA,
            ..get(&x)
        },
        step(
            Method::PUT,
            &x,
            JSON,
            json!({"metadata": {"name": "x", "resourceVersion": "1"}, "data": {"a": "2"}}),
        ),
        step(
            Method::PUT,
            &x,
            JSON,
            json!({"metadata": {"name": "x", "uid": "$uid", "resourceVersion": "$rv"}, "data": {"a": "2"}}),
        ),
        step(Method::PUT, &x, JSON, json!({"metadata": {"name": "y"}})),
        step(
            Method::PATCH,
            &x,
            MERGE,
            json!({"data": {"a": null, "b": "1"}, "metadata": {"labels": {"l": "1"}}}),
        ),
        step(
            Method::PATCH,
            &x,
            MERGE,
            json!({"metadata": {"finalizers": ["example.com/hold"]}}),
        ),
        step(
            Method::PATCH,
            &x,
            JSON_PATCH,
            json!([{"op": "test", "path": "/data/b", "value": "1"}, {"op": "add", "path": "/data/c", "value": "1"}]),
        ),
        step(
            Method::PATCH,
            &x,
            MERGE,
            json!({"metadata": {"resourceVersion": "1"}}),
        ),
        delete(json!({"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}})),
        delete(json!({"preconditions": {"uid": "$uid"}, "propagationPolicy": "Background"})),
        delete(json!({"preconditions": {"uid": "$uid"}, "propagationPolicy": "Background"})),
        step(
            Method::PATCH,
            &x,
            MERGE,
            json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}),
        ),
        step(Method::POST, MAPS, JSON, config_map("x", json!({"a": "1"}))),
        step(
            Method::PATCH,
            &x,
            MERGE,
            json!({"metadata": {"finalizers": null}}),
        ),
        get(&x),
        delete(Value::Null),
        step(Method::POST, MAPS, JSON, config_map("x", json!({"a": "1"}))),
        delete(json!({"preconditions": {"uid": "$uid"}})),
        step(
            Method::POST,
            "/api/v1/namespaces/absent/configmaps",
            JSON,
            json!({"metadata": {"name": "x"}}),
        ),
        get("/apis/none.example.com/v1/namespaces/NS/widgets/x"),
        get("/api/v1/namespaces/NS/nothings/x"),
        get("/apis/none.example.com/v1"),
        get("/apis/none.example.com"),
    ];
    for step in &steps {
        pair.both(step).await?;
    }
    pair.gone().await
}

#[tokio::test]
async fn applies_own_conflict_and_prune_alike() -> Result<()> {
    let mut pair = Pair::new("apply").await?;
    let x = format!("{MAPS}/x");
    let map = |data| config_map("x", data);
    let with = |field: &str, value: &str, data| {
        let mut object = map(data);
        object["metadata"][field] = json!(value);
        object
    };
    let steps = [
        apply(&x, "a", true, with("uid", "$uid", json!({"k": "1"}))),
        apply(
            &x,
            "a",
            false,
            with("resourceVersion", "1", json!({"k": "1", "l": "1"})),
        ),
        apply(
            &x,
            "a",
            false,
            with("resourceVersion", "1", json!({"k": "1", "l": "1"})),
        ),
        apply(
            &x,
            "a",
            true,
            with("uid", "00000000-0000-4000-8000-00000000000f", json!({"k": "1"})),
        ),
        apply(&x, "a", true, with("uid", "$uid", json!({"k": "1", "l": "1"}))),
        apply(&x, "b", false, map(json!({"k": "2"}))),
        apply(&x, "b", false, map(json!({"k": "2", "l": "2"}))),
        apply(&x, "b", false, map(json!({"k": "1"}))),
        apply(&x, "b", true, map(json!({"k": "2"}))),
        apply(&x, "a", true, map(json!({}))),
        get(&x),
        step(
            Method::PATCH,
            &format!("{x}?fieldManager=edit"),
            MERGE,
            json!({"data": {"k": "3", "m": "3"}}),
        ),
        apply(&x, "a", true, map(json!({"k": "4"}))),
        apply(&x, "a", true, map(json!({"m": "4"}))),
        apply(&x, "a", true, with("namespace", "elsewhere", json!({}))),
        step(Method::PATCH, &x, APPLY, map(json!({}))),
    ];
    for step in &steps {
        pair.both(step).await?;
    }
    let w = pair.widget("w");
    let widget = |spec| json!({"apiVersion": format!("{}/v1", pair.group), "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let parts = |names: &[(&str, &str)]| -> Value {
        let part = |(name, image): &(&str, &str)| json!({"name": name, "image": image});
        names.iter().map(part).collect()
    };
    let status = format!("{w}/status");
    let steps = [
        apply(
            &w,
            "a",
            false,
            widget(
                json!({"text": "t", "parts": parts(&[("p", "1"), ("q", "1")]), "atoms": ["1", "2"], "map": {"a": "1"}}),
            ),
        ),
        apply(
            &w,
            "b",
            false,
            widget(json!({"parts": parts(&[("r", "1")]), "tags": ["x"], "whole": {"a": "1"}})),
        ),
        apply(
            &w,
            "b",
            false,
            widget(json!({"parts": parts(&[("p", "2"), ("r", "1")])})),
        ),
        apply(
            &w,
            "b",
            false,
            widget(json!({"tags": ["x", "y"], "atoms": ["1"]})),
        ),
        apply(&w, "a", false, widget(json!({"parts": parts(&[("q", "1")])}))),
        step(
            Method::PATCH,
            &w,
            MERGE,
            json!({"spec": {"size": 9, "bogus": 1, "free": {"deep": {"a": [1]}}}}),
        ),
        apply(
            &w,
            "c",
            true,
            widget(json!({"size": 10, "free": {"deep": {"a": [1, 2]}}, "tags": ["y", "z"]})),
        ),
        step(Method::PATCH, &w, MERGE, json!({"status": {"phase": "no"}})),
        step(
            Method::PATCH,
            &status,
            MERGE,
            json!({"status": {"phase": "ok"}, "spec": {"size": 4}, "metadata": {"labels": {"a": "b"}}}),
        ),
        apply(
            &status,
            "s",
            true,
            json!({"apiVersion": format!("{}/v1", pair.group), "kind": "Widget", "metadata": {"name": "w"}, "status": {"count": 1}}),
        ),
        apply(&w, "a", true, widget(json!({"map": {"b": "1"}}))),
        get(&w),
        step(
            Method::DELETE,
            &w,
            JSON,
            json!({"propagationPolicy": "Background"}),
        ),
    ];
    for step in &steps {
        pair.both(step).await?;
    }
    pair.gone().await
}

#[tokio::test]
async fn lists_pages_and_watches_show_the_same() -> Result<()> {
    let mut pair = Pair::new("watch").await?;
    let only = "labelSelector=show%3Dyes";
    let listed = pair.both(&get(&format!("{MAPS}?{only}"))).await?.1;
    let after = |side: &Side, rv: &Value| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
        let api: Api<DynamicObject> = Api::namespaced_with(side.client.clone(), &side.namespace, &resource);
        let version = rv["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        async move {
            let params = WatchParams::default().labels("show=yes").timeout(20);
            Ok::<_, kube::Error>(api.watch(&params, &version).await?.boxed())
        }
    };
    let real = pair.real.send(&get(&format!("{MAPS}?{only}"))).await?.1;
    let (mut real, mut fake) = (after(&pair.real, &real).await?, after(&pair.fake, &listed).await?);
    for name in ["a", "b", "c", "d", "e"] {
        let mut map = config_map(name, json!({"n": name}));
        map["metadata"]["labels"] = json!({"show": if name == "b" { "no" } else { "yes" }});
        pair.both(&step(Method::POST, MAPS, JSON, map)).await?;
    }
    for query in [
        "limit=2",
        only,
        "fieldSelector=metadata.name%3Dc",
        "labelSelector=show%20in%20(no)",
    ] {
        let first = format!("{MAPS}?{query}");
        let skip_root_ca = if query == "limit=2" {
            format!("{first}&labelSelector=show")
        } else {
            first
        };
        pair.both(&get(&skip_root_ca)).await?;
    }
    let patch = |name: &str, body| step(Method::PATCH, &format!("{MAPS}/{name}"), MERGE, body);
    let steps = [
        patch("a", json!({"data": {"n": "2"}})),
        patch("a", json!({"metadata": {"labels": {"show": "no"}}})),
        patch("b", json!({"metadata": {"labels": {"show": "yes"}}})),
        patch("c", json!({"metadata": {"finalizers": ["example.com/hold"]}})),
        step(Method::DELETE, &format!("{MAPS}/c"), JSON, Value::Null),
        patch("c", json!({"metadata": {"finalizers": []}})),
        step(Method::DELETE, &format!("{MAPS}/d"), JSON, Value::Null),
        patch("e", json!({"data": {"n": "e"}})),
        patch("e", json!({"data": {"n": "last"}})),
    ];
    for step in &steps {
        pair.both(step).await?;
    }
    let told = |event: WatchEvent<DynamicObject>| match event {
        WatchEvent::Added(object) => json!(["ADDED", object]),
        WatchEvent::Modified(object) => json!(["MODIFIED", object]),
        WatchEvent::Deleted(object) => json!(["DELETED", object]),
        other => panic!("{other:?}"),
    };
    for number in 0..11 {
        let expected = tokio::time::timeout(PATIENCE, real.next())
            .await?
            .context("real ended")??;
        let found = tokio::time::timeout(PATIENCE, fake.next())
            .await?
            .context("fake ended")??;
        let (expected, found) = (pair.real.normal(&told(expected)), pair.fake.normal(&told(found)));
        ensure!(
            expected == found,
            "event {number}\nreal: {expected:#}\nfake: {found:#}"
        );
    }
    pair.gone().await
}

/// A random object of few fields, so that writers meet.
fn random_spec(random: &mut StdRng) -> Value {
    let mut spec = json!({});
    let value = |random: &mut StdRng| json!(["1", "2", "3"].choose(random).unwrap());
    if random.random_bool(0.4) {
        spec["text"] = value(random);
    }
    if random.random_bool(0.3) {
        spec["size"] = json!(random.random_range(1..4));
    }
    for (list, names) in [("atoms", ["x", "y"]), ("tags", ["x", "y"])] {
        if random.random_bool(0.3) {
            let count = random.random_range(1..3);
            spec[list] = names[..count].to_vec().into();
        }
    }
    for map in ["map", "whole"] {
        if random.random_bool(0.4) {
            spec[map] = json!({["a", "b"].choose(random).unwrap().to_string(): value(random)});
        }
    }
    if random.random_bool(0.5) {
        let mut parts = Vec::new();
        for name in ["p", "q", "r"] {
            if random.random_bool(0.5) {
                let mut part = json!({"name": name});
                if random.random_bool(0.7) {
                    part["image"] = value(random);
                }
                parts.push(part);
            }
        }
        spec["parts"] = parts.into();
    }
    spec
}

fn random_step(pair: &Pair, random: &mut StdRng) -> Step {
    let name = *["x", "y"].choose(random).unwrap();
    let path = pair.widget(name);
    let manager = *["a", "b", "c"].choose(random).unwrap();
    let mut object = json!({"apiVersion": format!("{}/v1", pair.group), "kind": "Widget", "metadata": {"name": name}, "spec": random_spec(random)});
    if random.random_bool(0.2) {
        object["metadata"]["labels"] = json!({"l": manager});
    }
    match random.random_range(0..20) {
        0..=7 => {
            if random.random_bool(0.2) {
                object["metadata"]["uid"] = json!("$uid");
            }
            apply(&path, manager, random.random_bool(0.6), object)
        }
        8..=10 => step(
            Method::PATCH,
            &format!("{path}?fieldManager={manager}"),
            MERGE,
            json!({"spec": random_spec(random)}),
        ),
        11 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"spec": {"parts": null, "text": null, "map": null}}),
        ),
        12..=13 => {
            object["metadata"]["resourceVersion"] = json!(["$rv", "1"].choose(random).unwrap());
            step(
                Method::PUT,
                &format!("{path}?fieldManager={manager}"),
                JSON,
                object,
            )
        }
        14 => step(
            Method::PATCH,
            &format!("{path}/status?fieldManager={manager}"),
            MERGE,
            json!({"status": {"phase": manager}}),
        ),
        15 => step(
            Method::POST,
            path.trim_end_matches(&format!("/{name}")),
            JSON,
            object,
        ),
        16 => step(
            Method::DELETE,
            &path,
            JSON,
            json!({"preconditions": {"uid": "$uid"}}),
        ),
        17 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"metadata": {"finalizers": [format!("example.com/{manager}")]}}),
        ),
        18 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"metadata": {"finalizers": null}}),
        ),
        _ => get(&path),
    }
}

#[tokio::test]
async fn random_requests_are_answered_alike() -> Result<()> {
    let seed = match std::env::var("OPENMCP_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => rand::random(),
    };
    println!("OPENMCP_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new("random").await?;
    for number in 0..400 {
        let step = random_step(&pair, &mut random);
        pair.both(&step)
            .await
            .with_context(|| format!("OPENMCP_SEED={seed}, request {number}"))?;
    }
    pair.gone().await
}
