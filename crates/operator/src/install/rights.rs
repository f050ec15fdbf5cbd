//! Which rights a provider gets, on servers in memory.
#![allow(clippy::unwrap_used)]
use crate::rig::{self, Rig, message, provider};
use serde_json::{Value, json};

const ROLES: [&str; 2] = ["openmcp.cloud:sp-kro-init", "openmcp.cloud:sp-kro"];

fn rbac(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}})
}

/// Whom the two parts are bound to.
fn bound(rig: &Rig) -> [String; 2] {
    ROLES.map(|name| {
        let binding = rig.platform.live(&rbac("ClusterRoleBinding", name));
        binding
            .and_then(|it| it["roleRef"]["name"].as_str().map(str::to_owned))
            .unwrap_or_default()
    })
}

async fn installed(prepared: &[&str]) -> Rig {
    let rig = Rig::new(|platform, _| {
        rig::add_provider(platform);
        for name in prepared {
            platform.create(&rbac("ClusterRole", name)).unwrap();
        }
    })
    .await;
    rig.run_providers();
    rig.until("it is ready", |rig| {
        rig.platform.serve_workloads();
        message(rig.platform.live(&provider()), "Ready").contains("is available")
    })
    .await;
    rig
}

#[tokio::test]
async fn a_provider_without_prepared_roles_is_bound_to_cluster_admin_and_says_so() {
    let rig = installed(&[]).await;
    assert_eq!(bound(&rig), ["cluster-admin", "cluster-admin"]);
    assert!(message(rig.platform.live(&provider()), "Ready").contains("bound to cluster-admin"));
}

#[tokio::test]
async fn a_provider_whose_prepared_roles_are_deleted_gets_no_more_rights_and_says_what_is_missing() {
    let rig = installed(&ROLES).await;
    assert_eq!(bound(&rig), ROLES);
    for name in ROLES {
        rig.platform.delete(&rbac("ClusterRole", name)).unwrap();
    }
    rig.until("it says so", |rig| {
        let live = rig.platform.live(&provider());
        message(live.clone(), "Ready")
            .contains("the ClusterRole openmcp.cloud:sp-kro that it is bound to does not exist")
            && live.unwrap()["status"]["phase"] == "Progressing"
    })
    .await;
    rig.calm().await;
    assert_eq!(bound(&rig), ROLES);
    for name in ROLES {
        rig.platform.create(&rbac("ClusterRole", name)).unwrap();
    }
    rig.until("it is ready again", |rig| {
        rig.platform.live(&provider()).unwrap()["status"]["phase"] == "Ready"
    })
    .await;
}
