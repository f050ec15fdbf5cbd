//! How an API server is reached: TCP and TLS, or whatever a simulation puts in their place.
use super::{fence::Fenced, transport::unusable};
use crate::{Fault, gate::Gate};
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
use std::time::Duration;
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
        install_crypto_provider();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_PROBE));
        tcp.set_keepalive_retries(Some(3));
        let gate = Gate::of_process();
        let tcp = tcp.map_response(move |stream| Fenced::new(stream, gate.clone()));
        let tls = config
            .rustls_https_connector_with_connector(tcp)
            .map_err(|_hidden| unusable())?;
        let pool: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(tls);
        let wire = pool
            .map_response(|answer| answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
            .map_err(BoxError::from);
        Ok(BoxCloneSyncService::new(wire))
    }
}

/// One crypto provider in the house. Losing the race for it is fine: the winner is the same.
fn install_crypto_provider() {
    // kube installs it too, but only when it builds a client by itself.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
