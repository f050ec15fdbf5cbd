//! The CRDs and the fixtures on a real API server: every CRD is accepted without a warning, good manifests are stored,
//! bad ones are refused with the message that they expect.
//!
//! The CRDs are installed under groups of their own, so that no controller of a running platform acts on the fixtures.
//! `cargo verify` runs it; by hand: `OPENMCP_PLATFORM_KUBECONFIG=… cargo test --test api_server -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::{Request, params::ValidationDirective},
};
use openmcp_api::crds;
use serde_json::Value;
use support::{Fixture, fixtures};

/// What is appended to the groups.
const SUFFIX: &str = ".fixtures.openmcp.test";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs a real API server in OPENMCP_PLATFORM_KUBECONFIG; `cargo verify` runs it"]
async fn the_api_server_stores_the_good_manifests_and_refuses_the_bad_ones() {
    let client = client().await;
    let crds = copies();
    uninstall(&client, &crds).await;
    let mut faults = install(&client, &crds).await;
    for fixture in fixtures() {
        if let Err(fault) = try_out(&client, &crds, &fixture).await {
            faults.push(format!("{}: {fault}", fixture.name));
        }
    }
    uninstall(&client, &crds).await;
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

async fn client() -> Client {
    let path = std::env::var("OPENMCP_PLATFORM_KUBECONFIG")
        .expect("OPENMCP_PLATFORM_KUBECONFIG names no kubeconfig");
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The CRDs under groups that nobody else uses.
fn copies() -> Vec<CustomResourceDefinition> {
    let rename = |mut crd: CustomResourceDefinition| {
        crd.spec.group += SUFFIX;
        crd.spec.names.categories = None;
        crd.metadata.labels = None;
        crd.metadata.name = Some(format!("{}.{}", crd.spec.names.plural, crd.spec.group));
        crd
    };
    crds::all().into_iter().map(rename).collect()
}

/// Installs the CRDs, waits until their objects can be listed, and returns the warnings.
async fn install(client: &Client, crds: &[CustomResourceDefinition]) -> Vec<String> {
    let mut warnings = Vec::new();
    for crd in crds {
        let name = crd.metadata.name.as_deref().unwrap();
        let url = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let request = Request::new(url)
            .patch(name, &strictly(), &Patch::Apply(crd))
            .unwrap();
        let response = client.send(request.map(Body::from)).await.unwrap();
        assert!(response.status().is_success(), "{name}: {}", response.status());
        warnings.extend(
            response
                .headers()
                .get_all("warning")
                .iter()
                .map(|it| format!("{name}: {it:?}")),
        );
    }
    for crd in crds {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource(crd));
        eventually(async || objects.list(&ListParams::default().limit(1)).await.is_ok()).await;
    }
    warnings
}

async fn uninstall(client: &Client, crds: &[CustomResourceDefinition]) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds {
        // Fails where there is none: just as well.
        let _ = api
            .delete(crd.metadata.name.as_deref().unwrap(), &DeleteParams::default())
            .await;
    }
    for crd in crds {
        let name = crd.metadata.name.as_deref().unwrap();
        eventually(async || api.get_opt(name).await.is_ok_and(|it| it.is_none())).await;
    }
}

/// Applies a fixture's manifests and says how that differs from what it expects.
async fn try_out(
    client: &Client,
    crds: &[CustomResourceDefinition],
    fixture: &Fixture,
) -> Result<(), String> {
    let crd = crds
        .iter()
        .find(|it| it.spec.names.singular.as_deref() == Some(fixture.folder()))
        .unwrap();
    let api: Api<DynamicObject> = match crd.spec.scope.as_str() {
        "Namespaced" => Api::namespaced_with(client.clone(), "default", &resource(crd)),
        _ => Api::all_with(client.clone(), &resource(crd)),
    };
    let outcome = apply_all(&api, fixture).await;
    let name = fixture.manifests[0]["metadata"]["name"].as_str().unwrap();
    let _ = api.delete(name, &DeleteParams::default()).await;
    eventually(async || api.get_opt(name).await.is_ok_and(|it| it.is_none())).await;
    match (outcome, &fixture.expect) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(expect)) => Err(format!("stored, but should have been refused: {expect}")),
        (Err(fault), Some(expect)) if fault.is_last && fault.message.contains(expect) => Ok(()),
        (Err(fault), Some(expect)) => Err(format!("expected {expect:?}, but {}", fault.message)),
        (Err(fault), None) => Err(fault.message),
    }
}

struct Fault {
    message: String,
    is_last: bool,
}

async fn apply_all(api: &Api<DynamicObject>, fixture: &Fixture) -> Result<(), Fault> {
    for (index, manifest) in fixture.manifests.iter().enumerate() {
        let mut manifest = manifest.clone();
        let (group, version) = manifest["apiVersion"].as_str().unwrap().split_once('/').unwrap();
        manifest["apiVersion"] = Value::from(format!("{group}{SUFFIX}/{version}"));
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let has_status = manifest.get("status").is_some();
        let is_last_manifest = index + 1 == fixture.manifests.len();
        let fault = |is_last: bool| {
            move |error: kube::Error| Fault {
                message: error.to_string(),
                is_last,
            }
        };
        let patch = Patch::Apply(&manifest);
        api.patch(&name, &strictly(), &patch)
            .await
            .map_err(fault(is_last_manifest && !has_status))?;
        if has_status {
            api.patch_status(&name, &strictly(), &patch)
                .await
                .map_err(fault(is_last_manifest))?;
        }
    }
    Ok(())
}

fn strictly() -> PatchParams {
    let params = PatchParams::apply("openmcp-api-fixtures");
    PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..params
    }
}

fn resource(crd: &CustomResourceDefinition) -> ApiResource {
    let kind = GroupVersionKind::gvk(&crd.spec.group, &crd.spec.versions[0].name, &crd.spec.names.kind);
    ApiResource::from_gvk_with_plural(&kind, &crd.spec.names.plural)
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "did not happen within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
