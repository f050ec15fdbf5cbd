//! An admission webhook: a TLS server on a loopback port, whose certificate nobody else trusts.
use crate::solo::HOST;
use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use openmcp_e2e::{kinds, people};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) const HOOK: &str = "gate.e2e.test";

/// What it answers about an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Denies(&'static str),
    /// With 500 and no review.
    IsBroken,
    /// Never.
    IsSilent,
}

/// By name of the object; all others are admitted.
type Moods = Arc<Mutex<BTreeMap<String, (Mood, usize)>>>;

/// See the module.
pub(crate) struct Gate {
    moods: Moods,
    certificate: String,
    port: u16,
    _serving: AbortOnDropHandle<()>,
}

impl Gate {
    pub(crate) async fn open() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(HOST.into())];
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        let listener = TcpListener::bind((HOST, 0)).await?;
        let (port, moods) = (listener.local_addr()?.port(), Moods::default());
        let (acceptor, answers) = (TlsAcceptor::from(Arc::new(config)), moods.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, moods) = (acceptor.clone(), answers.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(acceptor, stream, &moods).await {
                        eprintln!("webhook: {error:#}");
                    }
                });
            }
        });
        Ok(Self {
            moods,
            certificate: certificate.pem(),
            port,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// Asks it about ConfigMaps from now on, and waits until it is asked.
    pub(crate) async fn install(&self, client: &kube::Client) -> Result<()> {
        let mut config = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": HOOK},
        });
        let ca = ByteString(self.certificate.clone().into_bytes());
        config["webhooks"] = json!([{
            "name": HOOK, "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
            "failurePolicy": "Fail", "clientConfig": {"url": format!("https://{HOST}:{}/", self.port), "caBundle": ca},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"],
            }],
        }]);
        let plural = "validatingwebhookconfigurations";
        let kind = kinds::resource(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            plural,
        );
        people::apply(client, &kind, config).await?;
        self.put("probe", Mood::Denies("in force"));
        let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "namespace": "default"}});
        let end = std::time::Instant::now() + openmcp_e2e::wait::PATIENCE;
        loop {
            match people::create(client, &kinds::config_map(), probe.clone()).await {
                Err(error) if error.to_string().contains("in force") => return Ok(()),
                Ok(_) => {
                    let maps = kinds::api(client, &kinds::config_map(), "default");
                    maps.delete("probe", &Default::default()).await?;
                }
                Err(error) => eprintln!("not yet in force: {error}"),
            }
            anyhow::ensure!(std::time::Instant::now() < end, "the webhook is not asked");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn put(&self, object: &str, mood: Mood) {
        self.moods.lock().unwrap().insert(object.to_owned(), (mood, 0));
    }

    /// How often it was asked about an object for which it has a mood.
    pub(crate) fn asked(&self, object: &str) -> usize {
        self.moods
            .lock()
            .unwrap()
            .get(object)
            .map_or(0, |(_, asked)| *asked)
    }

    /// Everything is admitted from now on.
    pub(crate) fn cheer_up(&self) {
        self.moods.lock().unwrap().clear();
    }
}

/// One request, one answer, and the end of the connection.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, moods: &Moods) -> Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    let body = loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            // An idle connection that the client opened and gave up.
            return Ok(());
        }
        read.extend_from_slice(&chunk[..count]);
        if let Some(body) = body(&read)? {
            break body;
        }
    };
    let review: Value = serde_json::from_slice(&body)?;
    let name = review["request"]["name"].as_str().unwrap_or_default();
    let mood = moods.lock().unwrap().get_mut(name).map(|(mood, asked)| {
        *asked += 1;
        *mood
    });
    let (code, allowed, why) = match mood {
        Some(Mood::IsSilent) => std::future::pending().await,
        Some(Mood::IsBroken) => ("500 Internal Server Error", false, ""),
        Some(Mood::Denies(why)) => ("200 OK", false, why),
        None => ("200 OK", true, ""),
    };
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": allowed, "status": {"message": why}},
    });
    let answer = if code.starts_with("200") {
        answer.to_string()
    } else {
        "out of order".to_owned()
    };
    let head = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// The body of a request, if all of it was read.
fn body(read: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&read[..end])?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("a request without a length")?.trim().parse()?;
    let body = &read[end + 4..];
    Ok((body.len() >= length).then(|| body[..length].to_vec()))
}
