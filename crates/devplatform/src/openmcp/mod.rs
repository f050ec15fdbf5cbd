//! Installs openMCP on the platform's Kubernetes, as its platform owner: what `examples/platform` says, in that order.
//!
//! Knows the objects of the contract; knows nothing of processes.
mod access;
mod apply;
mod wait;

pub(crate) use access::onboarding_kubeconfig;

use crate::{
    assets::Tool,
    console::Steps,
    control_plane::{ControlPlane, answers},
    images::{CLUSTER_PROVIDER_IMAGE, Images, OPERATOR_IMAGE},
    kubeconfig,
    pki::Pki,
    state::{Platform, block::ETCD_PORT},
};
use anyhow::{Context, bail};
use apply::Manifest;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        batch::v1::{Job, JobStatus},
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PropagationPolicy},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use openmcp_api::{Cluster, ClusterProvider};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};
use wait::{PATIENCE, wait_for};

/// Where the operator, its requests and the shared clusters live.
pub(crate) const SYSTEM_NAMESPACE: &str = "openmcp-system";
/// The cluster provider's object, and the Cluster where tenants order.
const CLUSTER_PROVIDER: &str = "hosted";
pub(crate) const ONBOARDING_CLUSTER: &str = "onboarding";
const OPERATOR: &str = "openmcp-operator";
const OPERATOR_INIT: &str = "openmcp-operator-init";
/// Which build of a binary an object was applied for.
const BUILD_ANNOTATION: &str = "dev.openmcp.cloud/build";

const PLATFORM_OWNER: &str = include_str!("../../../../examples/platform/0-platform-owner.yaml");
const OPERATOR_INIT_YAML: &str = include_str!("../../../../examples/platform/1-operator-init.yaml");
const OPERATOR_YAML: &str = include_str!("../../../../examples/platform/2-operator.yaml");
const CLUSTER_PROVIDER_RBAC: &str =
    include_str!("../../../../examples/platform/3-cluster-provider-rbac.yaml");
const CLUSTER_PROVIDER_YAML: &str = include_str!("../../../../examples/platform/4-cluster-provider.yaml");

/// Makes the platform owner one, by the tool's own identity. Everything after that is the platform owner's doing.
pub(crate) async fn admit_platform_owner(control_plane: &ControlPlane<'_>) -> anyhow::Result<()> {
    Manifest::read(PLATFORM_OWNER, &BTreeMap::new())?
        .apply(&control_plane.admin().await?)
        .await
}

/// Installs openMCP, or what is missing of it, and waits until tenants can order.
pub(crate) async fn install(
    platform: &Platform,
    control_plane: &ControlPlane<'_>,
    images: &Images,
    steps: &Steps,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let client = kubeconfig::client_from(&platform.kubeconfig_path("platform-owner")).await?;
    let values = values(platform, images)?;
    let init = Manifest::read(OPERATOR_INIT_YAML, &values)?;
    drop_outdated_init(&client, &values["OPERATOR_BUILD"]).await?;
    init.apply(&client).await?;
    Manifest::object(hosted_etcd(platform, control_plane.pki())?)
        .apply(&client)
        .await?;
    initialized(&client).await?;
    steps.done("operator init", "CRDs installed", since);

    let since = Instant::now();
    Manifest::read(OPERATOR_YAML, &values)?.apply(&client).await?;
    Manifest::read(CLUSTER_PROVIDER_RBAC, &values)?
        .apply(&client)
        .await?;
    Manifest::read(CLUSTER_PROVIDER_YAML, &values)?
        .apply(&client)
        .await?;
    let providers: Api<ClusterProvider> = Api::all(client.clone());
    wait_for(&providers, CLUSTER_PROVIDER, provider_is_ready).await?;
    steps.done("ClusterProvider hosted", "Ready", since);

    let since = Instant::now();
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    wait_for(&clusters, ONBOARDING_CLUSTER, cluster_is_ready).await?;
    let onboarding = onboarding_kubeconfig(platform).await?;
    serves(&kubeconfig::client_from(&onboarding).await?).await?;
    steps.done("onboarding cluster", &onboarding.display().to_string(), since);

    // The operator is ready when ControlPlanes are served on onboarding and its policies deny what they should.
    let since = Instant::now();
    let deployments: Api<Deployment> = Api::namespaced(client, SYSTEM_NAMESPACE);
    wait_for(&deployments, OPERATOR, is_available).await?;
    steps.done("openMCP operator", "tenants can order", since);
    Ok(())
}

/// Waits until the onboarding API server answers: after a kill its Cluster still says Ready of the time before.
async fn serves(onboarding: &Client) -> anyhow::Result<()> {
    let answer = async {
        while !answers(onboarding, "/readyz").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answer)
        .await
        .context("the onboarding API server does not answer")
}

/// True when the newest pods of a Deployment are ready.
fn is_available(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) > 0
        && status.available_replicas == status.replicas
}

