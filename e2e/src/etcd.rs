//! What is in the etcd of the hosted control planes, seen without the cluster provider.
use crate::{
    Platform,
    kinds::{self, api},
    people::{SYSTEM, client},
};
use anyhow::{Context, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The cluster provider's access to it.
const ACCESS: &str = "hosted-etcd";
const ROOT: &str = "/hosted/";

/// The keys of each hosted control plane, by the UID of its Cluster.
pub async fn keys(platform: &Platform) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let access = api(&platform.client, &kinds::secret(), SYSTEM)
        .get(ACCESS)
        .await?;
    let access: Secret = serde_json::from_value(serde_json::to_value(access)?)?;
    let access = access.data.unwrap_or_default();
    let endpoints = access.get("endpoints").context("no endpoints")?;
    let first = std::str::from_utf8(&endpoints.0)?.split(',').next();
    // An HTTPS client with a certificate, as kubectl is one.
    let kubeconfig = json!({
        "current-context": "etcd", "contexts": [{"name": "etcd", "context": {"cluster": "etcd", "user": "etcd"}}],
        "clusters": [{"name": "etcd", "cluster": {
            "server": first, "certificate-authority-data": access.get("ca.crt"),
        }}],
        "users": [{"name": "etcd", "user": {
            "client-certificate-data": access.get("tls.crt"), "client-key-data": access.get("tls.key"),
        }}],
    });
    let range = json!({"key": base64(ROOT), "range_end": base64("/hosted0"), "keys_only": true});
    let request = http::Request::post("/v3/kv/range").body(range.to_string().into_bytes())?;
    let answer: Value = client(kubeconfig.to_string().as_bytes())
        .await?
        .request(request)
        .await?;
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for item in answer["kvs"].as_array().into_iter().flatten() {
        let key: ByteString = serde_json::from_value(item["key"].clone())?;
        let key = String::from_utf8(key.0)?;
        let (cluster, rest) = key[ROOT.len()..].split_once('/').unwrap_or((&key, ""));
        found
            .entry(cluster.to_owned())
            .or_default()
            .insert(rest.to_owned());
    }
    Ok(found)
}

fn base64(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
