//! Startup, liveness and readiness probes: HTTP and TCP, from the node to the pod's address.
use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    header,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, Probe as ProbeSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::mpsc, time::Instant};

/// Until it has succeeded for the first time, a probe is also tried in between its periods, so that a program that is
/// up after 200 ms is not called unready for 10 s. A failure in between does not count.
const FIRST_EXTRA_TRY: Duration = Duration::from_millis(50);

/// What the probes of a container have found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Started,
    Ready,
    /// Not ready any more, and why.
    Unready(String),
    /// To be ended: which probe failed and why, and its own grace.
    Dead {
        message: String,
        grace: Option<Duration>,
    },
}

/// The probes of a running container; they end when this is dropped.
pub(super) struct Probes {
    findings: mpsc::Receiver<Finding>,
    task: tokio::task::AbortHandle,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Starts to probe a container that has just been started.
    pub(super) fn start(container: &Container, address: Ipv4Addr) -> Self {
        let probe = |spec: &Option<ProbeSpec>| spec.as_ref().map(|spec| Probe::new(spec, container, address));
        let (startup, liveness, readiness) = (
            probe(&container.startup_probe),
            probe(&container.liveness_probe),
            probe(&container.readiness_probe),
        );
        let (tell, findings) = mpsc::channel(4);
        let born = Instant::now();
        let task = tokio::spawn(async move {
            if let Some(startup) = startup
                && !startup.until_started(born, &tell).await
            {
                return;
            }
            if tell.send(Finding::Started).await.is_err() {
                return;
            }
            let liveness = async {
                if let Some(probe) = liveness {
                    probe.until_dead(born, &tell).await;
                }
            };
            let readiness = async {
                match readiness {
                    Some(probe) => probe.for_ever(born, &tell).await,
                    None => drop(tell.send(Finding::Ready).await),
                }
            };
            tokio::join!(liveness, readiness);
        });
        Self {
            findings,
            task: task.abort_handle(),
        }
    }

    /// The next finding; never returns once there can be none.
    pub(super) async fn next(&mut self) -> Finding {
        match self.findings.recv().await {
            Some(finding) => finding,
            None => std::future::pending().await,
        }
    }
}

/// One probe with everything resolved.
struct Probe {
    check: Check,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
    grace: Option<Duration>,
}

enum Check {
    Http {
        tls: bool,
        host: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: String,
        port: u16,
    },
    /// A probe that cannot succeed, and why.
    Impossible(String),
}

/// Successes and failures in a row. Pure.
#[derive(Default)]
struct Tally {
    successes: u32,
    failures: u32,
}

impl Tally {
    fn count(&mut self, success: bool) {
        if success {
            (self.successes, self.failures) = (self.successes + 1, 0);
        } else {
            (self.successes, self.failures) = (0, self.failures + 1);
        }
    }
}

impl Probe {
    fn new(spec: &ProbeSpec, container: &Container, address: Ipv4Addr) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| u64::try_from(value).ok())
                    .unwrap_or(default),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        Self {
            check: Check::new(spec, container, address),
            delay: seconds(spec.initial_delay_seconds, 0),
            period: seconds(spec.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(spec.timeout_seconds, 1).max(Duration::from_secs(1)),
            successes: count(spec.success_threshold, 1),
            failures: count(spec.failure_threshold, 3),
            grace: spec
                .termination_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
        }
    }

    async fn until_started(&self, born: Instant, tell: &mpsc::Sender<Finding>) -> bool {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        loop {
            let counts = rhythm.next(true).await;
            let result = self.check.run(self.timeout).await;
            if result.is_ok() || counts {
                tally.count(result.is_ok());
            }
            if tally.successes >= self.successes {
                return true;
            }
            if tally.failures >= self.failures {
                self.bury("startup", result, tell).await;
                return false;
            }
        }
    }

    async fn until_dead(&self, born: Instant, tell: &mpsc::Sender<Finding>) {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        loop {
            rhythm.next(false).await;
            let result = self.check.run(self.timeout).await;
            tally.count(result.is_ok());
            if tally.failures >= self.failures {
                return self.bury("liveness", result, tell).await;
            }
        }
    }

    async fn bury(&self, which: &str, result: Result<(), String>, tell: &mpsc::Sender<Finding>) {
        let problem = result.err().unwrap_or_default();
        let finding = Finding::Dead {
            message: format!("{which} probe failed: {problem}"),
            grace: self.grace,
        };
        let _ = tell.send(finding).await;
    }

    async fn for_ever(&self, born: Instant, tell: &mpsc::Sender<Finding>) {
        let mut tally = Tally::default();
        let mut rhythm = Rhythm::new(born + self.delay, self.period);
        let mut ready = false;
        let mut once_ready = false;
        loop {
            let counts = rhythm.next(!once_ready).await;
            let result = self.check.run(self.timeout).await;
            if result.is_ok() || counts {
                tally.count(result.is_ok());
            }
            let finding = if !ready && tally.successes >= self.successes {
                (ready, once_ready) = (true, true);
                Finding::Ready
            } else if ready && tally.failures >= self.failures {
                ready = false;
                Finding::Unready(format!(
                    "readiness probe failed: {}",
                    result.err().unwrap_or_default()
                ))
            } else {
                continue;
            };
            if tell.send(finding).await.is_err() {
                return;
            }
        }
    }
}