/// True when the operator says so of this generation, not of an earlier build.
fn provider_is_ready(provider: &ClusterProvider) -> bool {
    let status = provider.status.as_ref().map(|status| &status.deployment);
    status.is_some_and(|status| {
        status.phase.as_deref() == Some("Ready")
            && Some(status.observed_generation) == provider.metadata.generation
    })
}

fn cluster_is_ready(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        status.phase == "Ready" && Some(status.observed_generation) == cluster.metadata.generation
    })
}

/// What the `${…}` parts of the manifests stand for.
fn values(platform: &Platform, images: &Images) -> anyhow::Result<BTreeMap<&'static str, String>> {
    Ok(BTreeMap::from([
        ("OPERATOR_BUILD", build_of(images, OPERATOR_IMAGE)?),
        (
            "CLUSTER_PROVIDER_BUILD",
            build_of(images, CLUSTER_PROVIDER_IMAGE)?,
        ),
        ("HOSTED_ADDRESS_RANGE", platform.block.hosted_clusters()),
        ("KUBERNETES_VERSION", Tool::KubeApiserver.version().to_owned()),
    ]))
}

/// Tells builds of a binary apart: its size and the time of its last change.
fn build_of(images: &Images, image: &str) -> anyhow::Result<String> {
    let binary = images
        .binary(image)
        .with_context(|| format!("the image {image} has no binary"))?;
    let meta = fs::metadata(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let changed = meta
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(format!("{:x}-{:x}", meta.len(), changed.as_millis()))
}

/// How the cluster provider reaches the etcd of hosted control planes.
fn hosted_etcd(platform: &Platform, pki: &Pki) -> anyhow::Result<serde_json::Value> {
    let read = |path: std::path::PathBuf| -> anyhow::Result<ByteString> {
        Ok(ByteString(
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
        ))
    };
    let endpoint = format!("https://{}:{ETCD_PORT}", platform.block.hosted_etcd());
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hosted-etcd", "namespace": SYSTEM_NAMESPACE},
        "data": {
            "endpoints": ByteString(endpoint.into_bytes()),
            "ca.crt": read(pki.hosted_etcd_ca())?,
            "tls.crt": read(pki.cert("hosted-etcd-client"))?,
            "tls.key": read(pki.key("hosted-etcd-client"))?,
        },
    }))
}

/// A Job cannot be changed: one of another build, or one that failed, makes room.
async fn drop_outdated_init(client: &Client, build: &str) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(job) = jobs.get_opt(OPERATOR_INIT).await? else {
        return Ok(());
    };
    let same = job
        .annotations()
        .get(BUILD_ANNOTATION)
        .is_some_and(|of| of == build);
    if same && job.metadata.deletion_timestamp.is_none() && !has_condition(job.status.as_ref(), "Failed") {
        return Ok(());
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(kube::api::Preconditions {
            uid: job.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let uid = job.uid().unwrap_or_default();
    jobs.delete(OPERATOR_INIT, &params).await?;
    let gone = await_condition(jobs, OPERATOR_INIT, is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone)
        .await
        .context("the last operator init Job does not go away")??;
    Ok(())
}

async fn initialized(client: &Client) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let job = wait_for(&jobs, OPERATOR_INIT, |job: &Job| {
        ["Complete", "Failed"]
            .iter()
            .any(|end| has_condition(job.status.as_ref(), end))
    })
    .await?;
    if has_condition(job.status.as_ref(), "Failed") {
        bail!(
            "the Job {SYSTEM_NAMESPACE}/{OPERATOR_INIT} failed: `openmcp dev logs {OPERATOR_INIT}` shows why"
        );
    }
    Ok(())
}

fn has_condition(status: Option<&JobStatus>, type_: &str) -> bool {
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|it| it.type_ == type_ && it.status == "True"))
}

/// One part of openMCP: what it is called, its state, whether that is as it should be.
pub(crate) type Part = (String, String, bool);

/// How openMCP is; `None` when it is not installed.
pub(crate) async fn state(client: &Client) -> anyhow::Result<Option<Vec<Part>>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(operator) = deployments.get_opt(OPERATOR).await? else {
        return Ok(None);
    };
    let provider = Api::<ClusterProvider>::all(client.clone())
        .get_opt(CLUSTER_PROVIDER)
        .await?;
    let provider = provider.and_then(|it| it.status?.deployment.phase);
    let cluster = Api::<Cluster>::namespaced(client.clone(), SYSTEM_NAMESPACE)
        .get_opt(ONBOARDING_CLUSTER)
        .await?;
    let cluster = cluster.and_then(|it| Some(it.status?.phase));
    let part = |name: &str, phase: Option<String>| {
        let ready = phase.as_deref() == Some("Ready");
        (
            name.to_owned(),
            phase.unwrap_or_else(|| "absent".to_owned()),
            ready,
        )
    };
    let operator = if is_available(&operator) {
        "Ready"
    } else {
        "not available"
    };
    Ok(Some(vec![
        part("openMCP operator", Some(operator.to_owned())),
        part("ClusterProvider hosted", provider),
        part("onboarding cluster", cluster),
    ]))
}
