//! Clusters of the hosted cluster provider: what was claimed for one goes with it.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use openmcp_e2e::{
    Platform,
    kinds::{self, api},
    people, wait,
};
use serde_json::json;
use std::time::{Duration, Instant};

/// The Cluster, and one that no provider serves: it shows when the policy is in force.
const CUT: &str = "e2e-cut";
const PROBE: &str = "e2e-cut-probe";
/// What the provider writes on the Lease of an address.
const CLAIMED_FOR: &str = "hosted.clusters.openmcp.cloud/cluster-uid";

/// Its status cannot be written: the address is claimed and never recorded, as by a crash between the two.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_claimed_and_not_recorded_is_given_back() -> Result<()> {
    let platform = Platform::from_env().await?;
    let clusters = api(&platform.client, &kinds::cluster(), people::SYSTEM);
    forbid_status(&platform).await?;
    let cluster = people::apply(&platform.client, &kinds::cluster(), cluster(CUT, "hosted")).await?;
    let uid = cluster["metadata"]["uid"].as_str().unwrap_or_default();
    let leases = api(&platform.client, &kinds::lease(), people::SYSTEM);
    let of_cluster = ListParams::default().labels(&format!("{CLAIMED_FOR}={uid}"));
    let patience = Instant::now() + wait::PATIENCE;
    while leases.list(&of_cluster).await?.items.is_empty() {
        ensure!(Instant::now() < patience, "no address is claimed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    clusters.delete(CUT, &DeleteParams::default()).await?;
    wait::gone(&clusters, CUT).await?;
    let left = leases.list(&of_cluster).await?.items;
    ensure!(left.is_empty(), "left behind: {left:?}");
    for kind in [kinds::admission_binding(), kinds::admission_policy()] {
        api(&platform.client, &kind, "")
            .delete(CUT, &DeleteParams::default())
            .await?;
    }
    Ok(())
}

fn cluster(name: &str, profile: &str) -> serde_json::Value {
    json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name, "namespace": people::SYSTEM},
        "spec": {"profile": profile, "purposes": ["e2e"], "tenancy": "Exclusive"},
    })
}

/// A policy against every status of the Cluster. It is in force when this returns.
async fn forbid_status(platform: &Platform) -> Result<()> {
    let group = "admissionregistration.k8s.io/v1";
    let rule = json!({
        "apiGroups": ["clusters.openmcp.cloud"], "apiVersions": ["v1alpha1"], "operations": ["UPDATE"],
        "resources": ["clusters/status"], "resourceNames": [CUT, PROBE],
    });
    let policy = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": CUT},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "cut off"}],
        },
    });
    let binding = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": CUT},
        "spec": {"policyName": CUT, "validationActions": ["Deny"]},
    });
    people::apply(&platform.client, &kinds::admission_policy(), policy).await?;
    people::apply(&platform.client, &kinds::admission_binding(), binding).await?;
    people::apply(&platform.client, &kinds::cluster(), cluster(PROBE, "nobody")).await?;
    let clusters = api(&platform.client, &kinds::cluster(), people::SYSTEM);
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let status = Patch::Merge(json!({"status": {"phase": "Unknown", "observedGeneration": 1}}));
    let patience = Instant::now() + wait::PATIENCE;
    while clusters.patch_status(PROBE, &dry_run, &status).await.is_ok() {
        ensure!(Instant::now() < patience, "the policy denies nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    clusters.delete(PROBE, &DeleteParams::default()).await?;
    Ok(())
}
