#![allow(clippy::unwrap_used)]
use super::{
    desired::Installation,
    state::{Init, Run, init, rest, run},
};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use openmcp_api::{ClusterProvider, ServiceProvider, names::Component, provider::Provider};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn fixture<P: serde::de::DeserializeOwned>(name: &str) -> P {
    serde_yaml::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// Compares with a golden file; `UPDATE_GOLDEN=1 cargo test -p openmcp-operator` writes it.
fn golden(name: &str, objects: &[Value]) {
    let text = objects
        .iter()
        .map(|o| serde_yaml::to_string(o).unwrap())
        .collect::<Vec<_>>()
        .join("---\n");
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(&path).unwrap(),
        "{} differs",
        path.display()
    );
}

fn everything<P: Provider>(provider: &P, webhook: bool) -> Vec<Value> {
    let of = Installation::new(provider, "openmcp-system", "dev");
    let mut all = vec![
        of.service_account(Component::Init),
        of.cluster_role_binding(Component::Init, "cluster-admin"),
        of.init_role(),
        of.init_role_binding(),
        of.job(),
        of.service_account(Component::Run),
        of.cluster_role_binding(Component::Run, "openmcp.cloud:sp-kro"),
        of.deployment(webhook),
    ];
    all.extend(of.metrics_service());
    all
}

#[test]
fn a_plain_provider_is_installed_as_the_contract_says() {
    let provider: ServiceProvider = fixture("fixtures/provider-plain.yaml");
    golden("golden/provider-plain.yaml", &everything(&provider, false));
}

#[test]
fn a_provider_with_everything_is_installed_as_the_contract_says() {
    let provider: ClusterProvider = fixture("fixtures/provider-full.yaml");
    golden("golden/provider-full.yaml", &everything(&provider, true));
}

#[test]
fn disabled_metrics_leave_no_service_no_port_and_no_flag() {
    let mut provider: ServiceProvider = fixture("fixtures/provider-plain.yaml");
    provider.spec.deployment.metrics = serde_json::from_value(json!({"disabled": true})).unwrap();
    let of = Installation::new(&provider, "n", "dev");
    assert!(of.metrics_service().is_none());
    let text = of.deployment(false).to_string();
    assert!(
        !text.contains("metrics") && !text.contains("prometheus"),
        "{text}"
    );
}

#[test]
fn env_names_that_the_operator_sets_or_that_occur_twice_are_found() {
    let mut provider: ServiceProvider = fixture("fixtures/provider-plain.yaml");
    let env = json!([{"name": "POD_IP", "value": "1"}, {"name": "A"}, {"name": "A"}, {"name": "B"}]);
    provider.spec.deployment.env = serde_json::from_value(env).unwrap();
    let of = Installation::new(&provider, "n", "dev");
    assert_eq!(of.clashing_env().into_iter().collect::<Vec<_>>(), ["A", "POD_IP"]);
}

fn job(generation: i64, status: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "sp-kro-init", "annotations": {"openmcp.cloud/provider-generation": generation.to_string()}}, "status": status,
    }))
    .unwrap()
}

fn pods(status: Value) -> Vec<Arc<Pod>> {
    vec![Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap(),
    )]
}

#[test]
fn a_job_of_another_generation_is_outdated_and_one_with_pods_left_is_leaving() {
    assert_eq!(init(None, &[], 2), Init::Absent);
    assert_eq!(init(None, &pods(json!({})), 2), Init::Leaving);
    assert_eq!(
        init(Some(&job(1, json!({"succeeded": 1}))), &[], 2),
        Init::Outdated
    );
    assert_eq!(
        init(Some(&job(2, json!({"succeeded": 1}))), &[], 2),
        Init::Succeeded
    );
}

#[test]
fn a_failed_init_tells_the_exit_code() {
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let exited = json!({"phase": "Failed", "containerStatuses": [{"name": "init", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 3}}}]});
    let Init::Failed { problem, .. } = init(Some(&job(2, failed)), &pods(exited), 2) else {
        unreachable!()
    };
    assert_eq!(problem, "pod p: container init exited with code 3");
}

#[test]
fn an_image_that_cannot_be_had_is_told_with_the_nodes_words() {
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "init", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no binary for openmcp/none:dev"}}}]});
    let Init::Running { problem } = init(Some(&job(2, json!({}))), &pods(waiting), 2) else {
        unreachable!()
    };
    assert_eq!(
        problem.unwrap(),
        "pod p: container init is waiting: ErrImagePull: no binary for openmcp/none:dev"
    );
}

#[test]
fn a_failing_init_rests_half_as_long_as_it_has_been_failing() {
    let at = |text: &str| text.parse().unwrap();
    let since = at("2026-01-01T00:00:00Z");
    assert_eq!(rest(since, at("2026-01-01T00:00:04Z")), Duration::from_secs(10));
    assert_eq!(rest(since, at("2026-01-01T00:02:00Z")), Duration::from_secs(60));
    assert_eq!(rest(since, at("2026-01-02T00:00:00Z")), Duration::from_secs(600));
}

#[test]
fn a_deployment_is_ready_only_for_its_current_generation() {
    let deployment = |generation: i64, available: i32| -> Deployment {
        serde_json::from_value(json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": generation, "updatedReplicas": available, "availableReplicas": available}}))
        .unwrap()
    };
    assert_eq!(run(None, &[]), Run::Absent);
    assert_eq!(run(Some(&deployment(2, 2)), &[]), Run::Ready);
    assert!(matches!(run(Some(&deployment(1, 2)), &[]), Run::NotReady(_)));
    let crash = json!({"containerStatuses": [{"name": "sp-kro", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "lastState": {"terminated": {"exitCode": 1}}, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}]});
    let Run::NotReady(message) = run(Some(&deployment(2, 1)), &pods(crash)) else {
        unreachable!()
    };
    assert_eq!(
        message,
        "1 of 2 replicas are available; pod p: container sp-kro is waiting: CrashLoopBackOff: back-off 10s (last exit code 1)"
    );
}
