//! Children against a real API server: whose an object is, what is drift, what is removed. Needs a platform; each
//! test has a namespace and a field manager of its own.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use openmcp_e2e::{
    Platform,
    record::{Record, Verbatim},
};
use openmcp_reconcile::{
    Fault, Key,
    apply::Mark,
    children::{Children, Cluster, Convergence, Engine, Report, Wanted},
    digest::Digester,
    inventory::{Entry, Id, Inventory, Store},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);
const PROVIDER: &str = "children.test/provider";
const OWNER: &str = "children.test/owner";

/// An owner of children in a namespace of its own.
struct Rig {
    client: Client,
    namespace: String,
    manager: String,
    engine: Engine,
    woken: tokio::sync::Mutex<mpsc::UnboundedReceiver<Key>>,
    record: Record,
}

impl Rig {
    async fn new(name: &str) -> Result<Self> {
        let client = Platform::from_env().await?.client;
        let namespaces = Api::<Namespace>::all(client.clone());
        let new = serde_json::from_value(json!({"metadata": {"generateName": format!("children-{name}-")}}))?;
        let namespace = namespaces.create(&PostParams::default(), &new).await?.name_any();
        let (wake, woken) = mpsc::unbounded_channel();
        let digester = Digester::new(&*namespace, "a test");
        let selector = format!("{PROVIDER}={namespace}");
        let children = Children::new(
            digester,
            selector,
            Duration::from_secs(1),
            move |key: &Key, _lane| {
                let _ = wake.send(key.clone());
            },
        );
        Ok(Self {
            client,
            manager: namespace.clone(),
            namespace,
            engine: Engine::new(children),
            woken: tokio::sync::Mutex::new(woken),
            record: Record::default(),
        })
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn config_map(&self, name: &str, data: Value) -> Value {
        let metadata = json!({"name": name, "namespace": self.namespace});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    }

    fn key(&self) -> Key {
        Key::new("Test", &*self.namespace, "owner")
    }

    fn mark(&self) -> Mark {
        Mark {
            label: OWNER,
            value: "me".to_owned(),
        }
    }

    fn clusters(&self) -> BTreeMap<String, Cluster> {
        let cluster = Cluster {
            client: self.client.clone(),
            identity: "platform".to_owned(),
            connection: 1,
        };
        BTreeMap::from([("here".to_owned(), cluster)])
    }

    fn wanted(&self, object: Value) -> Wanted {
        let mut wanted = Wanted::new("here", object);
        wanted.normalize().unwrap();
        wanted.label(PROVIDER, &self.namespace);
        wanted.label(OWNER, "me");
        wanted
    }

    fn entries(&self) -> Vec<Entry> {
        self.record.entries()
    }

    fn saves(&self) -> usize {
        self.record.saves()
    }

    /// One pass.
    async fn pass(&self, wanted: &[Wanted], waiting: bool) -> Result<Report, Fault> {
        let (key, clusters, mark) = (self.key(), self.clusters(), self.mark());
        let store = &self.record;
        let mut inventory = Inventory::new(&store, self.entries());
        let order = Convergence {
            key: &key,
            clusters: &clusters,
            mark: &mark,
            wanted: wanted.to_vec(),
            waiting,
            now: Timestamp::now(),
        };
        self.engine.converge(order, &mut inventory, &Verbatim).await
    }

    /// Passes until a pass ends with nothing on its way; each further pass waits to be woken.
    async fn settle(&self, wanted: &[Wanted]) -> Result<Report> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.pass(wanted, false).await?;
            if report.is_settled() {
                return Ok(report);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.woken(left)
                .await
                .with_context(|| format!("{:?} {:?}", report.missing, report.failures))?;
        }
    }

