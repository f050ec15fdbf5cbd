//! Somebody interferes with what a service consists of: each time it is repaired or said, never fought over in
//! silence, and when the service goes, nothing of it stays (design: whose an object is, drift, deletion).
//!
//! The scenes share one ControlPlane; what can be repaired is tried on one service, what is tried at its end on one
//! each. `leave` compares every object of every kind with what there was before.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod policy;
mod stage;

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams};
use openmcp_e2e::{
    kinds::{self, api},
    kro,
    service::{ROLE, edit, uid, version},
    wait,
};
use policy::{
    an_orphaned_service_goes_and_everything_that_it_consists_of_stays_without_our_marks,
    force_takes_the_tenants_objects_along_and_says_which_finalizers_it_stripped,
    who_asks_is_told_what_there_is_what_differs_and_what_comes_next,
};
use serde_json::{Value, json};
use stage::{NAME, PROVIDER_LABEL, Stage, as_workload, owner, strip_labels, text};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_somebody_does_to_the_parts_of_a_service_is_repaired_or_said_and_nothing_stays() -> Result<()>
{
    let stage = Stage::set().await?;
    macro_rules! scenes {
        ($($scene:ident)*) => {$(
            let since = Instant::now();
            $scene(&stage).await.context(stringify!($scene))?;
            println!("{:4.1} s {}", since.elapsed().as_secs_f32(), stringify!($scene));
        )*};
    }
    stage.order().await?;
    scenes! {
        a_label_that_somebody_removes_is_put_back_on_the_same_object
        an_adopter_loses_our_fields_again_keeps_its_own_and_is_named_while_it_fights
        a_deleted_service_account_of_the_workload_is_made_again_with_a_token_that_works
        a_deleted_service_account_of_the_provider_is_made_again_and_the_provider_goes_on
        a_deleted_access_request_is_made_again_and_nothing_else_is
    }
    stage.leave().await?;
    scenes! {
        labels_and_rights_that_are_removed_just_before_the_end_hide_nothing_from_it
        what_was_given_away_for_good_is_left_to_its_new_owner_and_said
        a_foreign_object_in_the_way_is_named_and_neither_changed_nor_removed
        a_foreign_object_that_took_the_place_of_ours_is_not_removed_with_the_service
        accesses_that_are_deleted_with_the_service_leave_nothing_behind
        who_asks_is_told_what_there_is_what_differs_and_what_comes_next
        an_orphaned_service_goes_and_everything_that_it_consists_of_stays_without_our_marks
        force_takes_the_tenants_objects_along_and_says_which_finalizers_it_stripped
    }
    stage.strike().await
}

async fn a_label_that_somebody_removes_is_put_back_on_the_same_object(stage: &Stage) -> Result<()> {
    let before = stage.role().await?;
    stage.edit_role("label-remover", strip_labels()).await?;
    let back =
        |live: &Value| live["metadata"]["labels"][PROVIDER_LABEL] == "kro" && owner(live) == owner(&before);
    let live = wait::until(&stage.roles(), ROLE, "its labels", |live| live.is_some_and(back)).await?;
    ensure!(uid(&live) == uid(&before), "it was made anew");
    // A label that nobody has any more was removed by nobody that is recorded.
    stage
        .told(&[
            "drift repaired: ClusterRole kro:controller:static .metadata.labels",
            "removed by unknown",
        ])
        .await?;
    stage.ready().await
}

