//! `dev status`: what runs, what is ready.
use crate::{
    control_plane::{Component, NODE_NAME, node_is_ready},
    kubeconfig, openmcp,
    process::Ledger,
    state::Platform,
};
use anyhow::bail;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{
    io::{self, Write},
    time::Duration,
};
use tokio::time::timeout;

/// A platform that does not answer at once has a problem that the table of processes shows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the tables; something that is missing is an error that says what to do.
pub(crate) async fn status(platform: &Platform) -> anyhow::Result<()> {
    writeln!(
        io::stdout(),
        "platform {:?} on {} in {}",
        platform.name,
        platform.block,
        platform.folder.display()
    )?;
    let dead = processes(platform)?;
    let mut missing: Vec<String> = dead.iter().map(|component| component.name().to_owned()).collect();
    if !dead.contains(&Component::ApiServer) {
        let client = kubeconfig::client_from(&platform.kubeconfig_path("admin")).await?;
        match timeout(PATIENCE, cluster(&client)).await {
            Ok(result) => missing.extend(result?),
            Err(_) => missing.push("an answer of the API server".to_owned()),
        }
    }
    if !missing.is_empty() {
        bail!(
            "missing: {}; `openmcp dev up --name {}` starts what is missing",
            missing.join(", "),
            platform.name
        );
    }
    Ok(())
}

fn processes(platform: &Platform) -> anyhow::Result<Vec<Component>> {
    let ledger = Ledger::open(platform.ledger_path())?;
    let mut table = table(&["process", "pid", "memory", "up", "address"]);
    let mut dead = Vec::new();
    for component in Component::ALL {
        let address = component.addresses(platform)[0].to_string();
        match ledger.running(component.name()) {
            Some(process) => table.add_row([
                component.name().to_owned(),
                process.pid.to_string(),
                format!("{} MiB", process.resident_bytes() >> 20),
                age(process.uptime()),
                address,
            ]),
            None => {
                dead.push(component);
                table.add_row([component.name(), "–", "–", "not running", &address])
            }
        };
    }
    writeln!(io::stdout(), "{table}")?;
    Ok(dead)
}

/// What the API server knows; returns what is not ready.
async fn cluster(client: &Client) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    let node = Api::<Node>::all(client.clone()).get_opt(NODE_NAME).await?;
    let ready = node.as_ref().is_some_and(node_is_ready);
    let state = if ready { "Ready" } else { "not ready" };
    writeln!(io::stdout(), "node {NODE_NAME}: {state}")?;
    if !ready {
        missing.push(format!("a ready node {NODE_NAME}"));
    }
    match openmcp::state(client).await? {
        None => writeln!(io::stdout(), "openMCP: not installed")?,
        Some(parts) => {
            for (part, state, ready) in parts {
                writeln!(io::stdout(), "{part}: {state}")?;
                if !ready {
                    missing.push(part);
                }
            }
        }
    }
    let pods = Api::<Pod>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    if !pods.items.is_empty() {
        let mut table = table(&["namespace", "pod", "phase", "address"]);
        for pod in pods {
            let status = pod.status.clone().unwrap_or_default();
            table.add_row([
                pod.namespace().unwrap_or_default(),
                pod.name_any(),
                status.phase.unwrap_or_default(),
                status.pod_ip.unwrap_or_default(),
            ]);
        }
        writeln!(io::stdout(), "{table}")?;
    }
    Ok(missing)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header.to_vec());
    table
}

fn age(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_fitting_unit() {
        assert_eq!(age(Duration::from_secs(119)), "119 s");
        assert_eq!(age(Duration::from_secs(120)), "2 min");
        assert_eq!(age(Duration::from_secs(7200)), "2 h");
    }
}