/// When to try: at the start, then every period; with `eager` also in between, at growing distances.
struct Rhythm {
    due: Instant,
    period: Duration,
    extra: Duration,
    next_extra: Instant,
}

impl Rhythm {
    fn new(first: Instant, period: Duration) -> Self {
        Self {
            due: first,
            period,
            extra: FIRST_EXTRA_TRY,
            next_extra: first,
        }
    }

    /// Waits for the next try; true if its failure counts.
    async fn next(&mut self, eager: bool) -> bool {
        if eager && self.next_extra < self.due {
            tokio::time::sleep_until(self.next_extra).await;
            self.plan_extra();
            return false;
        }
        tokio::time::sleep_until(self.due).await;
        self.due = Instant::now() + self.period;
        self.plan_extra();
        true
    }

    fn plan_extra(&mut self) {
        self.next_extra = Instant::now() + self.extra;
        self.extra = (self.extra * 2).min(self.period);
    }
}

impl Check {
    fn new(spec: &ProbeSpec, container: &Container, address: Ipv4Addr) -> Self {
        let host = |given: Option<&String>| match given {
            Some(host) if !host.is_empty() => host.clone(),
            _ => address.to_string(),
        };
        if let Some(http) = &spec.http_get {
            let Some(port) = port(&http.port, container) else {
                return Self::no_port(&http.port);
            };
            let headers = http.http_headers.iter().flatten();
            return Self::Http {
                tls: http.scheme.as_deref() == Some("HTTPS"),
                host: host(http.host.as_ref()),
                port,
                path: match http.path.as_deref() {
                    Some(path) if path.starts_with('/') => path.to_owned(),
                    other => format!("/{}", other.unwrap_or_default()),
                },
                headers: headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
            };
        }
        match &spec.tcp_socket {
            Some(tcp) => match port(&tcp.port, container) {
                Some(port) => Self::Tcp {
                    host: host(tcp.host.as_ref()),
                    port,
                },
                None => Self::no_port(&tcp.port),
            },
            None => Self::Impossible("the probe has no handler that this node knows".to_owned()),
        }
    }

    fn no_port(port: &IntOrString) -> Self {
        Self::Impossible(format!("the container declares no port {port:?}"))
    }

    async fn run(&self, limit: Duration) -> Result<(), String> {
        match tokio::time::timeout(limit, self.attempt()).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    async fn attempt(&self) -> anyhow::Result<()> {
        match self {
            Self::Impossible(why) => anyhow::bail!("{why}"),
            Self::Tcp { host, port } => {
                TcpStream::connect((host.as_str(), *port)).await?;
                Ok(())
            }
            Self::Http { tls, host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                if *tls {
                    let name = ServerName::try_from(host.clone())?;
                    self.get(TokioIo::new(trusting().connect(name, stream).await?))
                        .await
                } else {
                    self.get(TokioIo::new(stream)).await
                }
            }
        }
    }

    async fn get<S: Read + Write + Unpin + Send + 'static>(&self, stream: S) -> anyhow::Result<()> {
        let Self::Http {
            host,
            port,
            path,
            headers,
            ..
        } = self
        else {
            return Ok(());
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header(header::USER_AGENT, "openmcp-process-node");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(header::HOST, format!("{host}:{port}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await;
        connection.abort();
        let status = answer?.status();
        anyhow::ensure!(
            status.is_success() || status.is_redirection(),
            "{path} answered {status}"
        );
        Ok(())
    }
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// A probe asks whether somebody answers, not who: like the kubelet's, it accepts every certificate.
fn trusting() -> tokio_rustls::TlsConnector {
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
