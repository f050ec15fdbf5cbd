//! `dev logs`: what a process or a pod has written.
use crate::{control_plane::Component, kubeconfig, state::Platform};
use anyhow::{Context, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, LogParams},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};
use tokio::time::sleep;

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Prints one log, or the list of what has one.
pub(crate) async fn logs(platform: &Platform, target: Option<&str>, follow: bool) -> anyhow::Result<()> {
    if let Some(component) = target.and_then(|name| Component::ALL.into_iter().find(|it| it.name() == name)) {
        return file(&platform.log_path(component.name()), follow).await;
    }
    let client = kubeconfig::client_from(&platform.kubeconfig_path("admin")).await?;
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await;
    let pods = pods
        .context("the API server does not answer: only processes have logs now")?
        .items;
    let Some(target) = target else {
        let processes = Component::ALL.map(Component::name).join(", ");
        let names: String = pods.iter().map(|pod| format!("  {}\n", full_name(pod))).collect();
        write!(io::stdout(), "processes: {processes}\npods:\n{names}")?;
        return Ok(());
    };
    match fitting(&pods, target).as_slice() {
        [pod] => pod_log(&client, pod, follow).await,
        [] => bail!("neither a process nor a pod is called {target:?}: `openmcp dev logs` lists them"),
        several => {
            let names: Vec<String> = several.iter().map(|pod| full_name(pod)).collect();
            bail!("{target:?} fits several pods: {}", names.join(", "))
        }
    }
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// By `NAMESPACE/NAME`, or by the beginning of a name; of several those that have not ended: a provider's `run`, not
/// its `init`.
fn fitting<'a>(pods: &'a [Pod], target: &str) -> Vec<&'a Pod> {
    let fits = |pod: &&Pod| full_name(pod) == target || pod.name_any().starts_with(target);
    let has_ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let all: Vec<&Pod> = pods.iter().filter(fits).collect();
    let live: Vec<&Pod> = all.iter().copied().filter(|pod| !has_ended(pod)).collect();
    if live.is_empty() { all } else { live }
}

async fn file(path: &Path, follow: bool) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("there is no log {}", path.display()))?;
    loop {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        io::stdout().write_all(&text)?;
        if !follow {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

async fn pod_log(client: &Client, pod: &Pod, follow: bool) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let stream = pods
        .log_stream(
            &pod.name_any(),
            &LogParams {
                follow,
                ..LogParams::default()
            },
        )
        .await;
    let stream = stream.with_context(|| format!("cannot read the log of the pod {}", full_name(pod)))?;
    let mut lines = stream.lines();
    while let Some(line) = lines.try_next().await? {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_beginning_of_a_name_means_what_runs_before_what_has_ended() {
        let pod = |name: &str, phase: &str| -> Pod {
            let pod = json!({"metadata": {"name": name, "namespace": "n"}, "status": {"phase": phase}});
            serde_json::from_value(pod).unwrap()
        };
        let pods = [
            pod("x-init-1", "Succeeded"),
            pod("x-2", "Running"),
            pod("y-3", "Running"),
        ];
        let names = |target: &str| {
            fitting(&pods, target)
                .into_iter()
                .map(full_name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("x"), ["n/x-2"]);
        assert_eq!(names("x-init"), ["n/x-init-1"]);
        assert_eq!(names("n/y-3"), ["n/y-3"]);
        assert_eq!(names("z"), Vec::<String>::new());
    }
}
