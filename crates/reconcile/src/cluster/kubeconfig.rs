//! Kubeconfigs from Secrets: read without trust, and without ever showing what is in them.
use crate::Fault;
use http::{HeaderValue, header, uri::Scheme};
use kube::{
    Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};

/// Reads a kubeconfig whose writer is not trusted.
pub(super) async fn read(kubeconfig: &[u8], user_agent: &str) -> Result<Config, Fault> {
    let text = std::str::from_utf8(kubeconfig).map_err(|_| refused("is not UTF-8 text"))?;
    // The parser's messages quote what they found, so they are not shown.
    let parsed: Kubeconfig = serde_yaml::from_str(text).map_err(|error| match error.location() {
        Some(at) => refused(&format!("is malformed near line {}", at.line())),
        None => refused("is malformed"),
    })?;
    for cluster in parsed.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err(refused("names a CA file: use certificate-authority-data"));
        }
        if cluster.insecure_skip_tls_verify == Some(true) {
            return Err(refused("skips the verification of the server's certificate"));
        }
        if cluster.proxy_url.is_some() {
            return Err(refused("goes through a proxy"));
        }
    }
    for user in parsed
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref())
    {
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(refused(
                "runs a command to authenticate: use a token or a client certificate",
            ));
        }
        if user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some() {
            return Err(refused("names files: use inline data"));
        }
    }
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|error| refused(&format!("is incomplete: {}", blameless(&error))))?;
    if config.cluster_url.scheme() != Some(&Scheme::HTTPS) {
        return Err(refused("does not use https"));
    }
    if config
        .cluster_url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(refused("has credentials in the server's URL"));
    }
    with_user_agent(config, user_agent)
}

/// Which part is missing or wrong, without its content.
fn blameless(error: &kube::config::KubeconfigError) -> &'static str {
    use kube::config::KubeconfigError as E;
    match error {
        E::CurrentContextNotSet => "there is no current-context",
        E::LoadContext(_) => "the current-context does not exist",
        E::LoadClusterOfContext(_) => "the context's cluster does not exist",
        E::MissingClusterUrl => "the cluster has no server",
        E::ParseClusterUrl(_) => "the cluster's server is no URL",
        E::LoadCertificateAuthority(_) | E::ParseCertificates(_) => "the CA certificate cannot be read",
        E::LoadClientCertificate(_) => "the client certificate cannot be read",
        E::LoadClientKey(_) => "the client key cannot be read",
        _ => "it cannot be read",
    }
}

/// Every request says who sends it.
pub(super) fn with_user_agent(mut config: Config, user_agent: &str) -> Result<Config, Fault> {
    if !user_agent.is_empty() {
        let value = HeaderValue::from_str(user_agent)
            .map_err(|_| Fault::bug(format!("{user_agent:?} cannot be a user agent")))?;
        config.headers.push((header::USER_AGENT, value));
    }
    Ok(config)
}

pub(super) fn has_certificate(config: &Config) -> bool {
    let AuthInfo {
        client_certificate_data,
        client_key_data,
        ..
    } = &config.auth_info;
    client_certificate_data.is_some() || client_key_data.is_some()
}

fn refused(why: &str) -> Fault {
    Fault::invalid("InvalidKubeconfig", format!("the kubeconfig {why}"))
}
