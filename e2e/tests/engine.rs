//! The engine against a real API server: what only it can answer (who owns what, which UID, which code).
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result};
use futures::future::join_all;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::Lease as LeaseObject,
    core::v1::{ConfigMap, Namespace, ObjectReference, Pod, ServiceAccount},
    events::v1::Event,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use openmcp_reconcile::{
    apply::{Deletion, Mark, delete, upsert, upsert_if_changed},
    cluster::Connection,
    events::{Note, Recorder},
    fault::Class,
    lease::Lease,
    status::apply_status,
    watch::{Change, watch},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const MANAGER: &str = "engine-test";

/// A namespace of its own on the platform cluster.
struct Place {
    client: Client,
    namespace: String,
    kubeconfig: Kubeconfig,
}

impl Place {
    async fn new(name: &str) -> Result<Self> {
        let path =
            std::env::var("OPENMCP_PLATFORM_KUBECONFIG").context("OPENMCP_PLATFORM_KUBECONFIG is not set")?;
        let kubeconfig = Kubeconfig::read_from(path)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let namespaces = Api::<Namespace>::all(client.clone());
        let new = serde_json::from_value(json!({"metadata": {"generateName": format!("engine-{name}-")}}))?;
        let namespace = namespaces.create(&PostParams::default(), &new).await?.name_any();
        Ok(Self {
            client,
            namespace,
            kubeconfig,
        })
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn config_map(&self, name: &str, data: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": data,
        })
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<Deletion, openmcp_reconcile::Fault> {
        delete(&self.client, "v1", "ConfigMap", Some(&self.namespace), name, uid).await
    }

    /// A kubeconfig for a new service account that may do nothing.
    async fn nobody(&self, name: &str) -> Result<Vec<u8>> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.namespace);
        let new = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        accounts.create(&PostParams::default(), &new).await?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let request = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = request.status.context("no token")?.token;
        let cluster = self.kubeconfig.clusters[0]
            .cluster
            .clone()
            .context("no cluster")?;
        let ca = cluster
            .certificate_authority_data
            .context("the kubeconfig has no inline CA")?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": cluster.server, "certificate-authority-data": ca}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        Ok(kubeconfig.to_string().into_bytes())
    }

    async fn leave(self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }
}

fn ours() -> Mark {
    Mark {
        label: "test.openmcp.cloud/owner",
        value: "us".to_owned(),
    }
}

