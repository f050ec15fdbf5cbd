//! Measures a repair from outside: a watch sees the object broken, then whole again. The time is that between the
//! two events, so that neither kubectl's start nor the demo's own waiting is in it.
use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{
    Api,
    api::{DynamicObject, WatchEvent, WatchParams},
};
use serde_json::Value;
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Breaks the object `name` and returns how long it stayed broken, in the eyes of a watch.
///
/// `whole` tells whether a live object is as it should be; a deleted object never is.
pub(super) async fn time(
    api: &Api<DynamicObject>,
    name: &str,
    whole: impl Fn(&Value) -> bool,
    break_it: impl Future<Output = Result<()>>,
) -> Result<Duration> {
    let live = api
        .get_metadata(name)
        .await
        .with_context(|| format!("reading {name} before it is broken"))?;
    let version = live.metadata.resource_version.unwrap_or_default();
    let parameters = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(60);
    let mut events = std::pin::pin!(api.watch(&parameters, &version).await?);
    let watching = async {
        let mut broken: Option<Instant> = None;
        while let Some(event) = events.try_next().await? {
            match (event, broken) {
                (WatchEvent::Deleted(_), None) => broken = Some(Instant::now()),
                (WatchEvent::Added(object) | WatchEvent::Modified(object), since) => {
                    let is_whole = whole(&serde_json::to_value(&object)?);
                    match since {
                        Some(since) if is_whole => return Ok(since.elapsed()),
                        None if !is_whole => broken = Some(Instant::now()),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        bail!("{name} was not repaired within a minute")
    };
    let ((), took) = tokio::try_join!(break_it, watching)?;
    Ok(took)
}
