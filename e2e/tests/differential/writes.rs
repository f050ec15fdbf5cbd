//! What is made, changed, applied and deleted.
use crate::{
    pair::Pair,
    step::{APPLY, JSON, JSON_PATCH, MAPS, MERGE, METADATA, Step, apply, config_map, get, step},
};
use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

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
