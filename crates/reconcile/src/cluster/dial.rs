//! How an API server is reached: TCP and TLS, or whatever a simulation puts in their place.
use super::{fence::Fenced, transport::unusable};
use crate::{Fault, gate::Gate};
use arc_swap::ArcSwap;
use axum::body::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use std::{sync::Arc, time::Duration};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

/// To a TCP connection.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent peer is asked after this time, and given up after three unanswered questions.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_PROBE: Duration = Duration::from_secs(8);

/// An API server's answer, its body as it arrives.
pub type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Takes requests to one API server: with its address and the credentials, without a bound on its time.
pub type Wire = BoxCloneSyncService<Request<Body>, Reply, BoxError>;

/// Reaches API servers.
pub trait Dial: Send + Sync + 'static {
    /// The wire to the server of a configuration, under its client certificate if it has one. No request is sent.
    fn dial(&self, config: &Config) -> Result<Wire, Fault>;
}

/// TCP and TLS, with a pool of connections: what a real process has, and what a test puts its faults in front of.
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, config: &Config) -> Result<Wire, Fault> {
        gated(config, Gate::of_process())
    }
}

/// A wire of connections that end with the gate.
fn gated(config: &Config, gate: Gate) -> Result<Wire, Fault> {
    install_crypto_provider();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE_PROBE));
    tcp.set_keepalive_retries(Some(3));
    let fence = gate.clone();
    let tcp = tcp.map_response(move |stream| Fenced::new(stream, fence.clone()));
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .map_err(|_hidden| unusable())?;
    let pool = move || HttpClient::builder(TokioExecutor::new()).build::<_, Body>(tls.clone());
    // Through connections of a term of leadership that has ended nothing is sent any more: after it, each would cost the
    // request that finds it in the pool, and a few of those open the breaker for a server that answers.
    let current = Arc::new(ArcSwap::from_pointee((gate.term(), pool())));
    let wire = tower::service_fn(move |request| {
        let term = gate.term();
        if current.load().0 != term {
            current.store(Arc::new((term, pool())));
        }
        let pool = current.load().1.clone();
        async move { pool.oneshot(request).await }
    });
    let wire = wire
        .map_response(|answer: Response<_>| {
            answer.map(|body| BodyExt::map_err(body, BoxError::from).boxed_unsync())
        })
        .map_err(BoxError::from);
    Ok(BoxCloneSyncService::new(wire))
}

/// One crypto provider in the house. Losing the race for it is fine: the winner is the same.
fn install_crypto_provider() {
    // kube installs it too, but only when it builds a client by itself.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers everything, and counts its connections.
    async fn server() -> (Config, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while matches!(stream.read(&mut request).await, Ok(1..)) {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        (Config::new(uri.parse().unwrap()), connections)
    }

    #[tokio::test]
    async fn whoever_leads_again_uses_no_connection_of_the_time_before() {
        let (config, connections) = server().await;
        let gate = Gate::new();
        let wire = gated(&config, gate.clone()).unwrap();
        let ask = async || {
            let request = Request::get(config.cluster_url.clone()).body(Body::empty());
            let answer = wire.clone().oneshot(request.unwrap()).await;
            answer.unwrap().into_body().collect().await.unwrap();
        };
        // Two connections wait in the pool.
        futures::future::join(ask(), ask()).await;
        ask().await;
        assert_eq!(connections.load(Ordering::Relaxed), 2);
        gate.end();
        gate.open_until(tokio::time::Instant::now() + Duration::from_secs(3600));
        ask().await;
        ask().await;
        assert_eq!(
            connections.load(Ordering::Relaxed),
            3,
            "a new one, which is used again"
        );
    }
}