    /// Passes until one has repaired something: a wake-up may be older than what somebody did.
    async fn repaired(&self, wanted: &[Wanted]) -> Result<Report> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.settle(wanted).await?;
            if !report.repaired.is_empty() {
                return Ok(report);
            }
            self.woken(deadline.saturating_duration_since(Instant::now()))
                .await?;
        }
    }

    async fn woken(&self, within: Duration) -> Result<()> {
        let mut woken = self.woken.lock().await;
        tokio::time::timeout(within, woken.recv())
            .await
            .context("nobody woke the owner")?;
        while woken.try_recv().is_ok() {}
        Ok(())
    }

    async fn uid(&self, name: &str) -> Result<String> {
        Ok(self.config_maps().get(name).await?.uid().unwrap())
    }

    async fn edit(&self, name: &str, manager: &str, patch: Value) -> Result<()> {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        self.config_maps()
            .patch(name, &params, &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn data(&self, name: &str) -> Result<Value> {
        Ok(json!(self.config_maps().get(name).await?.data))
    }

    async fn tear_down(&self) -> Result<openmcp_reconcile::children::TearDown, Fault> {
        let ids: Vec<Id> = self.entries().into_iter().map(|entry| entry.id).collect();
        let store = &self.record;
        let mut inventory = Inventory::new(&store, self.entries());
        let (key, clusters, mark) = (self.key(), self.clusters(), self.mark());
        let torn = self
            .engine
            .tear_down(&key, &clusters, &mark, vec![ids], &mut inventory)
            .await?;
        inventory.flush().await?;
        Ok(torn)
    }
}

fn told(report: &Report) -> Vec<String> {
    report.repaired.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_is_as_wanted_costs_nothing_whatever_its_kind() -> Result<()> {
    let rig = Rig::new("kinds").await?;
    let ns = &rig.namespace;
    let meta = json!({"name": "x", "namespace": ns});
    let pods = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "openmcp/shell:dev"}]}});
    let objects = [
        rig.config_map("x", json!({"a": "1"})),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"a": "1"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
               "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": pods}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": format!("{ns}-x")},
               "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("{ns}-x")},
               "subjects": [{"kind": "ServiceAccount", "name": "x", "namespace": ns}]}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{ns}-x")}}),
    ];
    let wanted: Vec<Wanted> = objects.into_iter().map(|object| rig.wanted(object)).collect();
    rig.settle(&wanted).await?;
    // The controllers have had their say.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let saves = rig.saves();
    let report = rig.settle(&wanted).await?;
    ensure!(report.applied == 0, "applied again: {:?}", told(&report));
    ensure!(rig.saves() == saves, "the inventory was written without need");
    while !rig.tear_down().await?.waiting.is_empty() {
        rig.woken(PATIENCE).await?;
    }
    ensure!(rig.entries().is_empty(), "left: {:?}", rig.entries());
    Ok(())
}

#[tokio::test]
async fn an_edit_is_repaired_and_its_author_named() -> Result<()> {
    let rig = Rig::new("edit").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    rig.edit("x", "kubectl-edit", json!({"data": {"a": "2", "theirs": "kept"}}))
        .await?;
    let report = rig.repaired(&wanted).await?;
    assert_eq!(told(&report), ["ConfigMap x .data.a changed by kubectl-edit"]);
    assert_eq!(rig.data("x").await?, json!({"a": "1", "theirs": "kept"}));
    assert_eq!(rig.settle(&wanted).await?.applied, 0);
    Ok(())
}

#[tokio::test]
async fn a_deleted_child_is_made_again_by_unknown() -> Result<()> {
    let rig = Rig::new("gone").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let before = rig.uid("x").await?;
    rig.config_maps().delete("x", &DeleteParams::default()).await?;
    let report = rig.repaired(&wanted).await?;
    assert_eq!(told(&report), ["ConfigMap x re-created, deleted by unknown"]);
    assert_ne!(rig.uid("x").await?, before);
    assert_eq!(rig.entries()[0].uid, Some(rig.uid("x").await?));
    Ok(())
}

#[tokio::test]
async fn a_stripped_label_is_put_back_on_the_same_object() -> Result<()> {
    let rig = Rig::new("label").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let before = rig.uid("x").await?;
    rig.edit(
        "x",
        "kubectl-label",
        json!({"metadata": {"labels": {PROVIDER: null}}}),
    )
    .await?;
    let report = rig.repaired(&wanted).await?;
    assert_eq!(report.repaired.len(), 1);
    let live = rig.config_maps().get("x").await?;
    assert_eq!(live.labels().get(PROVIDER), Some(&rig.namespace));
    assert_eq!(live.uid(), Some(before));
    Ok(())
}

