//! The identity of one hosted control plane: its CA, serving certificate, ServiceAccount issuer keys and the two
//! client certificates that the platform needs. Pure: entropy aside, it knows no Secret and no API server.
//!
//! The identity is made once. Whatever of it is found intact later is kept; only a lost or damaged CA makes a
//! new identity, because then no client that trusts the old one can be served any more.
use openmcp_api::names::name_hash;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};
use time::{Duration, OffsetDateTime};

/// How long certificates are valid. They live as long as their Cluster; there is no rotation.
const VALIDITY: Duration = Duration::days(3650);
/// Clocks of one installation may differ by this much.
const SKEW: Duration = Duration::hours(1);

/// File names inside the Secret.
pub(crate) mod file {
    pub(crate) const CA_CERT: &str = "ca.crt";
    pub(crate) const CA_KEY: &str = "ca.key";
    pub(crate) const SERVING_CERT: &str = "apiserver.crt";
    pub(crate) const SERVING_KEY: &str = "apiserver.key";
    pub(crate) const ISSUER_PUBLIC: &str = "sa.pub";
    pub(crate) const ISSUER_KEY: &str = "sa.key";
    pub(crate) const ADMIN_CERT: &str = "admin.crt";
    pub(crate) const ADMIN_KEY: &str = "admin.key";
    pub(crate) const CONTROLLER_CERT: &str = "controller-manager.crt";
    pub(crate) const CONTROLLER_KEY: &str = "controller-manager.key";
    /// A hash over the parts and the address: tells an edited Secret from an intact one.
    pub(crate) const SEAL: &str = "seal";
}

/// The parts that are sealed.
const PARTS: [&str; 10] = [
    file::CA_CERT,
    file::CA_KEY,
    file::SERVING_CERT,
    file::SERVING_KEY,
    file::ISSUER_PUBLIC,
    file::ISSUER_KEY,
    file::ADMIN_CERT,
    file::ADMIN_KEY,
    file::CONTROLLER_CERT,
    file::CONTROLLER_KEY,
];

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("cannot make a certificate or key")]
    Generate(#[from] rcgen::Error),
    #[error("the Secret lacks `{0}`")]
    Missing(&'static str),
}

/// The files of an identity by name, all of them text (PEM). Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    files: BTreeMap<String, String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// What [`complete`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Everything was intact.
    None,
    /// The CA was intact; leaf certificates or the issuer's public key were made anew.
    Leaves,
    /// There was no usable CA: nobody who trusted an earlier one can connect any more.
    NewIdentity,
}

impl Identity {
    /// The identity as found among the files of a Secret; parts may be missing, other files are not its own.
    pub(crate) fn from_files(mut files: BTreeMap<String, String>) -> Self {
        files.retain(|name, _| name == file::SEAL || PARTS.contains(&name.as_str()));
        Self { files }
    }
    /// All files, for writing them into the Secret.
    pub(crate) fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }
    /// One file, or which one is missing.
    pub(crate) fn get(&self, name: &'static str) -> Result<&str, PkiError> {
        self.files
            .get(name)
            .map(String::as_str)
            .ok_or(PkiError::Missing(name))
    }
    /// A short, public name of the CA: changes exactly when the identity does.
    pub(crate) fn fingerprint(&self) -> String {
        name_hash(&[self.files.get(file::CA_CERT).map_or("", String::as_str)])
    }
    fn part(&self, name: &str) -> &str {
        self.files.get(name).map_or("", String::as_str)
    }
    fn seal(&self, address: Ipv4Addr) -> String {
        let address = address.to_string();
        let parts: Vec<&str> = PARTS
            .iter()
            .map(|part| self.part(part))
            .chain([address.as_str()])
            .collect();
        name_hash(&parts)
    }
    /// Whether all parts are those that were made for this address.
    pub(crate) fn is_intact(&self, address: Ipv4Addr) -> bool {
        PARTS.iter().all(|part| self.files.contains_key(*part)) && self.part(file::SEAL) == self.seal(address)
    }
}

