//! One try of a probe: does somebody answer at the pod's address?
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
use tokio::net::TcpStream;

/// What to try, with host and port resolved.
pub(super) enum Check {
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

impl Check {
    pub(super) fn new(spec: &ProbeSpec, container: &Container, address: Ipv4Addr) -> Self {
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

    /// Tries once; the error is what a person should read.
    pub(super) async fn run(&self, limit: Duration) -> Result<(), String> {
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
