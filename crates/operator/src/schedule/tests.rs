#![allow(clippy::unwrap_used, clippy::panic)]
use super::plan::{Asked, Decision, decide, reference};
use crate::config::{Config, Scheduler, Strategy};
use kube::ResourceExt;
use openmcp_api::{
    clusters::{Cluster, ClusterRequest},
    keys::{finalizers, labels},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, sync::Arc};

pub(super) fn config() -> Scheduler {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config.yaml");
    Config::read(&file).unwrap().scheduler
}

pub(super) fn request(purpose: &str, name: &str, status: Value) -> ClusterRequest {
    serde_json::from_value(json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "ClusterRequest",
        "metadata": {"namespace": "tenant", "name": name, "uid": format!("uid-{name}")},
        "spec": {"purpose": purpose}, "status": status,
    }))
    .unwrap()
}

fn cluster(name: &str, purpose: &str, requests: &[&str]) -> Cluster {
    let finalizers: Vec<_> = requests
        .iter()
        .map(|r| finalizers::on_cluster(&format!("uid-{r}")))
        .collect();
    let (profile, tenancy) = if purpose == "workload" {
        ("host", "Shared")
    } else {
        ("hosted", "Exclusive")
    };
    serde_json::from_value(json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "openmcp-system", "name": name, "finalizers": finalizers},
        "spec": {"profile": profile, "tenancy": tenancy, "purposes": [purpose]},
    }))
    .unwrap()
}

fn deleting(mut cluster: Cluster) -> Cluster {
    cluster.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    cluster
}

fn ask(request: &ClusterRequest, clusters: Vec<Cluster>, config: &Scheduler) -> Decision {
    let finalizer = request.finalizer_on_cluster().unwrap();
    let clusters: Vec<_> = clusters.into_iter().map(Arc::new).collect();
    decide(
        &Asked {
            request,
            finalizer: &finalizer,
            dice: 7,
        },
        &clusters,
        config,
    )
}

fn granted(name: &str) -> Value {
    json!({"observedGeneration": 1, "phase": "Granted", "cluster": {"namespace": "openmcp-system", "name": name}})
}

#[test]
fn an_unknown_purpose_is_denied_and_the_known_ones_are_named() {
    let Decision::Deny(why) = ask(&request("gpu", "a", Value::Null), vec![], &config()) else {
        panic!()
    };
    assert!(
        why.contains("\"gpu\"") && why.contains("mcp, onboarding, workload"),
        "{why}"
    );
}

#[test]
fn a_granted_request_keeps_its_cluster_even_if_its_purpose_is_not_configured_any_more() {
    let decision = ask(
        &request("gpu", "a", granted("c")),
        vec![cluster("c", "gpu", &["a"])],
        &config(),
    );
    assert!(matches!(decision, Decision::Keep(c) if c.name_any() == "c"));
}

#[test]
fn a_granted_request_whose_cluster_is_gone_gets_it_again_under_its_name() {
    let Decision::Create(made) = ask(&request("mcp", "a", granted("lost")), vec![], &config()) else {
        panic!()
    };
    assert_eq!(reference(&made), ("openmcp-system".to_owned(), "lost".to_owned()));
}

#[test]
fn a_cluster_that_bears_the_requests_finalizer_is_recovered() {
    let clusters = vec![cluster("b", "mcp", &["b"]), cluster("mine", "mcp", &["a"])];
    let decision = ask(&request("mcp", "a", Value::Null), clusters, &config());
    assert!(matches!(decision, Decision::Grant(c) if c.name_any() == "mine"));
}

#[test]
fn a_claimed_cluster_that_is_being_deleted_is_let_go() {
    let decision = ask(
        &request("workload", "a", Value::Null),
        vec![deleting(cluster("c", "workload", &["a"]))],
        &config(),
    );
    assert!(matches!(decision, Decision::Release(_)));
}

#[test]
fn an_exclusive_cluster_is_named_by_the_hash_of_its_request_and_bears_its_finalizer() {
    let mut it = request("mcp", "foo", Value::Null);
    it.metadata.namespace = Some("mcp--ed00e8ed-8a09-8c62-a9b8-e6fc20255174".to_owned());
    it.metadata.labels = Some(BTreeMap::from([
        (
            "metadata.open-control-plane.io/cp-name".to_owned(),
            "foo".to_owned(),
        ),
        ("core.openmcp.cloud/mcp-name".to_owned(), "foo".to_owned()),
    ]));
    let Decision::Create(made) = ask(&it, vec![], &config()) else {
        panic!()
    };
    assert_eq!(made.name_any(), "mcp-2j47xs3f");
    assert_eq!(made.namespace(), it.namespace());
    assert_eq!(made.finalizers(), [it.finalizer_on_cluster().unwrap()]);
    assert_eq!(
        made.labels().get(labels::DELETE_WITHOUT_REQUESTS).unwrap(),
        "true"
    );
    assert_eq!(made.labels().get(labels::METADATA_CP_NAME).unwrap(), "foo");
    assert!(!made.labels().contains_key(labels::MCP_NAME));
}