#[tokio::test]
async fn a_foreign_object_of_the_same_name_is_left_as_it_is_until_it_goes() -> Result<()> {
    let rig = Rig::new("foreign").await?;
    let foreign = serde_json::from_value(rig.config_map("x", json!({"theirs": "1"})))?;
    rig.config_maps().create(&PostParams::default(), &foreign).await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    let report = rig.settle(&wanted).await?;
    assert_eq!(report.failures[0].fault.reason, "ForeignObject");
    let live = rig.config_maps().get("x").await?;
    assert_eq!(json!(live.data), json!({"theirs": "1"}));
    assert!(live.labels().is_empty());
    // Nor is it removed with the owner.
    let torn = rig.tear_down().await?;
    assert!(torn.waiting.is_empty());
    assert!(rig.entries().is_empty());
    rig.config_maps().get("x").await?;
    // Adopted, where that is allowed.
    let mut adopting = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    adopting.adoption = openmcp_reconcile::children::Adoption::Adopt;
    rig.settle(&[adopting]).await?;
    assert_eq!(rig.data("x").await?, json!({"a": "1", "theirs": "1"}));
    Ok(())
}

#[tokio::test]
async fn a_crash_before_the_uid_was_written_makes_no_second_object() -> Result<()> {
    let rig = Rig::new("crash").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let uid = rig.uid("x").await?;
    let store = &rig.record;
    let lost = rig.entries().into_iter().map(|entry| Entry {
        uid: None,
        desired: None,
        live: None,
        ..entry
    });
    store.save(lost.collect()).await?;
    let report = rig.settle(&wanted).await?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(rig.entries()[0].uid.as_ref(), Some(&uid));
    assert_eq!(rig.uid("x").await?, uid);
    Ok(())
}

#[tokio::test]
async fn an_object_with_another_uid_is_never_removed() -> Result<()> {
    let rig = Rig::new("uid").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    rig.config_maps().delete("x", &DeleteParams::default()).await?;
    let theirs = serde_json::from_value(rig.config_map("x", json!({"theirs": "1"})))?;
    rig.config_maps().create(&PostParams::default(), &theirs).await?;
    let torn = rig.tear_down().await?;
    assert!(torn.waiting.is_empty() && rig.entries().is_empty());
    assert_eq!(rig.data("x").await?, json!({"theirs": "1"}));
    Ok(())
}

#[tokio::test]
async fn what_bears_nothing_of_ours_any_more_is_reported_not_removed() -> Result<()> {
    let rig = Rig::new("released").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let labels = json!({PROVIDER: null, OWNER: null});
    rig.edit(
        "x",
        "them",
        json!({"metadata": {"labels": labels, "managedFields": [{}]}}),
    )
    .await?;
    let torn = rig.tear_down().await?;
    assert_eq!(torn.foreign.len(), 1);
    rig.config_maps().get("x").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_pruned_but_not_while_something_is_waited_for() -> Result<()> {
    let rig = Rig::new("prune").await?;
    let one = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    let two = rig.wanted(rig.config_map("y", json!({"a": "1"})));
    let mut kept = rig.wanted(rig.config_map("z", json!({"a": "1"})));
    kept.retain = true;
    rig.settle(&[one.clone(), two, kept]).await?;
    rig.pass(std::slice::from_ref(&one), true).await?;
    assert_eq!(rig.entries().len(), 3, "waiting forbids prune");
    rig.settle(std::slice::from_ref(&one)).await?;
    assert_eq!(rig.entries().len(), 1);
    assert!(rig.config_maps().get_opt("y").await?.is_none());
    let retained = rig.config_maps().get("z").await?;
    assert!(retained.labels().is_empty(), "released: {:?}", retained.labels());
    Ok(())
}

#[tokio::test]
async fn an_ignored_field_is_left_to_others_and_the_rest_is_not() -> Result<()> {
    let rig = Rig::new("ignore").await?;
    let mut wanted = rig.wanted(rig.config_map("x", json!({"a": "1", "b": "1"})));
    wanted.ignore("/data/b");
    rig.settle(std::slice::from_ref(&wanted)).await?;
    rig.edit("x", "them", json!({"data": {"b": "2"}})).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rig.settle(std::slice::from_ref(&wanted)).await?.applied, 0);
    rig.edit("x", "them", json!({"data": {"a": "2"}})).await?;
    rig.repaired(std::slice::from_ref(&wanted)).await?;
    assert_eq!(rig.data("x").await?, json!({"a": "1", "b": "2"}));
    Ok(())
}

