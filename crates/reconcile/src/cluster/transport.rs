//! The HTTP stack under a kube client, whose credentials can be exchanged while it is in use.
use super::{
    breaker::Fare,
    dial::{Reply, Wire},
    rails::{self, Rails},
    retry_after::carried,
};
use crate::{Fault, gate::Gate, metrics};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneSyncService, util::option_layer};

/// To the head of any answer, and to the end of one that is not streamed.
const ANSWER: Duration = if cfg!(test) {
    Duration::from_millis(300)
} else {
    Duration::from_secs(30)
};

/// A watch that shows nothing, not even a bookmark, for so long has stalled (fault 4). The API server ends each of ours
/// before: see [`crate::watch::RENEWAL`].
const STALL: Duration = if cfg!(test) {
    Duration::from_secs(1)
} else {
    Duration::from_secs(58)
};

type WatchBody = http_body_util::combinators::UnsyncBoxBody<axum::body::Bytes, BoxError>;
type Stack = BoxCloneSyncService<Request<Body>, Reply, BoxError>;

/// A pool of connections to one server under one client certificate, or none.
#[derive(Clone)]
pub(super) struct Transport(Stack);

impl Transport {
    /// Over connections that are not made yet.
    pub(super) fn new(wire: Wire) -> Self {
        let pool = tower::service_fn(move |request: Request<Body>| bounded(wire.clone(), request));
        Self(BoxCloneSyncService::new(pool))
    }

    /// The pool, with the server's address and the credentials of a configuration added to each request.
    pub(super) fn stack(&self, config: &Config) -> Result<Stack, Fault> {
        let headers = config.extra_headers_layer().map_err(|_hidden| unusable())?;
        let credentials = config.auth_layer().map_err(|_hidden| unusable())?;
        let service = headers.layer(self.0.clone());
        let service = option_layer(credentials).layer(service);
        let service = config.base_uri_layer().layer(service);
        Ok(BoxCloneSyncService::new(service.map_err(BoxError::from)))
    }
}

/// The causes may quote keys.
pub(super) fn unusable() -> Fault {
    Fault::invalid(
        "InvalidKubeconfig",
        "the kubeconfig's certificates, key or token cannot be used",
    )
}

/// One request within its time. What is not streamed is read whole before it counts as answered.
async fn bounded(wire: Wire, request: Request<Body>) -> Result<Reply, BoxError> {
    let (watch, follow) = (asks_for(&request, "watch"), asks_for(&request, "follow"));
    let (method, host) = (
        request.method().clone(),
        request.uri().host().unwrap_or_default().to_owned(),
    );
    metrics::api_request(&request);
    let start = Instant::now();
    let exchange = async {
        let answer = wire.oneshot(request).await;
        let code = answer.as_ref().map_or_else(
            |_| "<error>".to_owned(),
            |answer| answer.status().as_str().to_owned(),
        );
        metrics::request(&method, &host, &code, start.elapsed());
        let (mut parts, body) = answer?.into_parts();
        let streamed = parts.status.is_success();
        let body = match (watch && streamed, follow && streamed) {
            (true, _) => impatient(body),
            (false, true) => body,
            (false, false) => Full::new(carried(&mut parts, body.collect().await?.to_bytes()))
                .map_err(|never| match never {})
                .boxed_unsync(),
        };
        Ok(Response::from_parts(parts, body))
    };
    match tokio::time::timeout(ANSWER, exchange).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("{host} did not answer within {ANSWER:?}").into()),
    }
}

/// Whether a query parameter is set, as clients write it.
fn asks_for(request: &Request<Body>, parameter: &str) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| {
        pair.strip_prefix(parameter)
            .is_some_and(|value| matches!(value, "=true" | "=1"))
    })
}

