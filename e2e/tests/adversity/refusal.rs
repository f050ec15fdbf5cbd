//! An API server says no for a while: by a policy, by a quota.
use super::Stage;
use anyhow::{Context, Result, ensure};
use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams},
};
use openmcp_e2e::{
    Service,
    kinds::{self, api},
    people,
    service::{ROLE, uid},
    wait,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const POLICY: &str = "e2e-no-repairs";
const PROBE: &str = "e2e.test/probe";
const EDITS: usize = 30;

pub(super) async fn a_repair_that_a_policy_denies_is_said_tried_rarely_and_made_when_the_policy_goes(
    stage: &Stage,
) -> Result<()> {
    let one = &stage.one;
    let before = one.role().await?;
    forbid_repairs(one).await?;
    let denials = denials(&one.mcp).await?;
    one.edit_role("meddler", json!({"rules": []})).await?;
    let said = one.unready(&["ValidatingAdmissionPolicy"]).await?;
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(
        said["reason"] == "AdmissionDenied"
            && message.contains(ROLE)
            && message.contains("nobody repairs today"),
        "{said}"
    );
    // Each of these is an event about a child that differs.
    for nth in 0..EDITS {
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": [format!("verb-{nth}")]});
        one.edit_role("meddler", json!({"rules": [rule]})).await?;
    }
    let tries = self::denials(&one.mcp).await? - denials;
    println!("       {EDITS} edits, {tries} tries");
    ensure!((1.0..=10.0).contains(&tries), "{tries} tries");
    let still = one.kros().get(&one.name).await?;
    let still = wait::find(&still.data, "Ready").cloned().unwrap_or_default();
    ensure!(still["reason"] == "AdmissionDenied", "{still}");

    for kind in [kinds::admission_binding(), kinds::admission_policy()] {
        api(&one.mcp, &kind, "")
            .delete(POLICY, &DeleteParams::default())
            .await?;
    }
    let repaired = |live: &Value| live["rules"] == before["rules"] && uid(live) == uid(&before);
    wait::until(&one.roles(), ROLE, "repaired", |live| live.is_some_and(repaired)).await?;
    one.ready().await
}

/// A policy against whatever the provider writes to the role. It is in force when this returns.
async fn forbid_repairs(one: &Service) -> Result<()> {
    let provider = format!(
        "system:serviceaccount:{}:{}",
        people::SYSTEM,
        one.provider_account().await?
    );
    let group = "admissionregistration.k8s.io/v1";
    let allowed = format!(
        "request.userInfo.username != '{provider}' \
         && !(has(object.metadata.annotations) && '{PROBE}' in object.metadata.annotations)"
    );
    let rule = json!({
        "apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["clusterroles"], "resourceNames": [ROLE],
    });
    let policy = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": allowed, "message": "nobody repairs today"}],
        },
    });
    let binding = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    });
    people::apply(&one.mcp, &kinds::admission_policy(), policy).await?;
    people::apply(&one.mcp, &kinds::admission_binding(), binding).await?;
    let probe = Patch::Merge(json!({"metadata": {"annotations": {PROBE: "x"}}}));
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patience = Instant::now() + wait::PATIENCE;
    while one.roles().patch(ROLE, &dry_run, &probe).await.is_ok() {
        ensure!(Instant::now() < patience, "the policy denies nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// How often the policy has denied something, as the API server counts.
async fn denials(mcp: &Client) -> Result<f64> {
    let metrics = mcp
        .request_text(http::Request::get("/metrics").body(Vec::new())?)
        .await?;
    let counts = metrics.lines().filter(|line| {
        line.starts_with("apiserver_validating_admission_policy_check_total{")
            && line.contains(&format!("policy=\"{POLICY}\""))
            && line.contains("enforcement_action=\"deny\"")
    });
    let counts: Vec<f64> = counts
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    ensure!(!counts.is_empty(), "the API server does not count denials");
    Ok(counts.into_iter().sum())
}

pub(super) async fn a_quota_that_forbids_the_workload_is_said_and_ends_with_it(stage: &Stage) -> Result<()> {
    let one = &stage.one;
    let inventory = one.inventory().await?;
    let mut entries = inventory["spec"]["entries"].as_array().into_iter().flatten();
    let entry = entries
        .find(|entry| entry["kind"] == "Deployment")
        .context("no Deployment")?;
    let namespace = entry["namespace"].as_str().unwrap_or_default();
    let quotas = api(&one.platform.client, &kinds::resource_quota(), namespace);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    });
    people::apply(&one.platform.client, &kinds::resource_quota(), quota).await?;
    wait::until(&quotas, "none", "counted", |live| {
        live.is_some_and(|live| live["status"]["used"]["count/deployments.apps"].is_string())
    })
    .await?;
    let (deployments, name) = one.place(entry).await?;
    deployments.delete(&name, &DeleteParams::default()).await?;
    one.unready(&["exceeded quota: none", &name]).await?;
    quotas.delete("none", &DeleteParams::default()).await?;
    one.ready().await
}
