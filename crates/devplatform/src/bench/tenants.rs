//! API servers of tenants, in memory: as many as wanted, over HTTPS on loopback. They accept whoever asks, and have the
//! certificate of the bench's own API server.
use super::{
    site::{CHILDREN, PROVIDER, Site},
    subject::NAME,
};
use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use openmcp_testkit::Server;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// One of them. Ends when it is dropped.
pub(super) struct TenantServer {
    server: Server,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for TenantServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl TenantServer {
    /// Opens `count` of them.
    pub(super) async fn open(site: &Site<'_>, count: usize) -> Result<Vec<Self>> {
        let (certificate, key, host) = site.serving();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read {}", certificate.display()));
        let key =
            PrivateKeyDer::from_pem_file(&key).with_context(|| format!("cannot read {}", key.display()))?;
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain?, key)?;
        let tls = TlsAcceptor::from(Arc::new(tls));
        let mut opened = Vec::new();
        for number in 0..count {
            opened.push(Self::start(number, host, tls.clone()).await?);
        }
        Ok(opened)
    }

    async fn start(number: usize, host: Ipv4Addr, tls: TlsAcceptor) -> Result<Self> {
        // Their kube-systems have to differ.
        let server = Server::with(u32::try_from(number + 1)?, jiff::Timestamp::now);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CHILDREN}});
        server.create(&namespace)?;
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, tls, server.clone()));
        Ok(Self {
            server,
            address,
            accepting,
        })
    }

    /// The provider's kubeconfig for it.
    pub(super) async fn kubeconfig(&self, site: &Site<'_>) -> Result<Value> {
        let mut kubeconfig = site.kubeconfig(PROVIDER).await?;
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", self.address));
        Ok(kubeconfig)
    }

    /// What the provider has made on it and not removed.
    pub(super) fn children(&self) -> usize {
        let all = self.server.objects("v1", "ConfigMap");
        let ours = all
            .iter()
            .filter(|map| map["metadata"]["labels"].to_string().contains(NAME));
        ours.count()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, server: Server) {
    // They end with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, server) = (tls.clone(), server.clone());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = TowerToHyperService::new(server);
            // A client that goes away is no failure of the server.
            let _ended = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
