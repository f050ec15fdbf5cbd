//! Renders kubeconfigs. Pure. JSON is YAML, so what is rendered needs no YAML writer to be read by every client.
use data_encoding::BASE64;
use serde_json::{Value, json};

/// How a client proves who it is.
pub(crate) enum Credentials<'a> {
    Token(&'a str),
    Certificate { certificate: &'a str, key: &'a str },
}

/// A kubeconfig with one context, everything embedded. `ca` is PEM.
pub(crate) fn render(server: &str, ca: &str, user: &str, credentials: &Credentials<'_>) -> String {
    let user_fields: Value = match credentials {
        Credentials::Token(token) => json!({"token": token}),
        Credentials::Certificate { certificate, key } => json!({
            "client-certificate-data": BASE64.encode(certificate.as_bytes()),
            "client-key-data": BASE64.encode(key.as_bytes()),
        }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority-data": BASE64.encode(ca.as_bytes())}}],
        "users": [{"name": user, "user": user_fields}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
        "current-context": "cluster",
    });
    // Maps of strings always serialize.
    serde_yaml::to_string(&config).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rendered_kubeconfig_is_read_by_kube() {
        let text = render(
            "https://127.0.0.1:6443",
            "CA",
            "reader",
            &Credentials::Token("t0"),
        );
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("cluster"));
        assert_eq!(
            config.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("https://127.0.0.1:6443")
        );
        assert_eq!(config.auth_infos[0].name, "reader");
    }
}
