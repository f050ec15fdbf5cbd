//! Measures a running platform and prints the table of docs/benchmarks.md:
//!
//! ```console
//! $ OPENMCP_PLATFORM_KUBECONFIG=… OPENMCP_KRO_CRDS=… cargo run --release -p openmcp-e2e --example figures
//! ```
//!
//! Times are taken from watch events, requests from `apiserver_request_total`. It is a program, not a timed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use openmcp_e2e::{
    Platform, Tenant,
    kinds::{self, api},
    kro, wait,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Tenants' services at once. Each has a ControlPlane with an API server and a controller manager of its own, 300 MiB.
const FLEET: usize = 25;
/// Breaks of each Deployment: the thrash damper delays the repairs of a child that is broken more often.
const BREAKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// Seconds, after which a watch ends.
const REPAIRED_WITHIN: u32 = 60;
/// After a burst of work, until memory is given back.
const CALM: Duration = Duration::from_secs(20);
/// Ordered at once: an API server takes a core for some seconds to start.
const BATCH: usize = 5;
/// The pods whose memory is told, by the beginning of their names.
const PODS: [&str; 3] = ["openmcp-operator-", "cp-hosted-", "sp-kro-"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let platform = Platform::from_env().await?;
    let started = Instant::now();
    platform.install_kro().await?;
    row("provider: apply to Ready", started.elapsed());
    let tenant = platform.tenant("figures").await?;

    let started = Instant::now();
    let mcp = tenant.control_plane("figures").await?;
    row("ControlPlane: apply to Ready", started.elapsed());

    let started = Instant::now();
    tenant.order_kro("figures", kro::VERSION).await?;
    let kros = tenant.api(&kinds::kro());
    wait::phase(&kros, "figures", "Ready").await?;
    row(
        "service: apply to Ready, kro's own start included",
        started.elapsed(),
    );

    let onboarding = platform.onboarding().await?;
    idle(&[
        ("platform", &platform.client),
        ("onboarding", &onboarding),
        ("mcp", &mcp),
    ])
    .await?;
    noop(
        &kros,
        &[
            ("platform", &platform.client),
            ("onboarding", &onboarding),
            ("mcp", &mcp),
        ],
    )
    .await?;

    let started = Instant::now();
    kros.delete("figures", &DeleteParams::default()).await?;
    wait::gone(&kros, "figures").await?;
    row("service: delete to gone", started.elapsed());
    let started = Instant::now();
    let control_planes = tenant.api(&kinds::control_plane());
    control_planes.delete("figures", &DeleteParams::default()).await?;
    wait::gone(&control_planes, "figures").await?;
    row("ControlPlane: delete to gone", started.elapsed());
    fleet(&platform, &tenant).await
}

/// Many services: how long until all are Ready, what our processes need then, how fast drift is repaired.
async fn fleet(platform: &Platform, tenant: &Tenant) -> Result<()> {
    memory("no service object")?;
    let names: Vec<String> = (0..FLEET).map(|number| format!("fleet-{number}")).collect();
    let planes = tenant.api(&kinds::control_plane());
    let kros = tenant.api(&kinds::kro());
    let started = Instant::now();
    for batch in names.chunks(BATCH) {
        for name in batch {
            tenant.order_control_plane(name).await?;
            tenant.order_kro(name, kro::VERSION).await?;
        }
        for name in batch {
            wait::phase(&kros, name, "Ready").await?;
        }
    }
    let what = format!("{FLEET} ControlPlanes and services, {BATCH} at a time: until all are Ready");
    row(&what, started.elapsed());
    tokio::time::sleep(CALM).await;
    memory(&format!("{FLEET} service objects"))?;
    drift(&platform.client).await?;
    let started = Instant::now();
    for name in &names {
        kros.delete(name, &DeleteParams::default()).await?;
        planes.delete(name, &DeleteParams::default()).await?;
    }
    for name in &names {
        wait::gone(&planes, name).await?;
    }
    row(&format!("all {FLEET} deleted: until gone"), started.elapsed());
    Ok(())
}

fn row(what: &str, took: Duration) {
    println!("| {what} | {:.2} s |", took.as_secs_f64());
}

/// Resident memory of our processes, and how much of it is not the program itself.
fn memory(when: &str) -> Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        // In a pod the program is called /entry; what tells the pods apart is the name that they are told.
        let environment = read("environ");
        let mut pods = environment
            .split('\0')
            .filter_map(|it| it.strip_prefix("POD_NAME="));
        let Some(pod) = pods.find(|pod| PODS.iter().any(|known| pod.starts_with(known))) else {
            continue;
        };
        if !read("cmdline").starts_with("/entry\0run\0") {
            continue;
        }
        let status = read("status");
        let of = |field: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            kib.unwrap_or_default() / 1024.0
        };
        println!(
            "| resident memory, {when}, {pod} | {:.1} MiB, {:.1} MiB of it not the program itself |",
            of("VmRSS:"),
            of("RssAnon:")
        );
    }
    Ok(())
}