fn theirs() -> Mark {
    Mark {
        label: "test.openmcp.cloud/owner",
        value: "them".to_owned(),
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < patience, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_upsert_creates_repairs_and_removes_and_writes_nothing_else() -> Result<()> {
    let place = Place::new("upsert").await?;
    let maps = place.config_maps();
    let full = || place.config_map("x", json!({"a": "1", "b": "2"}));
    let first = upsert(&place.client, MANAGER, &ours(), full()).await?;
    let again = upsert(&place.client, MANAGER, &ours(), full()).await?;
    assert_eq!(
        first["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );

    let break_it = json!({"data": {"a": "broken", "foreign": "stays"}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(break_it))
        .await?;
    upsert(&place.client, MANAGER, &ours(), full()).await?;
    let data = maps.get("x").await?.data.unwrap();
    assert_eq!((data["a"].as_str(), data["foreign"].as_str()), ("1", "stays"));

    upsert(
        &place.client,
        MANAGER,
        &ours(),
        place.config_map("x", json!({"a": "1"})),
    )
    .await?;
    let live = maps.get("x").await?;
    assert!(
        !live.data.as_ref().unwrap().contains_key("b"),
        "what is not desired any more is removed"
    );
    let object = place.config_map("x", json!({"a": "1"}));
    assert!(
        upsert_if_changed(&place.client, MANAGER, &ours(), Some(&live), object)
            .await?
            .is_none()
    );
    place.leave().await
}

#[tokio::test]
async fn a_foreign_object_is_named_and_not_touched() -> Result<()> {
    let place = Place::new("foreign").await?;
    let maps = place.config_maps();
    let foreign: ConfigMap = serde_json::from_value(place.config_map("x", json!({"a": "theirs"})))?;
    let before = maps.create(&PostParams::default(), &foreign).await?;
    for live in [None, Some(&before)] {
        let object = place.config_map("x", json!({"b": "ours"}));
        let fault = upsert_if_changed(&place.client, MANAGER, &ours(), live, object)
            .await
            .unwrap_err();
        assert_eq!(fault.reason, "Conflict");
        assert!(
            fault
                .message
                .contains(&format!("ConfigMap {}/x exists and is not ours", place.namespace)),
            "{fault}"
        );
    }
    let fault = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({})))
        .await
        .unwrap_err();
    assert_eq!(fault.reason, "Conflict");
    assert_eq!(maps.get("x").await?.resource_version(), before.resource_version());
    place.leave().await
}

#[tokio::test]
async fn a_lost_mark_is_put_back_and_another_owners_mark_respected() -> Result<()> {
    let place = Place::new("mark").await?;
    let object = || place.config_map("x", json!({"a": "1"}));
    upsert(&place.client, MANAGER, &ours(), object()).await?;
    let relabel = async |value: Value| {
        let patch = json!({"metadata": {"labels": {ours().label: value}}});
        let params = PatchParams::default();
        place
            .config_maps()
            .patch("x", &params, &Patch::Merge(patch))
            .await
    };
    relabel(Value::Null).await?;
    let live = upsert(&place.client, MANAGER, &ours(), object()).await?;
    assert!(ours().is_on(&live));
    let unmarked = relabel(Value::Null).await?;
    let stored = ConfigMap {
        metadata: kube::core::ObjectMeta {
            managed_fields: None,
            ..unmarked.metadata
        },
        ..unmarked
    };
    let live = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&stored), object()).await?;
    assert!(ours().is_on(&live.unwrap()));
    relabel(json!("them")).await?;
    let fault = upsert(&place.client, MANAGER, &ours(), object())
        .await
        .unwrap_err();
    assert_eq!(fault.reason, "Conflict");
    place.leave().await
}

#[tokio::test]
async fn of_two_who_create_at_once_exactly_one_wins_and_the_other_changes_nothing() -> Result<()> {
    let place = Place::new("race").await?;
    for nth in 0..20 {
        let (one, two) = (ours(), theirs());
        let tries = [&one, &two].map(|mark| {
            let object = place.config_map(&format!("x{nth}"), json!({ mark.value.clone(): "was here" }));
            upsert_if_changed(&place.client, &mark.value, mark, None::<&Value>, object)
        });
        let won = join_all(tries).await;
        assert_eq!(won.iter().filter(|one| one.is_ok()).count(), 1);
        let live = place.config_maps().get(&format!("x{nth}")).await?;
        assert_eq!(live.data.unwrap().len(), 1);
    }
    place.leave().await
}

#[tokio::test]
async fn an_update_never_lands_on_a_successor() -> Result<()> {
    let place = Place::new("successor").await?;
    let object = |value: &str| place.config_map("x", json!({ "a": value }));
    let old = upsert(&place.client, MANAGER, &ours(), object("old")).await?;
    place.config_maps().delete("x", &DeleteParams::default()).await?;
    let new = upsert(&place.client, MANAGER, &ours(), object("new")).await?;
    let stale = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&old), object("stale"))
        .await
        .unwrap_err();
    assert_eq!((stale.class, stale.reason), (Class::Retry, "Conflict"), "{stale}");
    place.config_maps().delete("x", &DeleteParams::default()).await?;
    let absent = upsert_if_changed(&place.client, MANAGER, &ours(), Some(&new), object("stale"))
        .await
        .unwrap_err();
    assert_eq!(
        (absent.class, absent.reason),
        (Class::Retry, "Conflict"),
        "{absent}"
    );
    assert!(place.config_maps().get_opt("x").await?.is_none());
    place.leave().await
}

