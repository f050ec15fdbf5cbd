//! Our CRDs against those that the Go API module publishes: the same structure, but for the differences that are listed
//! here with their reasons.
//!
//! Needs Go, which fetches the module; nothing of it is kept here. `cargo verify` runs it; by hand:
//! `cargo test --test published_api -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::{collections::BTreeMap, path::PathBuf, process::Command};

use openmcp_api::crds;
use serde_json::Value;

const MODULE: &str = "github.com/openmcp-project/openmcp-operator/api@v1.3.0";

/// Differences on purpose: the CRD (`*` for all), what the path contains, and why.
const DELIBERATE: &[(&str, &str, &str)] = &[
    (
        "*",
        "/metadata/annotations/controller-gen.kubebuilder.io/version",
        "names a generator that we do not use",
    ),
    (
        "*",
        "/spec/names/categories",
        "`kubectl get openmcp` lists every object of the platform",
    ),
    (
        "*",
        "/openAPIV3Schema/required",
        "an object without a spec is refused, instead of being stored and never served",
    ),
    (
        "*",
        "/openAPIV3Schema/properties/apiVersion/type",
        "the API server adds it",
    ),
    (
        "*",
        "/openAPIV3Schema/properties/kind/type",
        "the API server adds it",
    ),
    (
        "*",
        "/openAPIV3Schema/properties/metadata/type",
        "the API server adds it",
    ),
    ("*", "/divisor/anyOf", "x-kubernetes-int-or-string says the same"),
    (
        "*",
        "/sizeLimit/anyOf",
        "x-kubernetes-int-or-string says the same",
    ),
    (
        "*",
        "/resources/properties/limits/additionalProperties/anyOf",
        "x-kubernetes-int-or-string says the same",
    ),
    (
        "*",
        "/resources/properties/requests/additionalProperties/anyOf",
        "x-kubernetes-int-or-string says the same",
    ),
    (
        "clusterprofiles.clusters.openmcp.cloud",
        "/subresources",
        "empty there, absent here: none either way",
    ),
];

/// Kinds of ours that the Go implementation does not have.
const OURS_ALONE: [&str; 1] = ["inventories.runtime.openmcp.cloud"];

#[test]
#[ignore = "needs Go and the Go module cache or proxy; `cargo verify` runs it"]
fn our_crds_have_the_structure_of_the_published_ones() {
    let manifests = module_folder().join("crds/manifests");
    let mut used = vec![false; DELIBERATE.len()];
    let mut differences = Vec::new();
    for crd in crds::all() {
        let name = crd.metadata.name.clone().unwrap();
        if OURS_ALONE.contains(&name.as_str()) {
            continue;
        }
        let file = manifests.join(format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let theirs = facts(&serde_yaml::from_str(&text).unwrap());
        let ours = facts(&serde_json::to_value(&crd).unwrap());
        for (path, theirs, ours) in compare(&theirs, &ours) {
            match DELIBERATE
                .iter()
                .position(|(of, part, _)| (*of == "*" || *of == name) && path.contains(part))
            {
                Some(index) => used[index] = true,
                None => differences.push(format!("{name}: {path}: published {theirs}, ours {ours}")),
            }
        }
    }
    let unused = DELIBERATE.iter().zip(used).filter(|(_, used)| !used);
    differences
        .extend(unused.map(|((of, part, _), _)| format!("listed as deliberate, but not there: {of} {part}")));
    assert!(
        differences.is_empty(),
        "{} differences:\n  {}",
        differences.len(),
        differences.join("\n  ")
    );
}

fn module_folder() -> PathBuf {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(std::env::temp_dir())
        .output()
        .expect("Go is needed to fetch the published API: install it or put it on the PATH");
    assert!(
        output.status.success(),
        "go mod download {MODULE}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    PathBuf::from(answer["Dir"].as_str().unwrap())
}

/// A CRD as flat facts: path → value. Descriptions are no facts; lists whose order means nothing are sorted.
fn facts(crd: &Value) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    collect("", crd, &mut facts);
    facts
}

fn collect(path: &str, value: &Value, facts: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let is_text = key == "description" && value.is_string();
                if !is_text {
                    collect(&format!("{path}/{key}"), value, facts);
                }
            }
            if members.is_empty() {
                facts.insert(path.to_owned(), "{}".into());
            }
        }
        Value::Array(items) if items.iter().all(|it| !it.is_object()) => {
            let mut items: Vec<String> = items.iter().map(Value::to_string).collect();
            items.sort();
            facts.insert(path.to_owned(), items.join(" "));
        }
        Value::Array(items) => {
            let name = |it: &Value| {
                ["rule", "name", "jsonPath"]
                    .iter()
                    .find_map(|key| it[key].as_str().map(str::to_owned))
            };
            for (index, item) in items.iter().enumerate() {
                let name = name(item).unwrap_or_else(|| index.to_string());
                collect(&format!("{path}[{name}]"), item, facts);
            }
        }
        Value::Number(number) => {
            facts.insert(path.to_owned(), number.as_f64().unwrap().to_string());
        }
        scalar => {
            facts.insert(path.to_owned(), scalar.to_string());
        }
    }
}

fn compare<'a>(
    theirs: &'a BTreeMap<String, String>,
    ours: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let value =
        |facts: &'a BTreeMap<String, String>, path: &str| facts.get(path).map_or("absent", String::as_str);
    let paths: std::collections::BTreeSet<&'a String> = theirs.keys().chain(ours.keys()).collect();
    paths
        .into_iter()
        .map(move |path| (path.as_str(), value(theirs, path), value(ours, path)))
        .filter(|(_, theirs, ours)| theirs != ours)
}
