//! The chapters, in order. Each fails if what happens is not as told.
use super::{
    repair,
    stage::{Person, Stage, human, keep_kubeconfig},
};
use anyhow::{Context, Result, bail};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The people of the story. The platform owner is there from the start, the others are admitted in it.
pub(super) struct People {
    pub(super) owner: Person,
    /// The platform owner again, on the onboarding cluster.
    pub(super) on_onboarding: Person,
    pub(super) tenant_a: Person,
    pub(super) tenant_b: Person,
    /// Tenant a again, on its own control plane.
    pub(super) on_mcp: Person,
}

impl People {
    pub(super) fn new(owner: PathBuf, onboarding: PathBuf, folder: &Path) -> Self {
        let person = |name, file: &str| Person {
            name,
            kubeconfig: folder.join(file),
        };
        Self {
            owner: Person {
                name: "platform owner",
                kubeconfig: owner,
            },
            on_onboarding: Person {
                name: "onboarding",
                kubeconfig: onboarding,
            },
            tenant_a: person("tenant a", "tenant-a.yaml"),
            tenant_b: person("tenant b", "tenant-b.yaml"),
            on_mcp: person("tenant a (mcp)", "tenant-a-mcp.yaml"),
        }
    }
}

/// The Ready condition as a sentence: reason and message.
const READY: &str = "{.status.conditions[?(@.type==\"Ready\")].type}: {.status.conditions[?(@.type==\"Ready\")].reason}, \
                     {.status.conditions[?(@.type==\"Ready\")].message}";
const PHASE_READY: &str = "jsonpath={.status.phase}=Ready";
const SYSTEM: &str = "openmcp-system";

/// The provider is installed and configured.
pub(super) async fn provider(stage: &Stage, people: &People, bundle: &Path) -> Result<()> {
    let owner = &people.owner;
    stage.chapter("The platform owner offers a service: kro");
    let from = format!("--from-file={}", bundle.display());
    stage
        .kubectl(owner, &["create", "configmap", "kro-0.9.4", "-n", SYSTEM, &from])
        .await?;
    stage
        .kubectl(owner, &["apply", "-f", "examples/kro/rbac.yaml"])
        .await?;
    stage
        .kubectl(owner, &["apply", "-f", "examples/kro/serviceprovider.yaml"])
        .await?;
    stage
        .wait(owner, &["serviceprovider/kro"], PHASE_READY, READY)
        .await?;
    stage
        .kubectl(owner, &["apply", "-f", "examples/kro/providerconfig.yaml"])
        .await
        .map(drop)
}

/// Two tenants get an identity each.
pub(super) async fn tenants(stage: &Stage, people: &People) -> Result<()> {
    let owner = &people.owner;
    stage.chapter("Two tenants are admitted to the onboarding cluster, each to its own namespace");
    for (tenant, name) in [(&people.tenant_a, "tenant-a"), (&people.tenant_b, "tenant-b")] {
        stage
            .kubectl(owner, &["apply", "-f", &format!("examples/tenants/{name}.yaml")])
            .await?;
        let request = format!("accessrequest/{name}");
        let target = ["-n", SYSTEM, request.as_str()];
        stage
            .wait(owner, &target, "jsonpath={.status.phase}=Granted", "")
            .await?;
        let secret = stage.read(owner, &target, "{.status.secretRef.name}").await?;
        take_kubeconfig(stage, owner, SYSTEM, &secret, tenant).await?;
    }
    Ok(())
}

/// Tenant a orders a control plane and kro on it.
pub(super) async fn order(stage: &Stage, people: &People) -> Result<()> {
    let a = &people.tenant_a;
    stage.chapter("Tenant a orders a control plane: a Kubernetes API server of its own");
    stage
        .kubectl(a, &["apply", "-f", "examples/kro/controlplane.yaml"])
        .await?;
    let target = ["-n", "project-a", "controlplane/sample"];
    let told = "{range .status.conditions[*]}{.type}={.status} {end}";
    stage.wait(a, &target, PHASE_READY, told).await?;
    take_kubeconfig(
        stage,
        a,
        "project-a",
        "token-admin.sample.kubeconfig",
        &people.on_mcp,
    )
    .await?;

    stage.chapter("Tenant a orders kro on it");
    stage
        .kubectl(a, &["apply", "-f", "examples/kro/kro.yaml"])
        .await?;
    stage
        .wait(a, &["-n", "project-a", "kro/sample"], PHASE_READY, READY)
        .await
}