/// The body of a watch, which ends with an error when it has stalled.
fn impatient(body: WatchBody) -> WatchBody {
    let frames = futures::stream::unfold(Some(body), async |body| {
        let mut body = body?;
        match tokio::time::timeout(STALL, body.frame()).await {
            Ok(frame) => Some((frame?, Some(body))),
            Err(_elapsed) => Some((Err(format!("the watch was silent for {STALL:?}").into()), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The service that a kube client holds: whatever stack is current when a request is sent.
#[derive(Clone)]
pub(super) struct Swappable {
    current: Arc<ArcSwap<Shared>>,
    rails: Arc<Rails>,
    gate: Gate,
}

struct Shared(Stack);

impl Swappable {
    pub(super) fn new(stack: Stack, rails: Arc<Rails>, gate: Gate) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(Shared(stack))),
            rails,
            gate,
        }
    }

    /// How the connection fares.
    pub(super) fn fare(&self) -> Fare {
        self.rails.fare()
    }

    /// Requests from now on go through `stack`.
    pub(super) fn swap(&self, stack: Stack) {
        self.current.store(Arc::new(Shared(stack)));
    }
}

impl Service<Request<Body>> for Swappable {
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_gated(request.method(), request.uri().path()) && !self.gate.is_open() {
            return Box::pin(async {
                Err("this process does not write now: it does not lead, or only looks".into())
            });
        }
        let (stack, rails, gate) = (self.current.clone(), self.rails.clone(), self.gate.clone());
        Box::pin(async move {
            let free = asks_for(&request, "watch") || is_lease(request.uri().path());
            let reads = request.method().is_safe();
            let permit = rails.admit(free).await?;
            let (stack, term) = (stack.load().0.clone(), gate.term());
            let answer = rails.exchange(free, stack.oneshot(request)).await;
            let reply = match &answer {
                Err(_) => rails::Reply::None,
                Ok(answer) if matches!(answer.status().as_u16(), 429 | 503) => rails::Reply::Refused,
                Ok(_) if reads => rails::Reply::Read,
                Ok(_) => rails::Reply::Wrote,
            };
            // What the fence has cut says nothing of the server.
            if answer.is_ok() || !gate.has_ended_since(term) {
                rails.note(permit, reply);
            }
            answer
        })
    }
}

/// Writes need leadership, except those by which it is asked for or reported.
fn is_gated(method: &Method, path: &str) -> bool {
    let write = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    write && !is_lease(path) && !path.starts_with("/apis/events.k8s.io/")
}

fn is_lease(path: &str) -> bool {
    path.starts_with("/apis/coordination.k8s.io/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::dial::{Dial, Tcp},
        *,
    };
    use axum::body::Bytes;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a server does with a request.
    async fn server(answer: &'static str, then_silent: bool) -> http::Uri {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if !matches!(stream.read(&mut request).await, Ok(1..)) {
                    continue;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                if then_silent {
                    std::mem::forget(stream);
                }
            }
        });
        uri
    }

    async fn ask(server: &http::Uri, path_and_query: &str) -> Result<Reply, BoxError> {
        let config = Config::new(server.clone());
        let stack = Transport::new(Tcp.dial(&config).unwrap()).stack(&config).unwrap();
        let request = Request::get(path_and_query).body(Body::empty()).unwrap();
        stack.oneshot(request).await
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_given_up_but_a_watch_may_be_silent() {
        let mute = server("", true).await;
        let start = Instant::now();
        assert!(
            ask(&mute, "/api")
                .await
                .unwrap_err()
                .to_string()
                .contains("did not answer within")
        );
        let half = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true).await;
        assert!(ask(&half, "/api").await.is_err());
        assert!(start.elapsed() < Duration::from_secs(3));
        let mut watch = ask(&half, "/api/v1/pods?watch=true").await.unwrap().into_body();
        assert_eq!(watch.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert!(
            tokio::time::timeout(2 * ANSWER, watch.frame()).await.is_err(),
            "it stays open"
        );
        let stalled = watch.frame().await.unwrap().unwrap_err();
        assert!(stalled.to_string().contains("silent"), "{stalled}");
        assert!(watch.frame().await.is_none(), "and it is over");
    }

    #[tokio::test]
    async fn a_truncated_answer_is_an_error() {
        let cut = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false).await;
        assert!(ask(&cut, "/api").await.is_err());
    }

    #[tokio::test]
    async fn a_closed_gate_stops_writes_but_not_reads_nor_the_lease() {
        let answers = tower::service_fn(async |_: Request<Body>| {
            let empty = Full::new(Bytes::new()).map_err(|never| match never {});
            Ok::<_, BoxError>(Response::new(empty.boxed_unsync()))
        });
        let gate = Gate::new();
        let rails = Rails::new("https://server/".into(), None);
        let service = Swappable::new(BoxCloneSyncService::new(answers), rails, gate.clone());
        let send = async |method: Method, path: &'static str| {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = method;
            *request.uri_mut() = http::Uri::from_static(path);
            service.clone().oneshot(request).await.is_ok()
        };
        assert!(send(Method::PATCH, "/api/v1/namespaces/a").await);
        gate.close();
        assert!(!send(Method::PATCH, "/api/v1/namespaces/a").await);
        assert!(!send(Method::DELETE, "/apis/apps/v1/namespaces/a/deployments/x").await);
        assert!(send(Method::GET, "/api/v1/namespaces/a").await);
        assert!(send(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/x").await);
    }
}