/// Breaks the Deployments of all kros, by turns the image and the object itself, and times the repair between the two
/// watch events.
async fn drift(platform: &Client) -> Result<()> {
    let all = api(platform, &kinds::deployment(), "")
        .list(&Default::default())
        .await?;
    let live = all
        .items
        .into_iter()
        .filter(|d| d.metadata.name.as_deref() == Some("kro"));
    let live: Vec<_> = live.collect();
    let (mut edited, mut deleted) = (Vec::new(), Vec::new());
    for turn in 0..BREAKS {
        let delete = turn % 2 == 1;
        for one in &live {
            let namespace = one.metadata.namespace.as_deref().context("kro's namespace")?;
            let image = &one.data["spec"]["template"]["spec"]["containers"][0]["image"];
            let deployments = api(platform, &kinds::deployment(), namespace);
            tokio::time::sleep(PAUSE).await;
            let took = repair(&deployments, image, delete).await?;
            if delete {
                deleted.push(took)
            } else {
                edited.push(took)
            }
        }
    }
    let every = edited.iter().chain(&deleted).copied().collect();
    for (what, mut times) in [("all", every), ("image edited", edited), ("deleted", deleted)] {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "| drift of kro's Deployments repaired, {what}, {} breaks | p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms |",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    Ok(())
}

async fn repair(deployments: &Api<DynamicObject>, image: &Value, delete: bool) -> Result<Duration> {
    // Of a list: the version of an object that nobody changed for long is older than any that can be watched from.
    let only = ListParams::default().fields("metadata.name=kro");
    let listed = deployments.list_metadata(&only).await?;
    let version = listed.metadata.resource_version.context("a list's version")?;
    let watch = WatchParams::default()
        .fields("metadata.name=kro")
        .timeout(REPAIRED_WITHIN);
    let mut events = std::pin::pin!(deployments.watch(&watch, &version).await?);
    if delete {
        deployments.delete("kro", &DeleteParams::background()).await?;
    } else {
        let edit = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "nobody/evil:1"}]);
        let edit: json_patch::Patch = serde_json::from_value(edit)?;
        let by = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..Default::default()
        };
        deployments.patch("kro", &by, &Patch::<()>::Json(edit)).await?;
    }
    let mut broken = None;
    while let Some(event) = events.try_next().await? {
        match (event, broken) {
            (WatchEvent::Deleted(_), _) => broken = Some(Instant::now()),
            (WatchEvent::Added(o) | WatchEvent::Modified(o), since) => {
                let whole = &o.data["spec"]["template"]["spec"]["containers"][0]["image"] == image;
                match since {
                    Some(since) if whole && o.metadata.deletion_timestamp.is_none() => {
                        return Ok(Instant::elapsed(&since));
                    }
                    None if !whole => broken = Some(Instant::now()),
                    _ => {}
                }
            }
            (WatchEvent::Error(status), _) => bail!("the watch failed: {status}"),
            (WatchEvent::Bookmark(_), _) => {}
        }
    }
    bail!(
        "not repaired within {REPAIRED_WITHIN} s, broken: {}",
        broken.is_some()
    )
}

/// Requests within a minute in which nothing happens, by API server and by verb and resource.
async fn idle(servers: &[(&str, &Client)]) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(20)).await;
    for (name, requests) in counted(servers, tokio::time::sleep(Duration::from_secs(60))).await? {
        println!("| requests in an idle minute, {name} API server, all clients | {requests} |");
    }
    Ok(())
}

/// Requests of a reconcile that has nothing to do: a label of the tenant's is touched.
async fn noop(kros: &Api<DynamicObject>, servers: &[(&str, &Client)]) -> Result<()> {
    let touch = async {
        for i in 0..10 {
            let label = json!({"metadata": {"labels": {"touched": i.to_string()}}});
            kros.patch("figures", &PatchParams::default(), &Patch::Merge(label))
                .await
                .expect("touching a label");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    for (name, requests) in counted(servers, touch).await? {
        println!(
            "| requests while ten no-op reconciles run (10 PATCHes are the test's own), {name} API server | {requests} |"
        );
    }
    Ok(())
}

async fn counted(
    servers: &[(&str, &Client)],
    meanwhile: impl Future<Output = ()>,
) -> Result<Vec<(String, String)>> {
    let mut before = Vec::new();
    for (_, client) in servers {
        before.push(totals(client).await?);
    }
    meanwhile.await;
    let mut rows = Vec::new();
    for ((name, client), before) in servers.iter().zip(before) {
        let parts: Vec<String> = totals(client)
            .await?
            .into_iter()
            .map(|(key, count)| (count - before.get(&key).copied().unwrap_or(0.0), key))
            .filter(|(more, _)| *more >= 1.0)
            .map(|(more, key)| format!("{more:.0} {key}"))
            .collect();
        rows.push((
            (*name).to_string(),
            if parts.is_empty() {
                "0".into()
            } else {
                parts.join(", ")
            },
        ));
    }
    Ok(rows)
}

/// `apiserver_request_total` by verb and resource. Watches count when they end; this scrape's own are left out.
async fn totals(client: &Client) -> Result<BTreeMap<String, f64>> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = client.request_text(request).await?;
    let mut totals = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("apiserver_request_total{")) {
        let label = |name: &str| {
            let start = line.find(&format!("{name}=\""))? + name.len() + 2;
            line[start..].split('"').next().map(str::to_string)
        };
        let resource = label("resource").unwrap_or_default();
        if resource.is_empty() {
            continue;
        }
        let subresource = label("subresource")
            .filter(|s| !s.is_empty())
            .map(|s| format!("/{s}"))
            .unwrap_or_default();
        let key = format!("{} {resource}{subresource}", label("verb").unwrap_or_default());
        let count: f64 = line
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0.0);
        *totals.entry(key).or_insert(0.0) += count;
    }
    Ok(totals)
}
