//! Waiting by watch, with a bound, and with the last state in the error.
use crate::kinds::{self, api};
use anyhow::{Result, anyhow};
use futures::StreamExt;
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use std::time::Duration;

/// The longest that anything in the suites may take; machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until the object `name` satisfies `holds`, told of with `None` when it is absent.
pub async fn until(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    holds: impl Fn(Option<&Value>) -> bool,
) -> Result<Value> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api.clone(), config));
    let mut last: Option<Value> = None;
    let mut listed = None;
    let waiting = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    // Nothing is known before the list is complete: an object is not "gone" here.
                    listed = None;
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => listed = Some(serde_json::to_value(&object)?),
                Ok(watcher::Event::InitDone) => last = listed.take(),
                Ok(watcher::Event::Apply(object)) => last = Some(serde_json::to_value(&object)?),
                Ok(watcher::Event::Delete(_)) => last = None,
                Err(error) => {
                    eprintln!("watching {name} for `{what}`: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            }
            if listed.is_none() && holds(last.as_ref()) {
                return Ok(last.clone().unwrap_or(Value::Null));
            }
        }
        Err(anyhow!("the watch on {name} ended"))
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(anyhow!(
            "{name}: `{what}` did not come true within {} s; last seen: {}",
            PATIENCE.as_secs(),
            last.map_or_else(
                || "absent".to_string(),
                |value| serde_json::to_string_pretty(&brief(value)).unwrap_or_default()
            ),
        )),
    }
}

/// Waits until the object is gone.
pub async fn gone(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    until(api, name, "gone", |live| live.is_none()).await.map(drop)
}

/// Waits for `status.phase`.
pub async fn phase(api: &Api<DynamicObject>, name: &str, phase: &str) -> Result<Value> {
    until(api, name, &format!("phase {phase}"), |live| {
        live.is_some_and(|o| o["status"]["phase"] == phase)
    })
    .await
}

/// Waits until the condition `type_` has `status` and its message contains `message`; returns the condition.
pub async fn condition(
    api: &Api<DynamicObject>,
    name: &str,
    type_: &str,
    status: &str,
    message: &str,
) -> Result<Value> {
    let what = format!("condition {type_}={status} with `{message}`");
    let object = until(api, name, &what, |live| {
        live.and_then(|o| find(o, type_)).is_some_and(|c| {
            c["status"] == status && c["message"].as_str().unwrap_or_default().contains(message)
        })
    })
    .await?;
    Ok(find(&object, type_).cloned().unwrap_or(Value::Null))
}

/// Waits for an Event about `name` whose message contains every one of `texts`; returns its message.
pub async fn event(client: &Client, namespace: &str, name: &str, texts: &[&str]) -> Result<String> {
    let events = api(client, &kinds::event(), namespace);
    let config = watcher::Config::default().fields(&format!("involvedObject.name={name}"));
    let mut stream = std::pin::pin!(watcher(events, config).default_backoff().applied_objects());
    let mut said: Vec<String> = Vec::new();
    let waiting = async {
        while let Some(event) = stream.next().await {
            let Ok(event) = event else { continue };
            let message = event.data["message"].as_str().unwrap_or_default();
            if texts.iter().all(|text| message.contains(text)) {
                return Ok(message.to_owned());
            }
            said.push(message.to_owned());
        }
        Err(anyhow!("the watch on the Events about {name} ended"))
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(result) => result,
        Err(_) => Err(anyhow!(
            "no Event about {name} says {texts:?} within {} s; they say {said:#?}",
            PATIENCE.as_secs()
        )),
    }
}

/// A condition of an object by type.
pub fn find<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == type_)
}

/// What a person would look at first.
fn brief(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("data");
    }
    object
}
