//! The platform's own certificate authorities, certificates and keys.
//!
//! Four authorities, because trust differs: what one server accepts must not open another. All of them and all
//! certificates are made at once and put in place by one rename, so that there is no half of them.
use crate::state::{Block, private_folder, write_private};
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};

/// A development platform does not live longer; `up` renews before.
const VALIDITY: Duration = Duration::days(365);
/// `up` makes everything anew when less than this is left.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Clocks of containers and hosts differ by moments.
const BACKDATE: Duration = Duration::minutes(5);

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    /// Serving certificates of the control plane and the node, and clients of the API server.
    Cluster,
    /// The API server as a client of the node: whoever bears such a certificate may ask the node for logs.
    KubeletClient,
    /// The platform's etcd and its one client, the API server.
    Etcd,
    /// The etcd of hosted control planes and its clients: opens nothing of the platform's.
    HostedEtcd,
}

impl Authority {
    const ALL: [Self; 4] = [Self::Cluster, Self::KubeletClient, Self::Etcd, Self::HostedEtcd];

    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::KubeletClient => "kubelet-client-ca",
            Self::Etcd => "etcd-ca",
            Self::HostedEtcd => "hosted-etcd-ca",
        }
    }
}

/// One certificate to be issued.
struct Wanted {
    file: &'static str,
    by: Authority,
    common_name: String,
    group: Option<&'static str>,
    /// Empty for clients.
    server_names: Vec<String>,
}

/// Files in the platform's `pki` folder, by name: `<name>.crt`, `<name>.key`.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    folder: PathBuf,
}

/// `issued.json`: written last.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    /// Unix seconds.
    not_after: i64,
}

/// Whether the keys are those that running processes were started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Kept,
    Renewed,
}

impl Pki {
    /// The files in a folder, whether they exist or not.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A certificate file.
    pub(crate) fn cert(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// A key file (mode 0600).
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The certificate of who signed the API server's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.cert(Authority::Cluster.name())
    }

    /// The authority of the API server's client certificate towards the node.
    pub(crate) fn kubelet_client_ca(&self) -> PathBuf {
        self.cert(Authority::KubeletClient.name())
    }

    /// The authority of the platform's etcd.
    pub(crate) fn etcd_ca(&self) -> PathBuf {
        self.cert(Authority::Etcd.name())
    }

    /// The authority of the hosted control planes' etcd.
    pub(crate) fn hosted_etcd_ca(&self) -> PathBuf {
        self.cert(Authority::HostedEtcd.name())
    }

    /// The service account keys: `(public, private)`.
    pub(crate) fn service_account(&self) -> (PathBuf, PathBuf) {
        (
            self.folder.join("service-account.pub"),
            self.key("service-account"),
        )
    }

    /// Keeps what is there while it is good for another month, else makes everything anew.
    pub(crate) fn ensure(&self, block: Block, node: &str, now: OffsetDateTime) -> anyhow::Result<Keys> {
        let issued = fs::read(self.folder.join("issued.json")).ok();
        let issued = issued.and_then(|bytes| serde_json::from_slice::<Issued>(&bytes).ok());
        if issued.is_some_and(|issued| issued.not_after > (now + RENEW_BEFORE).unix_timestamp()) {
            return Ok(Keys::Kept);
        }
        let fresh = Self::new(self.folder.with_extension("new"));
        remove(&fresh.folder)?;
        private_folder(&fresh.folder)?;
        fresh
            .issue(&wanted(block, node), now)
            .context("cannot make the platform's certificates")?;
        remove(&self.folder)?;
        fs::rename(&fresh.folder, &self.folder)
            .with_context(|| format!("cannot write {}", self.folder.display()))?;
        Ok(Keys::Renewed)
    }

    fn issue(&self, wanted: &[Wanted], now: OffsetDateTime) -> anyhow::Result<()> {
        for authority in Authority::ALL {
            let mut params = CertificateParams::default();
            params
                .distinguished_name
                .push(DnType::CommonName, format!("openmcp dev {}", authority.name()));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            (params.not_before, params.not_after) = (now - BACKDATE, now + VALIDITY);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
            write_private(&self.cert(authority.name()), issuer.pem().as_bytes())?;
            for certificate in wanted.iter().filter(|certificate| certificate.by == authority) {
                let key = KeyPair::generate()?;
                let signed = certificate.params(now)?.signed_by(&key, &issuer)?;
                write_private(&self.cert(certificate.file), signed.pem().as_bytes())?;
                write_private(&self.key(certificate.file), key.serialize_pem().as_bytes())?;
            }
        }
        let service_account = KeyPair::generate()?;
        let (public, private) = self.service_account();
        write_private(&public, service_account.public_key_pem().as_bytes())?;
        write_private(&private, service_account.serialize_pem().as_bytes())?;
        let issued = Issued {
            not_after: (now + VALIDITY).unix_timestamp(),
        };
        write_private(&self.folder.join("issued.json"), &serde_json::to_vec(&issued)?)
    }
}

impl Wanted {
    fn client(file: &'static str, by: Authority, common_name: &str, group: Option<&'static str>) -> Self {
        Self {
            file,
            by,
            common_name: common_name.to_owned(),
            group,
            server_names: Vec::new(),
        }
    }