#[tokio::test]
async fn gone_is_a_404_or_another_uid_and_nothing_else() -> Result<()> {
    let place = Place::new("delete").await?;
    let maps = place.config_maps();
    let live = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({}))).await?;
    let uid = live["metadata"]["uid"].as_str().unwrap();
    assert_eq!(place.delete("x", "another").await?, Deletion::Gone);
    assert!(maps.get_opt("x").await?.is_some(), "a successor is not touched");

    let hold = json!({"metadata": {"finalizers": ["test.openmcp.cloud/hold"]}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(hold))
        .await?;
    assert_eq!(place.delete("x", uid).await?, Deletion::Waiting);
    let nobody = Connection::from_kubeconfig(&place.nobody("nobody").await?, "engine-test").await?;
    let denied = delete(
        &nobody.client(),
        "v1",
        "ConfigMap",
        Some(&place.namespace),
        "x",
        uid,
    )
    .await
    .unwrap_err();
    assert_eq!(denied.class, Class::Denied, "{denied}");
    let let_go = json!({"metadata": {"finalizers": null}});
    maps.patch("x", &PatchParams::default(), &Patch::Merge(let_go))
        .await?;
    assert_eq!(place.delete("x", uid).await?, Deletion::Gone);
    assert_eq!(place.delete("never-was", uid).await?, Deletion::Gone);
    place.leave().await
}

#[tokio::test]
async fn an_odd_plural_is_found_and_a_kind_that_is_gone_takes_its_objects_along() -> Result<()> {
    let place = Place::new("plural").await?;
    let group = format!("{}.test.openmcp.cloud", place.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("geese.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": "Goose", "listKind": "GooseList", "plural": "geese", "singular": "goose"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true
            }}}],
        },
    });
    let crd = upsert(&place.client, MANAGER, &ours(), crd).await?;
    let api_version = format!("{group}/v1");
    let goose = json!({
        "apiVersion": api_version, "kind": "Goose", "spec": {"a": 1},
        "metadata": {"name": "g", "namespace": place.namespace},
    });
    let mut made = None;
    until("geese are served", async || {
        made = upsert(&place.client, MANAGER, &ours(), goose.clone()).await.ok();
        made.is_some()
    })
    .await;
    let uid = made.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let gone = async || {
        delete(
            &place.client,
            &api_version,
            "Goose",
            Some(&place.namespace),
            "g",
            &uid,
        )
        .await
    };
    assert_eq!(gone().await?, Deletion::Gone);

    let made = upsert(&place.client, MANAGER, &ours(), goose.clone()).await?;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let name = crd["metadata"]["name"].as_str().unwrap();
    let crd_uid = crd["metadata"]["uid"].as_str().unwrap();
    until("the CRD is gone", async || {
        let kind = "CustomResourceDefinition";
        delete(
            &place.client,
            "apiextensions.k8s.io/v1",
            kind,
            None,
            name,
            crd_uid,
        )
        .await
            == Ok(Deletion::Gone)
    })
    .await;
    let mut last = None;
    until("the goose is gone with its kind", async || {
        last = Some(
            delete(
                &place.client,
                &api_version,
                "Goose",
                Some(&place.namespace),
                "g",
                uid,
            )
            .await,
        );
        last == Some(Ok(Deletion::Gone))
    })
    .await;
    place.leave().await
}