#[test]
fn a_random_name_is_given_only_where_the_label_asks_for_it() {
    let mut it = request("mcp", "foo", Value::Null);
    it.metadata.labels = Some(BTreeMap::from([(
        labels::RANDOMIZE_CLUSTER_NAME.to_owned(),
        "true".to_owned(),
    )]));
    let Decision::Create(made) = ask(&it, vec![], &config()) else {
        panic!()
    };
    assert_eq!(
        (made.metadata.name, made.metadata.generate_name.as_deref()),
        (None, Some("mcp-"))
    );
}

#[test]
fn all_requests_of_a_singleton_share_the_cluster_named_after_their_purpose() {
    let Decision::Create(made) = ask(&request("onboarding", "a", Value::Null), vec![], &config()) else {
        panic!()
    };
    assert_eq!(made.name_any(), "onboarding");
    let decision = ask(&request("onboarding", "b", Value::Null), vec![*made], &config());
    assert!(matches!(decision, Decision::Claim(_)));
}

#[test]
fn a_name_that_is_taken_is_waited_for() {
    let config = config();
    let Decision::Create(made) = ask(&request("mcp", "a", Value::Null), vec![], &config) else {
        panic!()
    };
    let mut foreign = *made;
    foreign.metadata.finalizers = None;
    let Decision::Wait(why) = ask(&request("mcp", "a", Value::Null), vec![foreign.clone()], &config) else {
        panic!()
    };
    assert!(why.contains("randomize-cluster-name"), "{why}");
    let Decision::Wait(why) = ask(
        &request("mcp", "a", Value::Null),
        vec![deleting(foreign)],
        &config,
    ) else {
        panic!()
    };
    assert!(why.contains("still being deleted"), "{why}");
}

#[test]
fn strategies_choose_among_clusters_with_a_free_slot() {
    let clusters = || {
        vec![
            cluster("a", "workload", &["1", "2"]),
            cluster("b", "workload", &["3"]),
            deleting(cluster("0", "workload", &[])),
            cluster("1-other-purpose", "mcp", &[]),
        ]
    };
    let chosen = |strategy| {
        let config = Scheduler { strategy, ..config() };
        match ask(&request("workload", "x", Value::Null), clusters(), &config) {
            Decision::Claim(c) => c.name_any(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(chosen(Strategy::Simple), "a");
    assert_eq!(chosen(Strategy::Balanced), "b");
    assert_eq!(chosen(Strategy::Random), "b"); // 7 modulo 2
}

#[test]
fn a_full_cluster_is_not_claimed() {
    let all: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let full: Vec<&str> = all.iter().map(String::as_str).collect();
    let decision = ask(
        &request("workload", "x", Value::Null),
        vec![cluster("a", "workload", &full)],
        &config(),
    );
    assert!(matches!(decision, Decision::Create(_)));
}

/// What the effects do to the clusters, so that a sequence of decisions can be played.
fn play(clusters: &mut Vec<Cluster>, decision: Decision, finalizer: &str) {
    match decision {
        Decision::Create(made) => {
            assert!(
                clusters.iter().all(|c| reference(c) != reference(&made)),
                "a name was given twice"
            );
            clusters.push(*made);
        }
        Decision::Claim(claimed) => {
            let cluster = clusters
                .iter_mut()
                .find(|c| reference(c) == reference(&claimed))
                .unwrap();
            cluster.finalizers_mut().push(finalizer.to_owned());
        }
        Decision::Grant(_) | Decision::Keep(_) => {}
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn no_cluster_is_overbooked_none_is_made_without_need_and_each_request_holds_exactly_one(
        order in proptest::collection::vec((0..40usize, any::<u64>()), 1..80),
        limit in 1..6usize,
        strategy in prop_oneof![Just(Strategy::Balanced), Just(Strategy::Random), Just(Strategy::Simple)],
    ) {
        let mut config = Scheduler { strategy, ..config() };
        config.purposes.get_mut("workload").unwrap().tenancy_count = limit;
        let mut clusters: Vec<Cluster> = Vec::new();
        let mut asked = std::collections::BTreeSet::new();
        for (who, dice) in order {
            let request = request("workload", &format!("r{who}"), Value::Null);
            let finalizer = request.finalizer_on_cluster().unwrap();
            let view: Vec<_> = clusters.iter().cloned().map(Arc::new).collect();
            let decision = decide(&Asked { request: &request, finalizer: &finalizer, dice }, &view, &config);
            play(&mut clusters, decision, &finalizer);
            asked.insert(who);
            let holding = clusters.iter().filter(|c| c.finalizers().contains(&finalizer)).count();
            prop_assert_eq!(holding, 1);
        }
        prop_assert!(clusters.iter().all(|c| c.tenancy_count() <= limit));
        prop_assert_eq!(clusters.len(), asked.len().div_ceil(limit));
    }
}
