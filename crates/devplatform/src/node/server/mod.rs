//! What the API server asks a node for: `kubectl logs`. Over TLS, and only for bearers of the API server's own kubelet
//! client certificate. Everything else that a kubelet would serve is answered with a sentence.
mod query;
mod stream;

use super::{
    Node,
    container::{Logs, finished, message_of},
};
use anyhow::Context;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper_util::rt::TokioIo;
use query::LogQuery;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

type Body = BoxBody<Bytes, Infallible>;

/// The node's own port, open.
pub(super) struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
}

/// Opens the port, so that a port in use or an unreadable certificate is said when the node starts.
pub(super) async fn bind(node: &Node) -> anyhow::Result<Listener> {
    let config = &node.config;
    let at = (config.address, config.kubelet_port);
    let socket = TcpListener::bind(at)
        .await
        .with_context(|| format!("cannot listen on {}:{}", at.0, at.1))?;
    let mut clients = RootCertStore::empty();
    for certificate in certificates(&config.client_ca)? {
        clients.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(clients)).build()?;
    let key = PrivateKeyDer::from_pem_file(&config.serving_key)
        .with_context(|| format!("cannot read {}", config.serving_key.display()))?;
    let tls = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&config.serving_cert)?, key)?;
    Ok(Listener {
        socket,
        tls: TlsAcceptor::from(Arc::new(tls)),
    })
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Serves for ever.
pub(super) async fn run(node: Arc<Node>, listener: Listener) {
    loop {
        match listener.socket.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(node.clone(), listener.tls.clone(), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(node: Arc<Node>, tls: TlsAcceptor, stream: TcpStream) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await else {
        return;
    };
    let service = hyper::service::service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(answer(&node, &request)) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A refusal: what to answer instead.
struct Refusal(StatusCode, String);

fn answer(node: &Node, request: &Request<Incoming>) -> Response<Body> {
    let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    let outcome = match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz"]) => Ok(text(StatusCode::OK, "ok".to_owned())),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => logs(
            node,
            namespace,
            pod,
            container,
            request.uri().query().unwrap_or_default(),
        ),
        (_, [what @ ("exec" | "attach" | "portForward" | "run"), ..]) => Err(Refusal(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "{what} is not supported by the process node, a development node; use a cluster with a kubelet (kind) for it"
            ),
        )),
        _ => Err(Refusal(
            StatusCode::NOT_FOUND,
            "the process node serves /containerLogs only".to_owned(),
        )),
    };
    outcome.unwrap_or_else(|Refusal(status, message)| text(status, message))
}

fn logs(
    node: &Node,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    let query = LogQuery::parse(query).map_err(|problem| Refusal(StatusCode::BAD_REQUEST, problem))?;
    let listed = node.registry.find(namespace, pod).ok_or_else(|| {
        let message = format!("pod {namespace}/{pod} is not on this node");
        Refusal(StatusCode::NOT_FOUND, message)
    })?;
    let (logs, status) = match (listed.logs.get(container), listed.board.now().remove(container)) {
        (Some(logs), Some(status)) => (logs.clone(), status),
        _ => {
            let message = format!("pod {namespace}/{pod} has no container {container:?}");
            return Err(Refusal(StatusCode::NOT_FOUND, message));
        }
    };
    let waits = finished(&status).is_none() && status.state.as_ref().is_none_or(|s| s.running.is_none());
    let attempt = which(&logs, query.previous, waits).ok_or_else(|| {
        let message = match query.previous {
            true => format!("previous terminated container {container:?} in pod {pod:?} not found"),
            false => format!(
                "container {container:?} in pod {pod:?} is waiting to start: {}",
                message_of(&status).unwrap_or("ContainerCreating")
            ),
        };
        Refusal(StatusCode::BAD_REQUEST, message)
    })?;
    let chunks = stream::chunks(logs, attempt, query);
    let frames = futures::StreamExt::map(chunks, |bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    Ok(response)
}

/// The start whose log is meant. While a container waits for its next start, its last end is the newest and also the
/// previous one.
fn which(logs: &Logs, previous: bool, waits: bool) -> Option<i32> {
    let newest = logs.live().borrow().attempt?;
    match (previous, waits) {
        (false, _) | (true, true) => Some(newest),
        (true, false) => Some(newest - 1).filter(|attempt| logs.has(*attempt)),
    }
}

fn text(status: StatusCode, message: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(message)).boxed());
    *response.status_mut() = status;
    response
}