#[tokio::test]
async fn a_watch_tells_what_appears_changes_and_leaves() -> Result<()> {
    let place = Place::new("watch").await?;
    let maps = place.config_maps();
    let labelled = |name: &str| {
        let mut object = place.config_map(name, json!({"a": "1"}));
        object["metadata"]["labels"] = json!({"watched": "yes"});
        serde_json::from_value::<ConfigMap>(object).unwrap()
    };
    for nth in 0..7 {
        maps.create(&PostParams::default(), &labelled(&format!("early-{nth}")))
            .await?;
    }
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let log = seen.clone();
    let shutdown = CancellationToken::new();
    let config = watcher::Config::default().labels("watched=yes").page_size(3);
    let store = watch(maps.clone(), config, shutdown.clone(), move |change| {
        let name = change.object().name_any();
        log.lock().unwrap().push(match change {
            Change::Applied { first: true, .. } => format!("first {name}"),
            Change::Applied { old: Some(_), .. } => format!("changed {name}"),
            Change::Applied { .. } => format!("new {name}"),
            Change::Deleted { .. } => format!("left {name}"),
            _ => "unknown".to_owned(),
        });
    });
    store.synced().await;
    assert_eq!(store.len(), 7);
    assert!(
        store
            .all()
            .iter()
            .all(|map| map.metadata.managed_fields.is_none())
    );
    assert!(
        seen.lock()
            .unwrap()
            .iter()
            .all(|line| line.starts_with("first early-"))
    );
    seen.lock().unwrap().clear();

    maps.create(&PostParams::default(), &labelled("late")).await?;
    let change = json!({"data": {"a": "2"}});
    maps.patch("late", &PatchParams::default(), &Patch::Merge(change))
        .await?;
    let unlabel = json!({"metadata": {"labels": null}});
    maps.patch("late", &PatchParams::default(), &Patch::Merge(unlabel))
        .await?;
    maps.delete("early-0", &DeleteParams::default()).await?;
    until("four changes", async || seen.lock().unwrap().len() == 4).await;
    assert_eq!(
        *seen.lock().unwrap(),
        ["new late", "changed late", "left late", "left early-0"]
    );
    assert_eq!(
        (store.len(), store.get(&place.namespace, "late").is_none()),
        (6, true)
    );
    shutdown.cancel();
    place.leave().await
}

#[tokio::test]
async fn a_status_is_written_once_and_an_object_that_is_gone_is_no_error() -> Result<()> {
    let place = Place::new("status").await?;
    let pods = Api::<Pod>::namespaced(place.client.clone(), &place.namespace);
    let new = json!({
        "metadata": {"name": "x"},
        "spec": {"schedulerName": "none", "automountServiceAccountToken": false,
                 "containers": [{"name": "c", "image": "none"}]},
    });
    let accounts = Api::<ServiceAccount>::namespaced(place.client.clone(), &place.namespace);
    let default = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    // Without a controller-manager nobody else makes it.
    let _exists = accounts.create(&PostParams::default(), &default).await;
    let pod = pods
        .create(&PostParams::default(), &serde_json::from_value(new)?)
        .await?;
    let status = json!({"nominatedNodeName": "n", "message": null});
    assert!(apply_status(&pods, &pod, &json!({}), &status, MANAGER).await?);
    let live = pods.get("x").await?;
    assert_eq!(
        live.status.as_ref().unwrap().nominated_node_name.as_deref(),
        Some("n")
    );
    let owned = json!({"nominatedNodeName": "n"});
    assert!(!apply_status(&pods, &live, &owned, &status, MANAGER).await?);
    assert_eq!(pods.get("x").await?.resource_version(), live.resource_version());
    pods.delete("x", &DeleteParams::default().grace_period(0)).await?;
    until("the pod is gone", async || {
        pods.get_opt("x").await.unwrap().is_none()
    })
    .await;
    assert!(!apply_status(&pods, &live, &json!({}), &status, MANAGER).await?);
    place.leave().await
}

