//! kro on a simulated platform.
#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use kube::CustomResourceExt;
use openmcp_testkit::{Scenario, Simulation};

const GROUP: &str = "kro.services.open-control-plane.io/v1alpha1";

/// What a release of kro brings, in small.
fn bundle() -> Value {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "resourcegraphdefinitions.kro.run"},
        "spec": {
            "group": "kro.run", "scope": "Cluster",
            "names": {"kind": "ResourceGraphDefinition", "plural": "resourcegraphdefinitions"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kro-v1", "namespace": "openmcp-system"},
        "data": {"crds.yaml": definition.to_string()},
    })
}

#[test]
fn a_crash_at_any_effect_of_giving_repairing_and_taking_kro_changes_nothing() {
    let config = json!({
        "apiVersion": GROUP, "kind": "ProviderConfig", "metadata": {"name": "kro"},
        "spec": {"versions": [{"version": "v1", "image": "kro:v1", "bundle": {"name": "kro-v1"}}]},
    });
    let kro = json!({
        "apiVersion": GROUP, "kind": "Kro",
        "metadata": {"name": "one", "namespace": "team"}, "spec": {"version": "v1"},
    });
    let simulation = Simulation::new("kro", || KroProvider)
        .on_platform(config)
        .on_platform(bundle())
        .control_plane("team", "one");
    let life = Scenario::new("life of kro")
        .apply("onboarding", kro.clone())
        .drift()
        .delete("onboarding", &kro);
    if let Err(failure) = simulation.crash_everywhere(&life) {
        panic!("{failure}");
    }
}

#[test]
fn a_configuration_of_a_go_provider_with_a_poll_interval_is_accepted() {
    let definition = serde_json::to_value(ProviderConfig::crd()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let interval = &schema["properties"]["spec"]["properties"]["pollInterval"];
    assert_eq!(interval["type"], "string", "{schema}");
}
