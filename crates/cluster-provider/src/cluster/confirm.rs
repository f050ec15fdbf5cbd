//! Whether an API server that its probe calls ready answers.
use super::{desired, secret::Credentials};
use crate::names::MANAGER;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, runtime::wait::await_condition};
use openmcp_reconcile::{Fault, cluster::Connection, fault::Class};
use std::{net::Ipv4Addr, time::Duration};

/// It does within this time.
const CONFIRMATION: Duration = Duration::from_secs(15);

/// The way to a hosted API server, as its admin.
pub(super) async fn connect(credentials: &Credentials, address: Ipv4Addr) -> Result<Client, Fault> {
    let kubeconfig = desired::admin_kubeconfig(&credentials.identity, address)
        .map_err(|error| Fault::bug(format!("admin kubeconfig: {error}")))?;
    Ok(Connection::from_kubeconfig(kubeconfig.as_bytes(), MANAGER)
        .await?
        .client())
}

/// Makes sure that the API server answers and that its system namespace exists, which it does a moment later. Returns
/// its version without the leading `v`.
pub(super) async fn confirm(client: &Client) -> Result<String, Fault> {
    let answers = async {
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .map_err(|error| Fault::bug(error.to_string()))?;
        client
            .request_text(request)
            .await
            .map_err(|error| Fault::api("ask /readyz", &error))?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        await_condition(namespaces, "kube-system", |live: Option<&Namespace>| {
            live.is_some()
        })
        .await
        .map_err(|error| {
            Fault::retry(
                "ApiServerNotReady",
                format!("wait for namespace kube-system: {error}"),
            )
        })?;
        let version = client
            .apiserver_version()
            .await
            .map_err(|error| Fault::api("ask /version", &error))?;
        Ok(version.git_version.trim_start_matches('v').to_owned())
    };
    match tokio::time::timeout(CONFIRMATION, answers).await {
        Ok(version) => version,
        Err(_) => Err(Fault::new(
            Class::Unreachable,
            "ApiServerNotReady",
            format!(
                "the API server's pod is ready, but it did not answer within {} s",
                CONFIRMATION.as_secs()
            ),
        )),
    }
}
