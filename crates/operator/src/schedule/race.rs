//! Two schedulers on a real API server: what the pure plan cannot tell.
//!
//! They are given a view each, and act on a Cluster of a profile that no running platform serves.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::{
    OwnWrites, Schedule,
    plan::{Asked, Decision, decide},
    tests::{config, request},
};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use openmcp_api::clusters::{Cluster, ClusterRequest};
use openmcp_reconcile::{cluster::Connection, events::Recorder, watch::watch};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Known fault 22.
#[tokio::test]
#[ignore = "needs a real API server in OPENMCP_PLATFORM_KUBECONFIG; `cargo verify` runs it"]
async fn of_two_schedulers_that_see_the_same_last_slot_one_takes_it_and_the_other_makes_a_cluster() {
    let path = std::env::var("OPENMCP_PLATFORM_KUBECONFIG").expect("OPENMCP_PLATFORM_KUBECONFIG");
    let connection = Connection::from_kubeconfig(&std::fs::read(path).unwrap(), "race")
        .await
        .unwrap();
    let client = connection.client();
    let namespaces = Api::<Namespace>::all(client.clone());
    let new = serde_json::from_value(json!({"metadata": {"generateName": "race-"}})).unwrap();
    let namespace = namespaces
        .create(&PostParams::default(), &new)
        .await
        .unwrap()
        .name_any();
    let clusters = Api::<Cluster>::namespaced(client.clone(), &namespace);
    for nth in 0..20 {
        let seen = clusters
            .create(&PostParams::default(), &one_slot(&namespace, nth))
            .await
            .unwrap();
        let requests = ["a", "b"].map(|name| request("workload", name, Value::Null));
        let tries = requests.each_ref().map(|request| {
            let (client, namespace, seen) = (client.clone(), namespace.clone(), seen.clone());
            async move { scheduler(client, &namespace).take(request, &seen).await }
        });
        let won = join_all(tries).await;
        assert_eq!(won.iter().filter(|it| **it).count(), 1, "round {nth}");
        let live = clusters.get(&seen.name_any()).await.unwrap();
        assert_eq!(live.tenancy_count(), 1, "round {nth}: {:?}", live.finalizers());
        // Whoever lost looks again.
        let loser = &requests[usize::from(won[0])];
        assert!(
            matches!(decision(loser, &live), Decision::Create(_)),
            "round {nth}"
        );
        let bare = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
        clusters
            .patch(&seen.name_any(), &Default::default(), &bare)
            .await
            .unwrap();
        clusters
            .delete(&seen.name_any(), &DeleteParams::default())
            .await
            .unwrap();
    }
    namespaces
        .delete(&namespace, &DeleteParams::default())
        .await
        .unwrap();
}

impl Schedule {
    /// Decides on what was seen and acts; whether the slot was got.
    async fn take(&self, request: &ClusterRequest, seen: &Cluster) -> bool {
        let Decision::Claim(cluster) = decision(request, seen) else {
            return false;
        };
        let finalizer = request.finalizer_on_cluster().unwrap();
        match self.claim(&cluster, &finalizer).await {
            Ok(_) => true,
            Err(fault) => {
                assert_eq!(fault.reason, "Conflict", "{fault}");
                false
            }
        }
    }
}

fn decision(request: &ClusterRequest, seen: &Cluster) -> Decision {
    let mut config = config();
    config.purposes.get_mut("workload").unwrap().tenancy_count = 1;
    let finalizer = request.finalizer_on_cluster().unwrap();
    let asked = Asked {
        request,
        finalizer: &finalizer,
        dice: 0,
    };
    decide(&asked, &[Arc::new(seen.clone())], &config)
}

fn one_slot(namespace: &str, nth: usize) -> Cluster {
    serde_json::from_value(json!({
        "apiVersion": "clusters.openmcp.cloud/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": namespace, "name": format!("c{nth}")},
        "spec": {"profile": "nobody-serves-this", "tenancy": "Shared", "purposes": ["workload"]},
    }))
    .unwrap()
}

fn scheduler(client: Client, namespace: &str) -> Schedule {
    let shutdown = CancellationToken::new();
    let config_of_watch = watcher::Config::default;
    Schedule {
        requests: watch(
            Api::namespaced(client.clone(), namespace),
            config_of_watch(),
            shutdown.clone(),
            |_| {},
        ),
        clusters: watch(
            Api::namespaced(client.clone(), namespace),
            config_of_watch(),
            shutdown,
            |_| {},
        ),
        config: config(),
        own: OwnWrites::default(),
        events: Recorder::new(client.clone(), "race"),
        client,
    }
}
