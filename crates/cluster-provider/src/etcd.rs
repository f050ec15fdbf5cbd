//! The little that is needed of etcd: counting and deleting the keys of one prefix, over its JSON gateway with
//! mutual TLS. It knows nothing of Clusters.
use data_encoding::BASE64;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One request, connection set-up included.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Answers hold counts only.
const MAX_ANSWER: usize = 64 * 1024;

/// What a client of etcd needs, as it stands in a Secret. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// One or more `https://host:port`, comma-separated.
    pub(crate) endpoints: String,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// Why etcd could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("the etcd access is not usable: {0}")]
    Access(String),
    #[error("etcd at {endpoint} cannot be reached: {cause}")]
    Unreachable { endpoint: String, cause: String },
    #[error("etcd at {endpoint} answered {status} to {path}")]
    Refused {
        endpoint: String,
        path: &'static str,
        status: StatusCode,
    },
    #[error("etcd at {endpoint} gave an answer that is not understood")]
    Answer {
        endpoint: String,
        #[source]
        source: serde_json::Error,
    },
}

/// All keys below one prefix: `<prefix>/` up to, without, `<prefix>0` (`0` follows `/`). A sibling whose name
/// merely starts with the same letters (`mcp-1`, `mcp-10`) is outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subtree {
    start: String,
    end: String,
}

impl Subtree {
    /// `prefix` without a trailing slash, such as `/hosted/<uid>`.
    pub(crate) fn below(prefix: &str) -> Self {
        Self {
            start: format!("{prefix}/"),
            end: format!("{prefix}0"),
        }
    }
    fn request(&self, count_only: bool) -> Value {
        let mut request = json!({"key": BASE64.encode(self.start.as_bytes()), "range_end": BASE64.encode(self.end.as_bytes())});
        if count_only {
            request["count_only"] = json!(true);
        }
        request
    }
    #[cfg(test)]
    fn holds(&self, key: &str) -> bool {
        self.start.as_str() <= key && key < self.end.as_str()
    }
}

/// A client of one etcd.
pub(crate) struct Etcd {
    endpoint: Uri,
    connector: TlsConnector,
}

/// What emptying a subtree came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emptied {
    pub(crate) deleted: u64,
    pub(crate) left: u64,
}

/// The gateway writes 64-bit numbers as strings and leaves zeros out.
#[derive(Deserialize)]
struct Count {
    #[serde(default)]
    count: Option<String>,
    #[serde(default)]
    deleted: Option<String>,
}

impl Etcd {
    /// A client from what stands in the Secret. Nothing is sent.
    pub(crate) fn new(access: &Access) -> Result<Self, EtcdError> {
        let bad = |what: &str| EtcdError::Access(what.to_owned());
        let first = access.endpoints.split(',').next().unwrap_or_default().trim();
        let endpoint: Uri = first
            .parse()
            .map_err(|_| bad("`endpoints` is not an https URL"))?;
        if endpoint.scheme_str() != Some("https") || endpoint.host().is_none() {
            return Err(bad("`endpoints` is not an https URL"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(access.ca.as_bytes()) {
            let certificate = certificate.map_err(|_| bad("`ca.crt` is not PEM"))?;
            roots
                .add(certificate)
                .map_err(|_| bad("`ca.crt` is not a certificate"))?;
        }
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(access.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| bad("`tls.crt` is not PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(access.key.as_bytes())
            .map_err(|_| bad("`tls.key` is not a PEM key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| EtcdError::Access(error.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|_| bad("`tls.crt` and `tls.key` do not belong together"))?;
        Ok(Self {
            endpoint,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Deletes every key of the subtree, then counts again. Something that is left means that somebody still writes.
    pub(crate) async fn empty(&self, subtree: &Subtree) -> Result<Emptied, EtcdError> {
        let deleted = number(
            self.ask("/v3/kv/deleterange", subtree.request(false))
                .await?
                .deleted,
        );
        let left = number(self.ask("/v3/kv/range", subtree.request(true)).await?.count);
        Ok(Emptied { deleted, left })
    }

    async fn ask(&self, path: &'static str, body: Value) -> Result<Count, EtcdError> {
        match tokio::time::timeout(TIMEOUT, self.post(path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn post(&self, path: &'static str, body: Value) -> Result<Count, EtcdError> {
        let host = self.endpoint.host().unwrap_or_default();
        let port = self.endpoint.port_u16().unwrap_or(2379);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| self.unreachable(error))?;
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| self.unreachable(error))?;
        let tls = self
            .connector
            .connect(name, tcp)
            .await
            .map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| self.unreachable(error))?;
        // Ends by itself when `sender` is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(http::header::HOST, format!("{host}:{port}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| self.unreachable(error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(EtcdError::Refused {
                endpoint: self.endpoint.to_string(),
                path,
                status,
            });
        }
        let bytes = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.unreachable(error))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|source| EtcdError::Answer {
            endpoint: self.endpoint.to_string(),
            source,
        })
    }

    fn unreachable(&self, cause: impl std::fmt::Display) -> EtcdError {
        EtcdError::Unreachable {
            endpoint: self.endpoint.to_string(),
            cause: cause.to_string(),
        }
    }
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_subtree_holds_its_own_keys_and_no_siblings() {
        let subtree = Subtree::below("/hosted/mcp-1");
        assert!(subtree.holds("/hosted/mcp-1/registry/namespaces/default"));
        assert!(subtree.holds("/hosted/mcp-1/\u{10ffff}"));
        for foreign in [
            "/hosted/mcp-10/registry/x",
            "/hosted/mcp-1",
            "/hosted/mcp-1-b/x",
            "/hosted/mcp-2/x",
            "/hosted/mcp-1.x/y",
        ] {
            assert!(!subtree.holds(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_gateway_leaves_zeros_out() {
        let none: Count = serde_json::from_str(r#"{"header":{"revision":"7"}}"#).unwrap();
        assert_eq!((number(none.count), number(none.deleted)), (0, 0));
        let some: Count = serde_json::from_str(r#"{"deleted":"159"}"#).unwrap();
        assert_eq!(number(some.deleted), 159);
    }

    #[test]
    fn an_unusable_access_names_its_key_and_shows_no_secret() {
        let access = Access {
            endpoints: "http://127.0.0.1:1".into(),
            ca: String::new(),
            certificate: String::new(),
            key: "s3cret".into(),
        };
        assert!(
            Etcd::new(&access)
                .err()
                .unwrap()
                .to_string()
                .contains("endpoints")
        );
        assert!(!format!("{access:?}").contains("s3cret"));
    }
}