/// The real kro works for tenant a; tenant b sees nothing of it.
pub(super) async fn usage(stage: &Stage, people: &People) -> Result<()> {
    let mcp = &people.on_mcp;
    stage.chapter("Tenant a uses kro: one object becomes a namespace, a role and a quota");
    stage
        .kubectl(mcp, &["apply", "-f", "examples/kro/rgd.yaml"])
        .await?;
    let rgd = ["resourcegraphdefinition/team-space"];
    stage
        .wait(
            mcp,
            &rgd,
            "jsonpath={.status.state}=Active",
            "{.kind} {.metadata.name}: {.status.state}",
        )
        .await?;
    stage
        .kubectl(mcp, &["apply", "-f", "examples/kro/instance.yaml"])
        .await?;
    stage
        .wait(
            mcp,
            &["teamspace/payments"],
            "jsonpath={.status.state}=ACTIVE",
            "{.status.state}",
        )
        .await?;
    stage
        .kubectl(
            mcp,
            &["get", "role,resourcequota", "-n", "payments", "-o", "name"],
        )
        .await?;

    stage.chapter("Tenant b is kept out");
    let b = &people.tenant_b;
    stage
        .refused(b, &["get", "kro", "sample", "-n", "project-a"], "forbidden")
        .await?;
    stage
        .refused(
            b,
            &["delete", "controlplane", "sample", "-n", "project-a"],
            "forbidden",
        )
        .await?;
    stage
        .refused(
            b,
            &[
                "get",
                "secret",
                "token-admin.sample.kubeconfig",
                "-n",
                "project-a",
            ],
            "forbidden",
        )
        .await
}

/// Somebody breaks the service three times; it is repaired at once, and an Event says so.
pub(super) async fn breakage(stage: &Stage, people: &People) -> Result<()> {
    let owner = &people.owner;
    stage.chapter("Somebody breaks the service; the runtime repairs it at once");
    let everywhere = "{range .items[?(@.metadata.name==\"kro\")]}{.metadata.namespace}{end}";
    let namespace = stage.read(owner, &["deployments", "-A"], everywhere).await?;
    let deployments = objects(owner, "apps", "Deployment", &namespace).await?;
    let live = serde_json::to_value(deployments.get("kro").await.context("kro's Deployment")?)?;
    let image = live["spec"]["template"]["spec"]["containers"][0]["image"].clone();

    let same_image = |o: &Value| o["spec"]["template"]["spec"]["containers"][0]["image"] == image;
    let set = [
        "-n",
        &namespace,
        "set",
        "image",
        "deployment/kro",
        "*=nobody/evil:1",
        "--field-manager=kubectl-edit",
    ];
    broken(stage, owner, &set, &deployments, "kro", same_image).await?;

    let one_replica = |o: &Value| o["spec"]["replicas"] == 1;
    let scale = ["-n", &namespace, "scale", "deployment/kro", "--replicas=0"];
    broken(stage, owner, &scale, &deployments, "kro", one_replica).await?;

    let mcp = &people.on_mcp;
    let role = "kro:controller:static";
    let roles = objects(mcp, "rbac.authorization.k8s.io", "ClusterRole", "").await?;
    broken(stage, mcp, &["delete", "clusterrole", role], &roles, role, |_| {
        true
    })
    .await?;

    stage.say("The tenant reads what was repaired in the Events of its object:");
    let events = "custom-columns=REASON:.reason,MESSAGE:.message";
    let of_kro = "--field-selector=involvedObject.kind=Kro,reason=DriftRepaired";
    let told = stage
        .kubectl(
            &people.tenant_a,
            &[
                "get",
                "events",
                "-n",
                "project-a",
                of_kro,
                "-o",
                events,
                "--no-headers",
            ],
        )
        .await?;
    if !told.contains("kubectl-edit") {
        bail!("the Event had to name kubectl-edit, who changed the image");
    }
    Ok(())
}

