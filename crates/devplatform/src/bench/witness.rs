//! Objects as an outsider sees them: watch events with the time at which each arrived. All times are taken here.
use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{Client, core::WatchEvent};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

/// As much of an object as is looked at.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Seen {
    pub(super) metadata: Meta,
    /// Of a ConfigMap.
    #[serde(default)]
    pub(super) data: BTreeMap<String, String>,
    /// Of a service object.
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) generation: i64,
    pub(super) deletion_timestamp: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default)]
    pub(super) phase: String,
    #[serde(default)]
    pub(super) observed_generation: i64,
}

impl Seen {
    /// A service object that is as its newest wish.
    pub(super) fn is_ready(&self) -> bool {
        self.status.phase == "Ready" && self.status.observed_generation == self.metadata.generation
    }
}

/// One event.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) at: Instant,
    pub(super) deleted: bool,
    pub(super) object: Seen,
}

/// A watch of one collection. Ends when it is dropped.
pub(super) struct Witness {
    sights: UnboundedReceiver<Sight>,
    task: JoinHandle<()>,
    what: String,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Witness {
    /// Sees every change of a collection (`/api/v1/namespaces/x/configmaps`) from now on.
    pub(super) async fn of(client: &Client, collection: &str) -> Result<Self> {
        let list: Value = client.request(get(format!("{collection}?limit=1"))?).await?;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .with_context(|| format!("{collection} has no resourceVersion"))?
            .to_owned();
        let (send, sights) = unbounded_channel();
        let (client, what) = (client.clone(), collection.to_owned());
        let task = tokio::spawn(async move {
            let mut version = version;
            // A watch ends after its time, or with its API server; it goes on where it was.
            while follow(&client, &what, &mut version, &send).await.is_ok() {}
        });
        Ok(Self {
            sights,
            task,
            what: collection.to_owned(),
        })
    }

    /// The next event; an error after `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Sight> {
        match tokio::time::timeout(patience, self.sights.recv()).await {
            Ok(Some(sight)) => Ok(sight),
            Ok(None) => bail!("the watch of {} ended", self.what),
            Err(_elapsed) => bail!("nothing happened to {} within {patience:?}", self.what),
        }
    }

    /// Forgets what has arrived and was not looked at.
    pub(super) fn clear(&mut self) {
        while self.sights.try_recv().is_ok() {}
    }
}

async fn follow(
    client: &Client,
    collection: &str,
    version: &mut String,
    send: &UnboundedSender<Sight>,
) -> Result<()> {
    let query = format!("{collection}?watch=1&resourceVersion={version}&timeoutSeconds=3600");
    let mut events = std::pin::pin!(client.request_events::<Seen>(get(query)?).await?);
    while let Some(event) = events.try_next().await? {
        let at = Instant::now();
        let (deleted, object) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (false, object),
            WatchEvent::Deleted(object) => (true, object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => bail!("the watch of {collection} failed: {}", status.message),
        };
        version.clone_from(&object.metadata.resource_version);
        let sight = Sight { at, deleted, object };
        if send.send(sight).is_err() {
            bail!("nobody looks any more");
        }
    }
    Ok(())
}

/// A GET of a path.
pub(super) fn get(path: String) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