    fn server(file: &'static str, by: Authority, names: &[&str]) -> Self {
        let server_names = names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            file,
            by,
            common_name: file.to_owned(),
            group: None,
            server_names,
        }
    }

    fn params(&self, now: OffsetDateTime) -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::new(self.server_names.clone())?;
        params
            .distinguished_name
            .push(DnType::CommonName, &self.common_name);
        if let Some(group) = self.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        (params.not_before, params.not_after) = (now - BACKDATE, now + VALIDITY);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.server_names.is_empty() {
            // etcd's JSON gateway is a client of etcd with the server's certificate: servers get both usages.
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        Ok(params)
    }
}

fn wanted(block: Block, node: &str) -> Vec<Wanted> {
    use Authority::{Cluster, Etcd, HostedEtcd, KubeletClient};
    let host = block.host().to_string();
    let hosted_etcd = block.hosted_etcd().to_string();
    let api_server = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
        "10.0.0.1",
        &host,
    ];
    let node_user = format!("system:node:{node}");
    vec![
        Wanted::server("kube-apiserver", Cluster, &api_server),
        Wanted::server("kube-controller-manager-serving", Cluster, &[&host]),
        Wanted::server("kube-scheduler-serving", Cluster, &[&host]),
        Wanted::server("node-serving", Cluster, &[&host]),
        Wanted::client("admin", Cluster, "openmcp-dev", Some("system:masters")),
        Wanted::client(
            "platform-owner",
            Cluster,
            "platform-owner",
            Some("openmcp:platform-owners"),
        ),
        Wanted::client(
            "kube-controller-manager",
            Cluster,
            "system:kube-controller-manager",
            None,
        ),
        Wanted::client("kube-scheduler", Cluster, "system:kube-scheduler", None),
        Wanted::client("node", Cluster, &node_user, Some("system:nodes")),
        Wanted::client("kubelet-client", KubeletClient, "kube-apiserver", None),
        Wanted::server("etcd", Etcd, &[&host]),
        Wanted::client("etcd-client", Etcd, "kube-apiserver", None),
        Wanted::server("hosted-etcd", HostedEtcd, &[&hosted_etcd]),
        Wanted::client("hosted-etcd-client", HostedEtcd, "cluster-provider-hosted", None),
    ]
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
        server::WebPkiClientVerifier,
    };
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    fn issued() -> (tempfile::TempDir, Pki) {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path().join("pki"));
        let keys = pki
            .ensure(Block::new(0).unwrap(), "local", OffsetDateTime::now_utc())
            .unwrap();
        assert_eq!(keys, Keys::Renewed);
        (folder, pki)
    }

    fn accepts(ca: &Path, client: &Path) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let client = CertificateDer::from_pem_file(client).unwrap();
        verifier.verify_client_cert(&client, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn each_server_accepts_its_own_clients_and_nobody_elses() {
        let (_folder, pki) = issued();
        for (ca, client) in [
            (pki.ca(), "admin"),
            (pki.kubelet_client_ca(), "kubelet-client"),
            (pki.etcd_ca(), "etcd-client"),
            (pki.hosted_etcd_ca(), "hosted-etcd-client"),
        ] {
            assert!(accepts(&ca, &pki.cert(client)), "{client}");
        }
        assert!(!accepts(&pki.etcd_ca(), &pki.cert("platform-owner")));
        assert!(!accepts(&pki.etcd_ca(), &pki.cert("hosted-etcd-client")));
        assert!(!accepts(&pki.kubelet_client_ca(), &pki.cert("node")));
    }

    #[test]
    fn keys_are_for_their_owner_only_and_can_be_read() {
        let (_folder, pki) = issued();
        for name in ["admin", "kube-apiserver", "hosted-etcd", "service-account"] {
            let key = pki.key(name);
            assert_eq!(
                fs::metadata(&key).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
            PrivateKeyDer::from_pem_file(&key).unwrap();
        }
    }

    #[test]
    fn keys_are_kept_until_a_month_before_they_expire() {
        let (_folder, pki) = issued();
        let block = Block::new(0).unwrap();
        let now = OffsetDateTime::now_utc();
        let before = fs::read(pki.key("admin")).unwrap();
        assert_eq!(
            pki.ensure(block, "local", now + Duration::days(330)).unwrap(),
            Keys::Kept
        );
        assert_eq!(fs::read(pki.key("admin")).unwrap(), before);
        assert_eq!(
            pki.ensure(block, "local", now + Duration::days(340)).unwrap(),
            Keys::Renewed
        );
        assert_ne!(fs::read(pki.key("admin")).unwrap(), before);
    }

    #[test]
    fn a_crash_while_keys_are_made_is_repaired_by_making_them_again() {
        let (_folder, pki) = issued();
        fs::remove_file(pki.folder.join("issued.json")).unwrap();
        let keys = pki
            .ensure(Block::new(0).unwrap(), "local", OffsetDateTime::now_utc())
            .unwrap();
        assert_eq!(keys, Keys::Renewed);
    }
}
