//! The admin server: `/livez`, `/readyz` with named reasons, `/metrics` as OpenMetrics, `/debug/state`.
//!
//! Ready means: nothing that was named is waited for, and the workers of every controller of this process have
//! started, or another process leads.
use crate::{metrics, process};
use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// What is not ready yet, by name. /readyz is 200 only when nothing is. Cheap to clone.
///
/// ```
/// let readiness = openmcp_reconcile::admin::Readiness::default();
/// readiness.wait_for("onboarding cluster access");
/// assert_eq!(readiness.waiting(), ["onboarding cluster access"]);
/// readiness.done("onboarding cluster access");
/// assert!(readiness.waiting().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

impl Readiness {
    /// Names something that must happen before the process is ready ("onboarding cluster access").
    pub fn wait_for(&self, what: &'static str) {
        self.lock().insert(what);
    }
    /// It happened.
    pub fn done(&self, what: &'static str) {
        self.lock().remove(what);
    }
    /// What has not happened yet.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().iter().copied().collect()
    }
    fn lock(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `shutdown`. An address that cannot be bound is an error that names it.
pub async fn serve(bind: SocketAddr, readiness: Readiness, shutdown: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(bind).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on {bind} for health and metrics: {error}"),
        )
    })?;
    tracing::info!(%bind, "serving health and metrics");
    let service = router(readiness).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async |State(readiness): State<Readiness>| ready(&readiness, process::not_ready())),
        )
        .route("/metrics", get(async || exposition()))
        .route(
            "/debug/state",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| state(peer)),
        )
        .with_state(readiness)
}

fn ready(readiness: &Readiness, process: Vec<String>) -> Response {
    let waiting = readiness
        .waiting()
        .into_iter()
        .map(|what| format!("waiting for {what}"));
    let reasons: Vec<String> = waiting.chain(process).collect();
    match reasons.as_slice() {
        [] => "ok\n".into_response(),
        reasons => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", reasons.join("\n")),
        )
            .into_response(),
    }
}

fn exposition() -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Names objects of tenants, so only this machine may look.
fn state(peer: SocketAddr) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from this machine\n").into_response();
    }
    (
        [(header::CONTENT_TYPE, "application/json")],
        process::state().to_string(),
    )
        .into_response()
}

/// Parses Go's `:8080` form: an empty host part binds `$POD_IP`, else loopback (contract §3). Names other than
/// `localhost` are refused: what is bound must not depend on a resolver.
///
/// ```
/// use openmcp_reconcile::admin::parse_bind;
/// assert_eq!(parse_bind(":8080", Some("10.0.0.7")).unwrap().to_string(), "10.0.0.7:8080");
/// assert_eq!(parse_bind(":8080", None).unwrap().to_string(), "127.0.0.1:8080");
/// assert!(parse_bind("8080", None).is_err());
/// ```
pub fn parse_bind(text: &str, pod_ip: Option<&str>) -> Result<SocketAddr, String> {
    let wrong = || format!("{text:?} is no address to listen on: write :<port> or <ip>:<port>");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let ip = match (host, pod_ip.filter(|ip| !ip.is_empty())) {
        ("", Some(ip)) => ip
            .parse()
            .map_err(|_| format!("POD_IP is {ip:?}, which is no IP address"))?,
        ("" | "localhost", _) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        (host, _) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| wrong())?,
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(at: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_metrics_and_state_are_served_until_the_shutdown() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        readiness.wait_for("the platform");
        let server = tokio::spawn(serve(port, readiness, shutdown.clone()));
        while tokio::net::TcpStream::connect(port).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(fetch(port, "/livez").await.starts_with("HTTP/1.1 200"));
        let ready = fetch(port, "/readyz").await;
        assert!(
            ready.starts_with("HTTP/1.1 503") && ready.contains("waiting for the platform\n"),
            "{ready}"
        );
        let metrics = fetch(port, "/metrics").await;
        assert!(
            metrics.contains("application/openmetrics-text") && metrics.contains("# EOF"),
            "{metrics}"
        );
        assert!(fetch(port, "/debug/state").await.contains("\"controllers\""));
        let second = serve(port, Readiness::default(), CancellationToken::new())
            .await
            .unwrap_err();
        assert!(second.to_string().contains(&port.to_string()), "{second}");
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }

    #[test]
    fn ready_means_that_nothing_is_waited_for_and_workers_run() {
        let readiness = Readiness::default();
        assert_eq!(ready(&readiness, vec![]).status(), StatusCode::OK);
        let idle = vec!["the workers of x have not started".to_owned()];
        assert_eq!(ready(&readiness, idle).status(), StatusCode::SERVICE_UNAVAILABLE);
        readiness.wait_for("a");
        assert_eq!(
            ready(&readiness, vec![]).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        readiness.done("a");
        assert_eq!(ready(&readiness, vec![]).status(), StatusCode::OK);
    }

    #[test]
    fn only_this_machine_sees_the_state() {
        assert_eq!(state(([10, 0, 0, 1], 1).into()).status(), StatusCode::FORBIDDEN);
        assert_eq!(state(([127, 1, 2, 3], 1).into()).status(), StatusCode::OK);
    }

    #[test]
    fn addresses_are_parsed_as_go_writes_them() {
        let parse = |text, pod_ip| parse_bind(text, pod_ip).map(|at| at.to_string());
        assert_eq!(parse("[::1]:80", None).unwrap(), "[::1]:80");
        assert_eq!(parse("0.0.0.0:80", Some("10.0.0.1")).unwrap(), "0.0.0.0:80");
        assert_eq!(parse("localhost:80", None).unwrap(), "127.0.0.1:80");
        assert_eq!(parse(":80", Some("fd00::7")).unwrap(), "[fd00::7]:80");
        for wrong in ["", "80", ":", ":http", ":99999", "example.com:80"] {
            assert!(parse(wrong, None).is_err(), "{wrong}");
        }
        assert!(parse(":80", Some("nonsense")).unwrap_err().contains("POD_IP"));
    }
}
