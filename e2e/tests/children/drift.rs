//! What is drift and is repaired, and what is left to others.
use crate::rig::{PATIENCE, PROVIDER, Rig, told};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use openmcp_reconcile::children::{Mode, Wanted};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
    rig.torn_down().await?;
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
async fn what_is_only_to_be_detected_is_told_once_and_so_is_the_next_difference() -> Result<()> {
    let rig = Rig::new("detect").await?;
    let mut wanted = rig.wanted(rig.config_map("x", json!({"a": "1", "b": "1"})));
    wanted.mode = Mode::Detect;
    let wanted = [wanted];
    rig.settle(&wanted).await?;
    for key in ["a", "b"] {
        rig.edit("x", "somebody", json!({"data": {key: "2"}})).await?;
        let deadline = Instant::now() + PATIENCE;
        let report = loop {
            rig.woken_by(deadline).await?;
            let report = rig.settle(&wanted).await?;
            if !report.detected.is_empty() {
                break report;
            }
        };
        assert_eq!((report.detected.len(), report.applied), (1, 0));
        assert!(rig.settle(&wanted).await?.detected.is_empty(), "told once");
    }
    assert_eq!(rig.data("x").await?, json!({"a": "2", "b": "2"}));
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
async fn at_exact_paths_through_a_list_item_what_others_add_is_removed_and_what_is_beside_it_stays()
-> Result<()> {
    let rig = Rig::new("exact-items").await?;
    let ports = json!([{"containerPort": 53, "protocol": "UDP"}]);
    let container = json!({"name": "x", "image": "openmcp/shell:dev", "env": [{"name": "A", "value": "1"}],
        "ports": ports, "volumeMounts": [{"name": "data", "mountPath": "/a"}]});
    let pods = json!({"metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "x", "namespace": rig.namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": pods}});
    let mut wanted = rig.wanted(deployment);
    for list in ["env", "ports", "volumeMounts"] {
        wanted.exact(&format!("/spec/template/spec/containers/x/{list}"));
    }
    wanted.normalize()?;
    let wanted = [wanted];
    rig.settle(&wanted).await?;
    let deployments: Api<Deployment> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let added = json!([
        {"name": "side", "image": "x", "env": [{"name": "THEIRS"}]},
        {"name": "x", "env": [{"name": "B", "value": "2"}], "tty": true,
            "ports": [{"containerPort": 54, "protocol": "TCP", "name": "theirs"}],
            "volumeMounts": [{"name": "data", "mountPath": "/b"}]},
    ]);
    let meddler = PatchParams {
        field_manager: Some("meddler".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": added}}}}));
    deployments.patch("x", &meddler, &patch).await?;
    let report = rig.repaired(&wanted).await?;
    ensure!(
        told(&report)[0].ends_with(" added by meddler"),
        "{:?}",
        told(&report)
    );
    let live = json!(deployments.get("x").await?);
    let containers = live["spec"]["template"]["spec"]["containers"]
        .as_array()
        .context("containers")?;
    let named = |name: &str| {
        containers
            .iter()
            .find(|it| it["name"] == name)
            .context("it is gone")
    };
    let (ours, theirs) = (named("x")?, named("side")?);
    ensure!(ours["env"] == json!([{"name": "A", "value": "1"}]), "{ours}");
    ensure!(ours["ports"] == ports, "{ours}");
    ensure!(
        ours["volumeMounts"] == json!([{"name": "data", "mountPath": "/a"}]),
        "{ours}"
    );
    ensure!(
        ours["tty"] == true && theirs["env"][0]["name"] == "THEIRS",
        "{live}"
    );
    let saves = rig.saves();
    ensure!(rig.settle(&wanted).await?.applied == 0 && rig.saves() == saves);
    Ok(())
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
async fn the_pass_that_an_edit_wakes_repairs_it_by_one_write() -> Result<()> {
    let rig = Rig::new("speed").await?;
    let wanted = [rig.wanted(rig.config_map("x", json!({"a": "1"})))];
    rig.settle(&wanted).await?;
    rig.rested(&wanted).await?;
    let saves = rig.saves();
    rig.edit("x", "them", json!({"data": {"a": "2"}})).await?;
    rig.woken(PATIENCE).await?;
    let report = rig.pass(&wanted, false).await?;
    ensure!(report.is_settled(), "{report:?}");
    ensure!(report.applied == 1, "{} writes", report.applied);
    ensure!(
        told(&report) == ["ConfigMap x .data.a changed by them"],
        "{:?}",
        told(&report)
    );
    ensure!(rig.data("x").await? == json!({"a": "1"}));
    ensure!(rig.saves() <= saves + 1, "{} saves", rig.saves() - saves);
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
    let end = Instant::now() + PATIENCE;
    while rig.entries().iter().all(|entry| entry.uid.is_none()) {
        rig.woken_by(end).await?;
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
    let end = Instant::now() + PATIENCE;
    loop {
        let entry = rig.entries().remove(0);
        if entry.uid.is_some() && entry.uid != first {
            return Ok(());
        }
        rig.woken_by(end).await?;
        let report = rig.pass(&changed, false).await?;
        ensure!(report.repaired.is_empty(), "nobody did it: {:?}", told(&report));
    }
}
