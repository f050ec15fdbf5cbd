//! What is listed and watched.
use crate::{
    pair::{PATIENCE, Pair, Side},
    step::{JSON, MAPS, MERGE, config_map, get, step},
};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use http::Method;
use kube::{
    Api,
    api::{DynamicObject, WatchEvent, WatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

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
