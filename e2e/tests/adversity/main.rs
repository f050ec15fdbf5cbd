//! What surrounds a service fails: API servers end and come back, say no, are slow, cut their answers; what is to go
//! hangs; objects are too big or too new. Nothing is lost, nothing is made twice, each cause is named where its owner
//! looks, all else goes on, and with the fault its consequences go.
//!
//! The scenes with the whole platform share two services; those that need faults on the wire run the engine in this
//! process, with the faults in front of the platform's API server.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bigness;
mod outage;
mod owners;
mod refusal;
mod stuck;
mod weather;
mod wire;

use anyhow::{Context, Result};
use bigness::{
    an_order_of_a_megabyte_is_answered_in_a_few_words_on_that_object_only,
    fields_that_the_provider_does_not_know_are_kept_or_pruned_without_harm,
};
use openmcp_e2e::{Service, service::ROLE, wait};
use outage::{
    the_api_server_of_a_control_plane_ends_and_comes_back_and_only_its_service_says_so,
    the_api_server_of_onboarding_ends_and_comes_back_and_the_provider_goes_on,
};
use refusal::{
    a_quota_that_forbids_the_workload_is_said_and_ends_with_it,
    a_repair_that_a_policy_denies_is_said_tried_rarely_and_made_when_the_policy_goes,
};
use serde_json::{Value, json};
use std::time::Instant;
use stuck::{
    a_definition_that_somebody_deletes_comes_back, a_deletion_says_what_holds_it_and_goes_on_with_all_else,
    a_namespace_that_does_not_end_is_named_with_what_holds_it_and_all_else_goes_on,
};

/// The two services; `other` shows whom a fault does not concern.
struct Stage {
    one: Service,
    other: Service,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_around_a_service_is_said_and_survived_and_nothing_stays() -> Result<()> {
    let (one, other) = tokio::try_join!(Service::set("adverse"), Service::set("bystander"))?;
    let mut stage = Stage { one, other };
    // Its access to onboarding is the suite's own.
    stage.one.platform.onboarding().await?;
    stage.one.remember().await?;
    stage.other.remember().await?;
    tokio::try_join!(stage.one.order(), stage.other.order())?;
    macro_rules! scene {
        ($scene:ident) => {
            async {
                let since = Instant::now();
                $scene(&stage).await.context(stringify!($scene))?;
                println!(
                    "{:4.1} s {}",
                    since.elapsed().as_secs_f32(),
                    stringify!($scene)
                );
                anyhow::Ok(())
            }
        };
    }
    macro_rules! scenes {
        ($($scene:ident)*) => {$( scene!($scene).await?; )*};
    }
    scenes! {
        the_api_server_of_a_control_plane_ends_and_comes_back_and_only_its_service_says_so
        the_api_server_of_onboarding_ends_and_comes_back_and_the_provider_goes_on
        a_repair_that_a_policy_denies_is_said_tried_rarely_and_made_when_the_policy_goes
        a_quota_that_forbids_the_workload_is_said_and_ends_with_it
        an_order_of_a_megabyte_is_answered_in_a_few_words_on_that_object_only
        fields_that_the_provider_does_not_know_are_kept_or_pruned_without_harm
        a_definition_that_somebody_deletes_comes_back
    }
    // One service each, and much waiting.
    tokio::try_join!(
        scene!(a_namespace_that_does_not_end_is_named_with_what_holds_it_and_all_else_goes_on),
        scene!(a_deletion_says_what_holds_it_and_goes_on_with_all_else),
    )?;
    stage.one.delete().await?;
    // API servers have other pods by now.
    stage.one.nothing_but(&["Pod "]).await?;
    stage.other.nothing_but(&["Pod "]).await?;
    tokio::try_join!(stage.one.strike(), stage.other.strike())?;
    Ok(())
}

/// Somebody changes a child, and the provider changes it back: it sees, and it acts.
async fn is_repaired(service: &Service) -> Result<()> {
    let before = service.role().await?;
    service.edit_role("meddler", json!({"rules": []})).await?;
    let back = |live: &Value| {
        live["rules"] == before["rules"] && live["metadata"]["uid"] == before["metadata"]["uid"]
    };
    wait::until(&service.roles(), ROLE, "its rules", |live| live.is_some_and(back))
        .await
        .map(drop)
}