#[tokio::test]
async fn at_an_exact_path_what_others_add_is_removed_and_they_are_named() -> Result<()> {
    let rig = Rig::new("exact").await?;
    let mut wanted = rig.wanted(rig.config_map("x", json!({"a": "1"})));
    wanted.exact("/data");
    let wanted = [wanted];
    rig.settle(&wanted).await?;
    rig.edit(
        "x",
        "meddler",
        json!({"data": {"b": "2"}, "metadata": {"labels": {"theirs": "stays"}}}),
    )
    .await?;
    let report = rig.repaired(&wanted).await?;
    ensure!(
        told(&report) == ["ConfigMap x .data b added by meddler"],
        "{:?}",
        told(&report)
    );
    ensure!(rig.data("x").await? == json!({"a": "1"}));
    let live = rig.config_maps().get("x").await?;
    ensure!(live.labels().contains_key("theirs"), "elsewhere others may add");
    let saves = rig.saves();
    ensure!(rig.settle(&wanted).await?.applied == 0 && rig.saves() == saves);
    Ok(())
}

#[tokio::test]
async fn a_role_stops_being_aggregated_before_it_is_removed() -> Result<()> {
    let rig = Rig::new("aggregated").await?;
    let name = format!("{}-x", rig.namespace);
    let selector = json!({"matchLabels": {"aggregate-to": name}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "aggregationRule": {"clusterRoleSelectors": [selector]}});
    rig.settle(&[rig.wanted(role)]).await?;
    let roles = Api::<k8s_openapi::api::rbac::v1::ClusterRole>::all(rig.client.clone());
    ensure!(
        !rig.tear_down().await?.waiting.is_empty(),
        "it was removed at once"
    );
    ensure!(roles.get(&name).await?.aggregation_rule.is_none());
    while !rig.tear_down().await?.waiting.is_empty() {
        rig.woken(PATIENCE).await?;
    }
    ensure!(roles.get_opt(&name).await?.is_none() && rig.entries().is_empty());
    Ok(())
}

fn job(rig: &Rig, argument: &str) -> Value {
    let container = json!({"name": "x", "image": "openmcp/shell:dev", "args": [argument]});
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "namespace": rig.namespace},
           "spec": {"suspend": true, "template": pod}})
}

#[tokio::test]
async fn an_immutable_field_is_named_and_the_object_stays_unless_it_may_be_replaced() -> Result<()> {
    let rig = Rig::new("immutable").await?;
    rig.pass(&[rig.wanted(job(&rig, "1"))], false).await?;
    while rig.entries().iter().all(|entry| entry.uid.is_none()) {
        rig.woken(PATIENCE).await?;
        rig.pass(&[rig.wanted(job(&rig, "1"))], false).await?;
    }
    let first = rig.entries()[0].uid.clone();
    let mut changed = rig.wanted(job(&rig, "2"));
    let report = rig.pass(&[changed.clone()], false).await?;
    let failure = &report.failures.first().context("it was changed")?.fault;
    ensure!(
        failure.reason == "ImmutableField" && failure.message.contains("spec.template"),
        "{failure:?}"
    );
    ensure!(rig.entries()[0].uid == first, "it was made anew");

    changed.replace = true;
    let changed = [changed];
    let report = rig.pass(&changed, false).await?;
    ensure!(
        report.missing.iter().any(|it| it.contains("is made anew")),
        "{:?}",
        report.missing
    );
    loop {
        let entry = rig.entries().remove(0);
        if entry.uid.is_some() && entry.uid != first {
            return Ok(());
        }
        rig.woken(PATIENCE).await?;
        let report = rig.pass(&changed, false).await?;
        ensure!(report.repaired.is_empty(), "nobody did it: {:?}", told(&report));
    }
}

#[tokio::test]
async fn a_secret_is_kept_by_what_is_stored() -> Result<()> {
    let rig = Rig::new("secret").await?;
    let object = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "1"},
        "metadata": {"name": "x", "namespace": rig.namespace}});
    let wanted = [rig.wanted(object)];
    rig.settle(&wanted).await?;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    secrets
        .patch(
            "x",
            &PatchParams::default(),
            &Patch::Merge(json!({"stringData": {"a": "2"}})),
        )
        .await?;
    rig.repaired(&wanted).await?;
    let live = secrets.get("x").await?.data.unwrap();
    assert_eq!(live["a"].0, b"1");
    Ok(())
}

#[tokio::test]
async fn a_repair_takes_milliseconds() -> Result<()> {
    let rig = Rig::new("speed").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    let started = Instant::now();
    rig.edit("x", "them", json!({"data": {"a": "2"}})).await?;
    rig.repaired(&wanted).await?;
    let took = started.elapsed();
    println!("edit, event, repair of {}: {took:?}", rig.manager);
    ensure!(took < Duration::from_secs(2), "a repair took {took:?}");
    Ok(())
}
