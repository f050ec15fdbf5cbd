//! The way of a watch's events to the process.
use super::{Network, WatchTrouble};
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use openmcp_reconcile::cluster::Reply;
use std::{collections::HashMap, sync::atomic::Ordering};
use tower::BoxError;

impl Network {
    /// The events of a watch, through whatever troubles there are when each comes.
    pub(super) fn watch(self, host: String, reply: Reply) -> Reply {
        let opened = self.0.breaks.load(Ordering::Relaxed);
        let (parts, body) = reply.into_parts();
        let relay = Relay {
            events: body.into_data_stream().boxed(),
            network: self,
            host,
            opened,
            count: 0,
            held: Vec::new(),
        };
        let frames = relay.stream().map(|event| Ok::<_, BoxError>(Frame::data(event)));
        Reply::from_parts(parts, StreamBody::new(frames).boxed_unsync())
    }
}

struct Relay<S> {
    events: S,
    network: Network,
    host: String,
    opened: u64,
    count: u32,
    held: Vec<Bytes>,
}

impl<S: Stream<Item = Result<Bytes, BoxError>> + Unpin + Send> Relay<S> {
    fn stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, async |mut relay| {
            let event = relay.next().await?;
            Some((event, relay))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let broken = self.network.0.broken.notified();
            let since = |troubles: &HashMap<String, u64>, host: &str, opened: u64| {
                troubles.get(host).is_some_and(|at| *at > opened)
            };
            let (closed, silent, trouble) = {
                let state = self.network.state();
                (
                    since(&state.closed, &self.host, self.opened),
                    since(&state.silent, &self.host, self.opened),
                    state.watches.get(&self.host).copied(),
                )
            };
            if closed {
                return None;
            }
            if silent {
                broken.await;
                continue;
            }
            if trouble != Some(WatchTrouble::Reordered)
                && let Some(event) = self.held.pop()
            {
                return Some(event);
            }
            let event = tokio::select! {
                biased;
                () = broken => continue,
                event = self.events.next() => event?.ok()?,
            };
            self.count += 1;
            let is_bookmark = is_bookmark(&event);
            match trouble {
                Some(WatchTrouble::NoBookmarks) if is_bookmark => {}
                Some(WatchTrouble::Missed(every)) if !is_bookmark && self.count.is_multiple_of(every) => {}
                Some(WatchTrouble::Doubled) => {
                    self.held.push(event.clone());
                    return Some(event);
                }
                Some(WatchTrouble::Reordered) if self.held.is_empty() => self.held.push(event),
                Some(WatchTrouble::Late(time)) => {
                    tokio::time::sleep(time).await;
                    return Some(event);
                }
                _ => return Some(event),
            }
        }
    }
}

fn is_bookmark(event: &[u8]) -> bool {
    event.starts_with(b"{\"object\":") && event.windows(10).any(|part| part == b"\"BOOKMARK\"")
}