/// Deletion is blocked while the tenant uses the service, and clean afterwards.
pub(super) async fn departure(stage: &Stage, people: &People) -> Result<()> {
    let (a, mcp, owner) = (&people.tenant_a, &people.on_mcp, &people.owner);
    let kro = ["-n", "project-a", "kro/sample"];
    stage.chapter("Tenant a deletes kro while it still uses it: blocked, with the reason");
    stage
        .kubectl(a, &["delete", "-n", "project-a", "kro/sample", "--wait=false"])
        .await?;
    stage
        .wait(
            a,
            &kro,
            "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=False",
            READY,
        )
        .await?;
    let told = stage.read(a, &kro, READY).await?;
    if !told.contains("team-space") {
        bail!("the condition had to name the ResourceGraphDefinition team-space");
    }

    stage.chapter("Tenant a cleans up, and everything goes");
    stage
        .kubectl(
            mcp,
            &["delete", "-f", "examples/kro/instance.yaml", "--timeout=60s"],
        )
        .await?;
    stage
        .kubectl(mcp, &["delete", "-f", "examples/kro/rgd.yaml", "--timeout=60s"])
        .await?;
    stage.wait(a, &kro, "delete", "").await?;
    stage
        .kubectl(
            a,
            &[
                "delete",
                "-n",
                "project-a",
                "controlplane/sample",
                "--timeout=60s",
            ],
        )
        .await?;
    stage
        .kubectl(
            owner,
            &[
                "delete",
                "-f",
                "examples/kro/serviceprovider.yaml",
                "--timeout=60s",
            ],
        )
        .await?;

    stage
        .kubectl(owner, &["delete", "-f", "examples/kro/rbac.yaml"])
        .await?;
    stage
        .kubectl(owner, &["delete", "configmap", "kro-0.9.4", "-n", SYSTEM])
        .await?;

    stage.chapter("Nothing is left");
    for kinds in [
        "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions",
        "inventories,clusters.clusters.openmcp.cloud,clusterrequests,accessrequests",
        "deployments,jobs,pods,serviceaccounts,secrets,roles,rolebindings,services",
    ] {
        nothing(stage, owner, kinds).await?;
    }
    let kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,controlplanes";
    nothing(stage, &people.on_onboarding, kinds).await?;
    Ok(())
}

/// Breaks an object by a kubectl command and prints how long it stayed broken.
async fn broken(
    stage: &Stage,
    who: &Person,
    command: &[&str],
    api: &Api<DynamicObject>,
    name: &str,
    whole: impl Fn(&Value) -> bool,
) -> Result<()> {
    let took = repair::time(api, name, whole, async {
        stage.kubectl(who, command).await.map(drop)
    })
    .await?;
    stage.say(&format!("→ repaired after {}", human(took)));
    Ok(())
}

/// Fails if anything of kro or of the tenant's control plane is among the objects of these kinds.
async fn nothing(stage: &Stage, who: &Person, kinds: &str) -> Result<()> {
    let left = stage
        .grep(
            who,
            &["get", kinds, "-A", "-o", "name"],
            &["kro", "mcp--", "sample"],
        )
        .await?;
    if left.is_empty() {
        Ok(())
    } else {
        bail!("left behind: {}", left.join(", "))
    }
}

/// Reads the kubeconfig in a Secret for a person.
async fn take_kubeconfig(
    stage: &Stage,
    by: &Person,
    namespace: &str,
    secret: &str,
    to: &Person,
) -> Result<()> {
    let target = ["-n", namespace, "secret", secret];
    let encoded = stage.read(by, &target, "{.data.kubeconfig}").await?;
    let parsed: k8s_openapi::ByteString = serde_json::from_value(Value::String(encoded))?;
    keep_kubeconfig(&to.kubeconfig, &parsed.0)?;
    stage.say(&format!(
        "kubeconfig of {} taken from Secret {namespace}/{secret}",
        to.name
    ));
    Ok(())
}

async fn objects(who: &Person, group: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
    let kubeconfig = Kubeconfig::read_from(&who.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Ok(match namespace {
        "" => Api::all_with(client, &resource),
        namespace => Api::namespaced_with(client, namespace, &resource),
    })
}