async fn an_adopter_loses_our_fields_again_keeps_its_own_and_is_named_while_it_fights(
    stage: &Stage,
) -> Result<()> {
    let before = stage.role().await?;
    stage.adopt("adopter").await?;
    let ours = |live: &Value| live["rules"] == before["rules"] && owner(live) == owner(&before);
    let live = wait::until(&stage.roles(), ROLE, "our rules", |live| live.is_some_and(ours)).await?;
    ensure!(live["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "adopter");
    stage
        .told(&["drift repaired: ClusterRole kro:controller:static", "by adopter"])
        .await?;

    let fight = async {
        loop {
            stage.adopt("adopter").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let kros = stage.kros();
    let named = wait::condition(&kros, NAME, "Synced", "False", "by adopter again and again");
    tokio::select! {
        never = fight => never,
        named = named => named.map(drop),
    }?;
    wait::until(&stage.roles(), ROLE, "our rules", |live| live.is_some_and(ours)).await?;
    stage.ready().await
}

async fn a_deleted_service_account_of_the_workload_is_made_again_with_a_token_that_works(
    stage: &Stage,
) -> Result<()> {
    let secret = stage.workload_secret().await?;
    let accounts = api(&stage.mcp, &kinds::service_account(), "kro-system");
    accounts.delete("kro", &DeleteParams::default()).await?;
    stage
        .told(&["drift repaired: ServiceAccount kro re-created, deleted by unknown"])
        .await?;
    let (namespace, name) = (text(&secret, "namespace"), text(&secret, "name"));
    let secrets = api(&stage.platform.client, &kinds::secret(), namespace);
    let renewed = wait::until(&secrets, name, "another token", |live| {
        live.is_some_and(|live| live["data"]["token"] != secret["data"]["token"])
    })
    .await?;
    let workload = as_workload(renewed).await?;
    let rgds = api(&workload, &kinds::resource_graph_definition(), "");
    rgds.list(&ListParams::default())
        .await
        .context("with the new token")?;
    stage.ready().await
}

async fn a_deleted_service_account_of_the_provider_is_made_again_and_the_provider_goes_on(
    stage: &Stage,
) -> Result<()> {
    let secrets = api(&stage.platform.client, &kinds::secret(), &stage.home().await?);
    let secret = format!("{}.kubeconfig", stage.access_request());
    let before = serde_json::to_value(secrets.get(&secret).await?)?;
    stage.delete_provider_account().await?;
    wait::until(&secrets, &secret, "another kubeconfig", |live| {
        live.is_some_and(|live| live["data"]["kubeconfig"] != before["data"]["kubeconfig"])
    })
    .await?;
    let role = stage.role().await?;
    stage.remove_role().await?;
    wait::until(&stage.roles(), ROLE, "made again", |live| {
        live.is_some_and(|live| uid(live) != uid(&role))
    })
    .await?;
    stage.ready().await
}

async fn a_deleted_access_request_is_made_again_and_nothing_else_is(stage: &Stage) -> Result<()> {
    let role = stage.role().await?;
    for (namespace, name) in stage.access_requests().await? {
        let requests = api(&stage.platform.client, &kinds::access_request(), &namespace);
        let before = serde_json::to_value(requests.get(&name).await?)?;
        requests.delete(&name, &DeleteParams::default()).await?;
        wait::until(&requests, &name, "granted again", |live| {
            live.is_some_and(|live| uid(live) != uid(&before) && live["status"]["phase"] == "Granted")
        })
        .await?;
        stage.ready().await?;
    }
    ensure!(
        version(&stage.role().await?) == version(&role),
        "what was there was written to"
    );
    Ok(())
}

async fn labels_and_rights_that_are_removed_just_before_the_end_hide_nothing_from_it(
    stage: &Stage,
) -> Result<()> {
    stage.order().await?;
    stage.edit_role("label-remover", strip_labels()).await?;
    let namespaces = api(&stage.mcp, &kinds::namespace(), "");
    edit(&namespaces, "kro-system", "label-remover", strip_labels()).await?;
    stage.delete_provider_account().await?;
    stage.leave().await
}

async fn what_was_given_away_for_good_is_left_to_its_new_owner_and_said(stage: &Stage) -> Result<()> {
    stage.order().await?;
    // Pausing never holds up a deletion; it only keeps the repair from being quicker than the new owner.
    stage.pause().await?;
    stage.edit_role("new-owner", strip_labels()).await?;
    stage
        .edit_role("new-owner", json!({"metadata": {"managedFields": [{}]}}))
        .await?;
    stage.delete().await?;
    stage
        .told(&["ClusterRole kro:controller:static", "was left alone"])
        .await?;
    stage.nothing_but(&[&format!("ClusterRole /{ROLE}")]).await?;
    stage.remove_role().await?;
    stage.resume().await
}

async fn a_foreign_object_in_the_way_is_named_and_neither_changed_nor_removed(stage: &Stage) -> Result<()> {
    stage.foreign_role().await?;
    let theirs = stage.role().await?;
    let named = async || {
        let kros = stage.kros();
        let message =
            "ClusterRole kro:controller:static already exists and is not ours (managed by somebody)";
        let ready = wait::condition(&kros, NAME, "Ready", "False", message).await?;
        ensure!(ready["reason"] == "ForeignObject", "{ready}");
        Ok(())
    };
    stage.tenant.order_kro(NAME, kro::VERSION).await?;
    named().await?;
    stage.told(&["ForeignObject", "managed by somebody"]).await?;
    stage.delete().await?;
    stage.nothing_but(&[&format!("ClusterRole /{ROLE}")]).await?;

    stage.tenant.order_kro(NAME, kro::VERSION).await?;
    named().await?;
    ensure!(
        version(&stage.role().await?) == version(&theirs),
        "it was written to"
    );
    stage.remove_role().await?;
    stage.ready().await?;
    stage.leave().await
}

async fn a_foreign_object_that_took_the_place_of_ours_is_not_removed_with_the_service(
    stage: &Stage,
) -> Result<()> {
    stage.order().await?;
    stage.pause().await?;
    stage.remove_role().await?;
    stage.foreign_role().await?;
    let theirs = stage.role().await?;
    stage.resume().await?;
    let ready = wait::condition(&stage.kros(), NAME, "Ready", "False", "is not ours").await?;
    ensure!(ready["reason"] == "ForeignObject", "{ready}");
    stage.delete().await?;
    ensure!(
        version(&stage.role().await?) == version(&theirs),
        "it was written to"
    );
    stage.nothing_but(&[&format!("ClusterRole /{ROLE}")]).await?;
    stage.remove_role().await
}

/// Known fault 3.
async fn accesses_that_are_deleted_with_the_service_leave_nothing_behind(stage: &Stage) -> Result<()> {
    for by_force in [false, true] {
        stage.order().await?;
        for (namespace, name) in stage.access_requests().await? {
            let requests = api(&stage.platform.client, &kinds::access_request(), &namespace);
            requests.delete(&name, &DeleteParams::default()).await?;
            if by_force {
                edit(
                    &requests,
                    &name,
                    "force",
                    json!({"metadata": {"finalizers": null}}),
                )
                .await?;
            }
        }
        stage
            .leave()
            .await
            .with_context(|| format!("finalizers stripped: {by_force}"))?;
    }
    Ok(())
}
