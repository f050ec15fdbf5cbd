//! Fault 17: an admission webhook that denies, is broken, or does not answer.
use crate::{
    gate::{Gate, HOOK, Mood},
    site::Site,
    solo::Options,
};
use anyhow::{Result, ensure};
use openmcp_e2e::{
    kinds::{self, api},
    service::edit,
    wait,
};
use serde_json::json;

const EDITS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_keeps_away_is_said_on_its_object_only_tried_rarely_and_made_when_it_may() -> Result<()>
{
    let site = Site::new(Some(Options::default())).await?;
    let provider = site.served().await?;
    let gate = Gate::open().await?;
    gate.install(&site.mcp.client).await?;
    let moods = [
        ("denied", Mood::Denies("not on a Sunday"), "not on a Sunday"),
        ("broken", Mood::IsBroken, "failed calling webhook"),
        ("silent", Mood::IsSilent, "failed calling webhook"),
    ];
    for (name, mood, _) in moods {
        gate.put(&format!("{name}-1"), mood);
    }
    for name in ["denied", "broken", "silent", "free"] {
        site.order(name, 2).await?;
    }
    site.ready("free").await?;
    for (name, _, text) in moods {
        let said = site.unready(name, text).await?;
        let message = said["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains(HOOK) && message.contains(&format!("{name}-1")),
            "{said}"
        );
        site.told(name, &[HOOK, text]).await?;
        println!("       {name}: {} {message}", said["reason"]);
    }
    let denied = wait::find(
        &serde_json::to_value(site.orders().get("denied").await?)?,
        "Ready",
    )
    .cloned();
    ensure!(denied.is_some_and(|it| it["reason"] == "AdmissionDenied"));
    nothing_is_tried_at_each_event(&site, &gate).await?;
    site.is_repaired("free-0").await?;
    site.ready("free").await?;

    gate.cheer_up();
    for (name, _, _) in moods {
        site.ready(name).await?;
        ensure!(
            site.uids(name).await?.len() == 2,
            "{name}: {:?}",
            site.uids(name).await?
        );
    }
    provider.end().await
}

/// Somebody changes what may be repaired again and again.
async fn nothing_is_tried_at_each_event(site: &Site, gate: &Gate) -> Result<()> {
    let notes = api(&site.mcp.client, &kinds::config_map(), "default");
    let before = gate.asked("denied-1");
    for nth in 0..EDITS {
        edit(
            &notes,
            "denied-0",
            "meddler",
            json!({"data": {"text": format!("{nth}")}}),
        )
        .await?;
    }
    let tries = gate.asked("denied-1") - before;
    println!("       {EDITS} edits, {tries} tries");
    ensure!(tries <= 10, "{tries} tries");
    wait::until(&notes, "denied-0", "repaired", |live| {
        live.is_some_and(|live| live["data"]["text"] == "hello")
    })
    .await
    .map(drop)
}
