//! What can be said of the fixtures without an API server: the types read and write them without loss, and no rule of a
//! CRD is without a manifest that breaks it. `tests/api_server.rs` applies them to a real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeSet;

use kube::{Resource, core::DeserializeGuard};
use openmcp_api::{
    AccessRequest, Cluster, ClusterProfile, ClusterProvider, ClusterRequest, ControlPlane, Inventory,
    PlatformService, ServiceProvider, crds,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use support::fixtures;

fn round_trip<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned>(
    name: &str,
    manifest: &Value,
) -> Value {
    assert_eq!(manifest["kind"], *K::kind(&()), "{name}");
    assert_eq!(manifest["apiVersion"], *K::api_version(&()), "{name}");
    let object: DeserializeGuard<K> = serde_json::from_value(manifest.clone()).unwrap();
    let object = object.0.unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::to_value(object).unwrap()
}

fn round_trip_of(folder: &str, name: &str, manifest: &Value) -> Value {
    match folder {
        "serviceprovider" => round_trip::<ServiceProvider>(name, manifest),
        "clusterprovider" => round_trip::<ClusterProvider>(name, manifest),
        "platformservice" => round_trip::<PlatformService>(name, manifest),
        "cluster" => round_trip::<Cluster>(name, manifest),
        "clusterrequest" => round_trip::<ClusterRequest>(name, manifest),
        "accessrequest" => round_trip::<AccessRequest>(name, manifest),
        "clusterprofile" => round_trip::<ClusterProfile>(name, manifest),
        "controlplane" => round_trip::<ControlPlane>(name, manifest),
        "inventory" => round_trip::<Inventory>(name, manifest),
        other => panic!("{name}: no kind is called {other}"),
    }
}

/// Every leaf of `value` with its path. An empty list or object is as good as none.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(it) => it
            .iter()
            .for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, found)),
        Value::Array(it) => it
            .iter()
            .enumerate()
            .for_each(|(n, value)| leaves(&format!("{path}[{n}]"), value, found)),
        leaf => {
            found.insert(format!("{path} = {leaf}"));
        }
    }
}

fn leaves_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    leaves("", value, &mut found);
    found
}

#[test]
fn what_is_read_is_written_again_and_nothing_else_than_defaults() {
    const DEFAULTS: [&str; 4] = [
        ".spec.verbosity = \"INFO\"",
        ".spec.runReplicas = 1",
        ".groupsClaim = \"groups\"",
        ".usernameClaim = \"sub\"",
    ];
    for fixture in fixtures().iter().filter(|it| it.expect.is_none()) {
        for manifest in &fixture.manifests {
            let (read, written) = (
                leaves_of(manifest),
                leaves_of(&round_trip_of(fixture.folder(), &fixture.name, manifest)),
            );
            let lost: Vec<_> = read.difference(&written).collect();
            assert!(lost.is_empty(), "{}: lost {lost:#?}", fixture.name);
            let mut added = written
                .difference(&read)
                .filter(|it| !DEFAULTS.iter().any(|default| it.ends_with(default)));
            assert_eq!(added.next(), None, "{}", fixture.name);
        }
    }
}

#[test]
fn every_kind_has_manifests_that_are_stored_and_manifests_that_are_refused() {
    let fixtures = fixtures();
    for crd in crds::all() {
        let folder = crd.spec.names.singular.unwrap();
        let of_kind = || fixtures.iter().filter(|it| it.folder() == folder);
        assert!(
            of_kind().any(|it| it.expect.is_none()),
            "{folder}: no good manifest"
        );
        assert!(
            of_kind().any(|it| it.expect.is_some()),
            "{folder}: no bad manifest"
        );
    }
}

#[test]
fn every_rule_has_a_manifest_that_breaks_it() {
    let fixtures = fixtures();
    for crd in crds::all() {
        let folder = crd.spec.names.singular.clone().unwrap();
        for message in messages(&serde_json::to_value(&crd).unwrap()) {
            let breaks = |expect: &String| message.starts_with(expect.as_str());
            assert!(
                fixtures
                    .iter()
                    .any(|it| it.folder() == folder && it.expect.as_ref().is_some_and(breaks)),
                "{folder}: no bad manifest expects {message:?}"
            );
        }
    }
}

/// The messages of all CEL rules in a CRD.
fn messages(value: &Value) -> Vec<String> {
    match value {
        Value::Object(it) => it
            .iter()
            .flat_map(
                |(key, value)| match value.as_array().filter(|_| key == "x-kubernetes-validations") {
                    Some(rules) => rules
                        .iter()
                        .map(|rule| rule["message"].as_str().unwrap().to_owned())
                        .collect(),
                    None => messages(value),
                },
            )
            .collect(),
        Value::Array(it) => it.iter().flat_map(messages).collect(),
        _ => Vec::new(),
    }
}
