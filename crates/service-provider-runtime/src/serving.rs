//! What the serving process says of a service object: its `/debug/state`, for `explain`.
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use openmcp_api::{
    names::{Component, ProviderNames},
    provider::ProviderKind,
};
use openmcp_reconcile::{Fault, Key};
use serde_json::Value;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(2);
const FLAG: &str = "--metrics-bind-address";

/// When the object is worked on next, as far as the provider's pods tell.
pub(crate) async fn next_attempt(
    platform: kube::Client,
    home: &str,
    provider: &str,
    key: &Key,
) -> Result<String, Fault> {
    let labels = ProviderNames::new(ProviderKind::Service, provider).labels(Component::Run);
    let selector: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    let api: Api<Pod> = Api::namespaced(platform, home);
    let pods = api.list(&ListParams::default().labels(&selector.join(","))).await;
    let pods = pods.map_err(|error| Fault::api(format_args!("list pods in {home}"), &error))?;
    let mut lines = vec!["Next attempt".to_owned()];
    if pods.items.is_empty() {
        lines.push(format!(
            "  none: no pod of provider {provider} runs in namespace {home}"
        ));
    }
    for pod in pods {
        let name = pod.name_any();
        let told = match address(&pod) {
            Some(at) => match tokio::time::timeout(PATIENCE, ask(&at)).await {
                Ok(Ok(state)) => attempt(&state, key),
                _ => unheard(home, &name),
            },
            None => "it has no address yet".to_owned(),
        };
        lines.push(format!("  pod {name}: {told}"));
    }
    Ok(lines.join("\n"))
}

fn unheard(home: &str, pod: &str) -> String {
    format!(
        "it tells only its own machine: kubectl -n {home} port-forward pod/{pod} 8080, then see /debug/state"
    )
}

/// Where its admin server listens.
fn address(pod: &Pod) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?;
    let arguments = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .flat_map(|it| it.args.iter().flatten());
    let bind = arguments
        .filter_map(|argument| argument.strip_prefix(FLAG)?.strip_prefix('='))
        .next_back()?;
    let (_, port) = bind.rsplit_once(':')?;
    Some(format!("{ip}:{port}"))
}

async fn ask(at: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET /debug/state HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("no HTTP answer"))?;
    serde_json::from_str(body).map_err(io::Error::other)
}

/// What a process's state says of the key.
fn attempt(state: &Value, key: &Key) -> String {
    let is_it = |item: &&Value| item["key"] == key.to_string().as_str();
    let of = |what: &'static str| {
        let controllers = state["controllers"].as_array().into_iter().flatten();
        controllers.flat_map(move |it| it[what].as_array().into_iter().flatten())
    };
    if let Some(running) = of("running").find(is_it) {
        let seconds = running["seconds"].as_f64().unwrap_or_default();
        return format!("works on it now, since {seconds:.1} s");
    }
    if let Some(held) = of("back_off").find(is_it) {
        return format!(
            "tries again in {:.1} s, after {} failures of class {} in a row",
            held["again_in_seconds"].as_f64().unwrap_or_default(),
            held["attempts"],
            held["class"].as_str().unwrap_or_default()
        );
    }
    match state["leadership"] == "Standby" {
        true => "stands by, another pod leads".to_owned(),
        false => "when something changes: nothing is held back".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_in_back_off_is_told_with_its_time_and_class() {
        let state = json!({"leadership": "Free", "controllers": [{"running": [], "back_off": [
            {"key": "Kro a/b", "class": "denied", "attempts": 3, "again_in_seconds": 12.34}]}]});
        assert_eq!(
            attempt(&state, &Key::new("Kro", "a", "b")),
            "tries again in 12.3 s, after 3 failures of class denied in a row"
        );
        assert_eq!(
            attempt(&state, &Key::new("Kro", "a", "other")),
            "when something changes: nothing is held back"
        );
    }
}
