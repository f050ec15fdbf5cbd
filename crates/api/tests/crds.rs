//! The generated CRDs: up to date in `crds/`, and within the rules that keep API servers from warning about them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/crds/files.rs"]
#[allow(dead_code)]
mod files;

use std::path::Path;

use openmcp_api::crds::{self, InstalledOn};
use serde_json::Value;

/// Formats that API servers know; any other makes them warn.
const FORMATS: [&str; 5] = ["int32", "int64", "float", "double", "date-time"];

fn schemas() -> impl Iterator<Item = (String, Value)> {
    crds::all().into_iter().map(|crd| {
        let name = crd.metadata.name.clone().unwrap();
        (
            name,
            serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].take(),
        )
    })
}

fn walk(path: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(it) => it
            .iter()
            .for_each(|(key, value)| walk(&format!("{path}.{key}"), value, visit)),
        Value::Array(it) => it
            .iter()
            .for_each(|value| walk(&format!("{path}[]"), value, visit)),
        _ => {}
    }
}

#[test]
fn the_files_in_crds_are_what_the_types_say() {
    files::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds"))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_schema_accepts_null_or_has_a_format_that_api_servers_do_not_know() {
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut |path, value| {
            assert!(!path.ends_with(".nullable"), "{path}");
            assert!(!path.contains(".enum[") || !value.is_null(), "{path}");
            if path.ends_with(".format") {
                assert!(FORMATS.contains(&value.as_str().unwrap()), "{path}: {value}");
            }
        });
    }
}

#[test]
fn every_crd_says_where_it_is_installed() {
    let count = |cluster| crds::installed_on(cluster).len();
    assert_eq!(
        count(InstalledOn::Platform) + count(InstalledOn::Onboarding),
        crds::all().len()
    );
    let onboarding = crds::installed_on(InstalledOn::Onboarding);
    let names: Vec<_> = onboarding
        .iter()
        .map(|it| it.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["controlplanes.core.open-control-plane.io"]);
}

#[test]
fn the_inventory_is_written_in_one_request() {
    let crd = crds::definition::<openmcp_api::Inventory>();
    let version = &crd.spec.versions[0];
    assert!(
        version.subresources.as_ref().is_none_or(|it| it.status.is_none()),
        "a status takes a second write"
    );
    let schema = version
        .schema
        .as_ref()
        .unwrap()
        .open_api_v3_schema
        .as_ref()
        .unwrap();
    let entries = &schema.properties.as_ref().unwrap()["spec"]
        .properties
        .as_ref()
        .unwrap()["entries"];
    assert_eq!(
        entries.max_items,
        Some(i64::try_from(openmcp_api::inventory::MAX_ENTRIES).unwrap())
    );
}