/// Keeps what is intact of `existing` and makes what is missing or damaged.
pub(crate) fn complete(
    existing: Identity,
    address: Ipv4Addr,
    now: OffsetDateTime,
) -> Result<(Identity, Repair), PkiError> {
    if existing.is_intact(address) {
        return Ok((existing, Repair::None));
    }
    let (authority, repair) = match Authority::read(&existing) {
        Some(authority) => (authority, Repair::Leaves),
        None => (Authority::make(now)?, Repair::NewIdentity),
    };
    let issuer_key = match (repair, KeyPair::from_pem(existing.part(file::ISSUER_KEY))) {
        (Repair::Leaves, Ok(key)) => key,
        _ => KeyPair::generate()?,
    };
    let serving = authority.serving(address, now)?;
    let admin = authority.client("openmcp:cluster-provider", now)?;
    // A member of system:masters, not ServiceAccounts of its own: those a tenant could delete.
    let controller = authority.client("system:kube-controller-manager", now)?;
    let files = [
        (file::CA_CERT, authority.certificate),
        (file::CA_KEY, authority.key_pem),
        (file::SERVING_CERT, serving.0),
        (file::SERVING_KEY, serving.1),
        (file::ISSUER_PUBLIC, issuer_key.public_key_pem()),
        (file::ISSUER_KEY, issuer_key.serialize_pem()),
        (file::ADMIN_CERT, admin.0),
        (file::ADMIN_KEY, admin.1),
        (file::CONTROLLER_CERT, controller.0),
        (file::CONTROLLER_KEY, controller.1),
    ];
    let mut made = Identity {
        files: files
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text))
            .collect(),
    };
    made.files.insert(file::SEAL.to_owned(), made.seal(address));
    Ok((made, repair))
}

/// A CA that can sign.
struct Authority {
    certificate: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The CA of a stored identity, if certificate and key are readable and belong together.
    fn read(stored: &Identity) -> Option<Self> {
        let (certificate, key_pem) = (stored.part(file::CA_CERT), stored.part(file::CA_KEY));
        let key = KeyPair::from_pem(key_pem).ok()?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let public = key.subject_public_key_info();
        if !der.windows(public.len()).any(|window| window == public) {
            return None;
        }
        let issuer = Issuer::from_ca_cert_pem(certificate, key).ok()?;
        Some(Self {
            certificate: certificate.to_owned(),
            key_pem: key_pem.to_owned(),
            issuer,
        })
    }

    fn make(now: OffsetDateTime) -> Result<Self, PkiError> {
        let mut params = params("openmcp hosted control plane", None, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            key_pem,
            issuer: Issuer::new(params, key),
        })
    }

    fn serving(&self, address: Ipv4Addr, now: OffsetDateTime) -> Result<(String, String), PkiError> {
        let mut params = params("kube-apiserver", None, now)?;
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::V4(address)));
        for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn client(&self, user: &str, now: OffsetDateTime) -> Result<(String, String), PkiError> {
        let mut params = params(user, Some("system:masters"), now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<(String, String), PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    now: OffsetDateTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.not_before = now - SKEW;
    params.not_after = now + VALIDITY;
    Ok(params)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(127, 100, 128, 5);

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()
    }
    fn made() -> Identity {
        complete(Identity::from_files(BTreeMap::new()), HERE, now())
            .unwrap()
            .0
    }

    #[test]
    fn an_empty_secret_gets_a_new_identity() {
        let (identity, repair) = complete(Identity::from_files(BTreeMap::new()), HERE, now()).unwrap();
        assert_eq!(repair, Repair::NewIdentity);
        assert!(identity.is_intact(HERE));
        assert!(PARTS.iter().all(|part| identity.get(part).is_ok()));
    }

    #[test]
    fn an_intact_identity_is_never_made_again() {
        let identity = made();
        assert_eq!(
            complete(identity.clone(), HERE, now()).unwrap(),
            (identity, Repair::None)
        );
    }

    #[test]
    fn a_lost_leaf_is_reissued_by_the_same_authority_and_issuer() {
        let before = made();
        let mut damaged = before.clone();
        damaged.files.remove(file::SERVING_CERT);
        let (after, repair) = complete(damaged, HERE, now()).unwrap();
        assert_eq!(repair, Repair::Leaves);
        assert_eq!(after.fingerprint(), before.fingerprint());
        assert_eq!(
            after.get(file::ISSUER_KEY).unwrap(),
            before.get(file::ISSUER_KEY).unwrap()
        );
        assert!(after.is_intact(HERE));
    }

    #[test]
    fn another_address_needs_another_serving_certificate() {
        let before = made();
        let (after, repair) = complete(before.clone(), Ipv4Addr::new(127, 100, 128, 6), now()).unwrap();
        assert_eq!(repair, Repair::Leaves);
        assert_ne!(
            after.get(file::SERVING_CERT).unwrap(),
            before.get(file::SERVING_CERT).unwrap()
        );
    }

    #[test]
    fn an_authority_whose_key_is_another_ones_is_not_used() {
        let mut mixed = made();
        mixed.files.insert(
            file::CA_KEY.to_owned(),
            made().get(file::CA_KEY).unwrap().to_owned(),
        );
        assert_eq!(complete(mixed, HERE, now()).unwrap().1, Repair::NewIdentity);
    }

    #[test]
    fn keys_are_not_shown_by_debug() {
        assert!(!format!("{:?}", made()).contains("PRIVATE"));
    }
}
