#![allow(clippy::unwrap_used)]
use super::*;
use crate::fault::Class;

const CA: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJoVENDQVN1Z0F3SUJBZ0lRSVJpNnplUEw2bUtqT2lwUStkTnVhVEFLQmdncWhrak9QUVFEQWpBUQpNUTR3REFZRFZRUURFd1YwWlhOME1EQWVGdzB5TlRBeE1ERXdNREF3TURCYUZ3MHpOVEF4TURFd01EQXdNREJhCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";

fn kubeconfig(cluster: &str, user: &str) -> Vec<u8> {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {cluster}}}]\nusers: [{{name: u, user: {user}}}]\n"
    )
    .into_bytes()
}

async fn refusal(kubeconfig: &[u8]) -> String {
    let fault = Connection::from_kubeconfig(kubeconfig, "test").await.unwrap_err();
    assert_eq!((fault.class, fault.reason), (Class::Invalid, "InvalidKubeconfig"));
    fault.message
}

#[tokio::test]
async fn a_malformed_kubeconfig_is_refused_without_showing_it() {
    for text in [
        "users: [{name: u, user: {token: [s3cr3t]}}]",
        "s3cr3t",
        "users: s3cr3t",
        "\u{1}s3cr3t: {",
        "",
        "current-context: s3cr3t",
    ] {
        assert!(!refusal(text.as_bytes()).await.contains("s3cr3t"), "{text}");
    }
    refusal(b"\xff\xfe").await;
}

#[tokio::test]
async fn a_kubeconfig_that_reaches_into_this_process_is_refused() {
    let server = "{server: 'https://127.0.0.1:1'}";
    assert!(
        refusal(&kubeconfig(
            server,
            "{exec: {command: /bin/true, apiVersion: v1}}"
        ))
        .await
        .contains("runs a command")
    );
    assert!(
        refusal(&kubeconfig(server, "{tokenFile: /etc/hostname}"))
            .await
            .contains("names files")
    );
    assert!(
        refusal(&kubeconfig(server, "{client-certificate: /x, client-key: /y}"))
            .await
            .contains("names files")
    );
    let refused = "{server: 'https://127.0.0.1:1', certificate-authority: /etc/hostname}";
    assert!(
        refusal(&kubeconfig(refused, "{token: t}"))
            .await
            .contains("CA file")
    );
    let refused = "{server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}";
    assert!(
        refusal(&kubeconfig(refused, "{token: t}"))
            .await
            .contains("verification")
    );
    let refused = "{server: 'https://127.0.0.1:1', proxy-url: 'http://127.0.0.1:2'}";
    assert!(
        refusal(&kubeconfig(refused, "{token: t}"))
            .await
            .contains("proxy")
    );
    assert!(
        refusal(&kubeconfig("{server: 'http://127.0.0.1:1'}", "{token: t}"))
            .await
            .contains("https")
    );
    assert!(
        refusal(&kubeconfig(
            "{server: 'https://s3cr3t@127.0.0.1:1'}",
            "{token: t}"
        ))
        .await
        .contains("credentials")
    );
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let connection = Connection::from_kubeconfig(
        &kubeconfig("{server: 'https://127.0.0.1:1'}", "{token: s3cr3t}"),
        "test",
    )
    .await
    .unwrap();
    assert_eq!(
        format!("{connection:?}"),
        "Connection { server: \"https://127.0.0.1:1/\", .. }"
    );
}

#[tokio::test]
async fn only_a_kubeconfig_for_the_same_server_is_swapped_in() {
    let at = |port: u16, token: &str| {
        kubeconfig(
            &format!("{{server: 'https://127.0.0.1:{port}'}}"),
            &format!("{{token: {token}}}"),
        )
    };
    let connection = Connection::from_kubeconfig(&at(1, "old"), "test").await.unwrap();
    assert!(connection.swap(&at(1, "new")).await.unwrap());
    assert!(!connection.swap(&at(2, "new")).await.unwrap());
    let other_ca = kubeconfig(
        &format!("{{server: 'https://127.0.0.1:1', certificate-authority-data: {CA}}}"),
        "{token: t}",
    );
    assert!(!connection.swap(&other_ca).await.unwrap_or(false));
    assert!(connection.swap(b"nonsense").await.is_err());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_no_lost_namespace() {
    let connection = Connection::from_kubeconfig(
        &kubeconfig("{server: 'https://127.0.0.1:1'}", "{token: t}"),
        "test",
    )
    .await
    .unwrap();
    let fault = connection.identity().await.unwrap_err();
    assert_eq!(fault.class, Class::Unreachable);
    assert!(fault.message.contains("https://127.0.0.1:1"), "{fault}");
}