#[tokio::test]
async fn credentials_are_swapped_under_a_running_watch() -> Result<()> {
    let place = Place::new("swap").await?;
    let (old, new) = (place.nobody("old").await?, place.nobody("new").await?);
    let connection = Connection::from_kubeconfig(&old, "engine-test").await?;
    let denied = connection.identity().await.unwrap_err();
    assert_eq!(denied.class, Class::Denied);
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": place.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": place.namespace, "name": "new"},
                     {"kind": "ServiceAccount", "namespace": place.namespace, "name": "old"}],
    });
    let binding = upsert(&place.client, MANAGER, &ours(), rights).await?;
    until("the rights have arrived", async || {
        matches!(connection.identity().await, Ok(Some(_)))
    })
    .await;

    let maps = Api::<ConfigMap>::namespaced(connection.client(), &place.namespace);
    let lists = Arc::new(Mutex::new(0));
    let firsts = lists.clone();
    let shutdown = CancellationToken::new();
    let store = watch(
        maps.clone(),
        watcher::Config::default(),
        shutdown.clone(),
        move |change| {
            if matches!(change, Change::Applied { first: true, .. }) {
                *firsts.lock().unwrap() += 1;
            }
        },
    );
    store.synced().await;
    let accounts = Api::<ServiceAccount>::namespaced(place.client.clone(), &place.namespace);
    accounts.delete("old", &DeleteParams::default()).await?;
    until(
        "the old token is refused",
        async || matches!(connection.identity().await, Err(fault) if fault.class == Class::Denied),
    )
    .await;
    assert!(connection.swap(&new).await?);
    assert!(connection.identity().await?.is_some());
    maps.list(&ListParams::default()).await?;
    upsert(
        &place.client,
        MANAGER,
        &ours(),
        place.config_map("after", json!({})),
    )
    .await?;
    until("the watch goes on", async || {
        store.get(&place.namespace, "after").is_some()
    })
    .await;
    shutdown.cancel();
    let uid = binding["metadata"]["uid"].as_str().unwrap();
    let group = "rbac.authorization.k8s.io/v1";
    delete(
        &place.client,
        group,
        "ClusterRoleBinding",
        None,
        &place.namespace,
        uid,
    )
    .await?;
    place.leave().await
}

#[tokio::test]
async fn of_two_candidates_one_leads_and_the_other_follows_when_it_ends() -> Result<()> {
    let place = Place::new("lease").await?;
    let lease = |identity: &str| {
        let mut lease = Lease::new(&place.namespace, "Engine_Test", identity).ungated();
        lease.duration = Duration::from_secs(3);
        lease
    };
    let shutdown = CancellationToken::new();
    let first = lease("one")
        .acquire(place.client.clone(), &shutdown)
        .await
        .unwrap();
    let early = tokio::time::timeout(
        Duration::from_secs(4),
        lease("two").acquire(place.client.clone(), &shutdown),
    );
    assert!(early.await.is_err(), "a lease that is renewed is not taken");
    first.keep(async {}).await?;
    let start = Instant::now();
    let second = lease("two")
        .acquire(place.client.clone(), &shutdown)
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "a lease that was given back is free at once"
    );

    let leases = Api::<LeaseObject>::namespaced(place.client.clone(), &place.namespace);
    let stolen = json!({"spec": {"holderIdentity": "thief"}});
    leases
        .patch("engine-test", &PatchParams::default(), &Patch::Merge(stolen))
        .await?;
    let lost = second.keep(std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(lost.reason, "LeaseLost");
    let start = Instant::now();
    lease("three")
        .acquire(place.client.clone(), &shutdown)
        .await
        .unwrap();
    assert!(
        start.elapsed() > Duration::from_secs(3),
        "a silent holder is given its whole time"
    );
    place.leave().await
}

#[tokio::test]
async fn an_event_names_its_object_and_repetition_makes_no_second_one() -> Result<()> {
    let place = Place::new("events").await?;
    let map = upsert(&place.client, MANAGER, &ours(), place.config_map("x", json!({}))).await?;
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        name: Some("x".to_owned()),
        namespace: Some(place.namespace.clone()),
        uid: map["metadata"]["uid"].as_str().map(str::to_owned),
        ..ObjectReference::default()
    };
    let recorder = Recorder::new(place.client.clone(), MANAGER);
    let note = |text: String| Note {
        warning: true,
        reason: "DriftRepaired",
        action: "Repair",
        note: text,
    };
    recorder.publish(about.clone(), note("one".to_owned()));
    recorder.publish(about.clone(), note("one".to_owned()));
    recorder.publish(about, note("é".repeat(1000)));
    let events = Api::<Event>::namespaced(place.client.clone(), &place.namespace);
    until("two events", async || {
        events.list(&ListParams::default()).await.unwrap().items.len() == 2
    })
    .await;
    let events = events.list(&ListParams::default()).await?.items;
    assert!(
        events
            .iter()
            .all(|event| event.reason.as_deref() == Some("DriftRepaired"))
    );
    assert!(
        events
            .iter()
            .any(|event| event.note.as_ref().unwrap().len() == 1024)
    );
    place.leave().await
}
