//! Faults on the way to a real API server: a layer around the wire of a connection, which asks a plan about each
//! request.
use futures::StreamExt;
use http::{Request, Response, header};
use http_body_util::{BodyExt, BodyStream, Full, Limited, StreamBody};
use kube::{Config, client::Body};
use openmcp_reconcile::{
    Fault,
    cluster::{Dial, Reply, Tcp, Wire},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneSyncService};

/// What becomes of a request.
pub(crate) enum Trouble {
    /// The server is not asked; somebody before it answers so, with `Retry-After` in seconds if there is one.
    Refused(u16, Option<u32>),
    /// The server does it, and its answer is lost.
    AnswerLost,
    /// The server does it, and its answer breaks off after so many bytes.
    Cut(usize),
    /// It takes this time more.
    Slow(Duration),
    /// It is kept back until this is true.
    Held(watch::Receiver<bool>),
    /// A watch that breaks off when this changes.
    Until(watch::Receiver<u32>),
    /// A watch that is told that its resourceVersion is too old.
    TooOld,
}

/// What becomes of which request.
pub(crate) type Plan = Arc<dyn Fn(&Request<Body>) -> Option<Trouble> + Send + Sync>;

/// The real network, with troubles.
pub(crate) struct Troubled(pub(crate) Plan);

impl Dial for Troubled {
    fn dial(&self, config: &Config) -> Result<Wire, Fault> {
        let (wire, plan) = (Tcp.dial(config)?, self.0.clone());
        Ok(BoxCloneSyncService::new(service_fn(
            move |request: Request<Body>| {
                let trouble = plan(&request);
                suffer(wire.clone(), request, trouble)
            },
        )))
    }
}

async fn suffer(wire: Wire, request: Request<Body>, trouble: Option<Trouble>) -> Result<Reply, BoxError> {
    match trouble {
        Some(Trouble::Refused(code, after)) => return refusal(code, after),
        Some(Trouble::TooOld) => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "Expired", "message": "too old resource version", "code": 410});
            let event = json!({"type": "ERROR", "object": status});
            return answer(Response::builder(), format!("{event}\n"));
        }
        Some(Trouble::Slow(time)) => tokio::time::sleep(time).await,
        Some(Trouble::Held(mut gate)) => drop(gate.wait_for(|open| *open).await?),
        Some(Trouble::AnswerLost) => {
            wire.oneshot(request).await?.into_body().collect().await?;
            return Err("the connection was closed".into());
        }
        Some(Trouble::Cut(bytes)) => {
            let reply = wire.oneshot(request).await?;
            return Ok(reply.map(|body| Limited::new(body, bytes).boxed_unsync()));
        }
        Some(Trouble::Until(mut end)) => {
            end.mark_unchanged();
            let reply = wire.oneshot(request).await?;
            return Ok(reply.map(|body| {
                let frames = BodyStream::new(body).take_until(Box::pin(async move { end.changed().await }));
                StreamBody::new(frames).boxed_unsync()
            }));
        }
        None => {}
    }
    wire.oneshot(request).await
}

fn refusal(code: u16, after: Option<u32>) -> Result<Reply, BoxError> {
    let mut head = Response::builder().status(code);
    if let Some(after) = after {
        head = head.header(header::RETRY_AFTER, after);
    }
    // Not every answer comes from an API server.
    answer(head, "not now\n".to_owned())
}

fn answer(head: http::response::Builder, text: String) -> Result<Reply, BoxError> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    Ok(head.body(body.boxed_unsync())?)
}

pub(crate) fn is_write(request: &Request<Body>) -> bool {
    request.method() != http::Method::GET
}

pub(crate) fn is_watch(request: &Request<Body>) -> bool {
    query(request).contains("watch=")
}

/// A page of a list of ConfigMaps.
pub(crate) fn is_list(request: &Request<Body>) -> bool {
    !is_write(request) && !is_watch(request) && request.uri().path().ends_with("/configmaps")
}

pub(crate) fn is_next_page(request: &Request<Body>) -> bool {
    is_list(request) && query(request).contains("continue=")
}

fn query(request: &Request<Body>) -> &str {
    request.uri().query().unwrap_or_default()
}
