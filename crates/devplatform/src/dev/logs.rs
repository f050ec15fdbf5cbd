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

/// Prints one log, or the list of what has one. A reader that goes away (`| head`) ends it.
pub(crate) async fn logs(platform: &Platform, target: Option<&str>, follow: bool) -> anyhow::Result<()> {
    match show(platform, target, follow).await {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

async fn show(platform: &Platform, target: Option<&str>, follow: bool) -> anyhow::Result<()> {
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
        println!("processes: {processes}\npods:");
        pods.iter().for_each(|pod| println!("  {}", full_name(pod)));
        return Ok(());
    };
    match pods
        .iter()
        .filter(|pod| matches(pod, target))
        .collect::<Vec<_>>()
        .as_slice()
    {
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

/// By `NAMESPACE/NAME`, or by the beginning of a name.
fn matches(pod: &Pod, target: &str) -> bool {
    full_name(pod) == target || pod.name_any().starts_with(target)
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
