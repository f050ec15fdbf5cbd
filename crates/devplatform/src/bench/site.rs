//! Where it is measured: etcd and one kube-apiserver as processes of this machine. The API server plays platform,
//! onboarding and the ControlPlane of every tenant, and writes down what the measured identities request.
use super::{
    audit::{self, AuditLog},
    usage,
};
use crate::{
    assets::{Assets, Tool},
    console::Steps,
    control_plane::{Component, ControlPlane},
    kubeconfig,
    openmcp::SYSTEM_NAMESPACE,
    process::{Process, gated, reap},
    state::{Platform, write_private},
};
use anyhow::{Context, Result};
use kube::Client;
use openmcp_api::crds;
use serde_json::{Value, json};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Instant,
};

/// Where the children of all service objects lie.
pub(super) const CHILDREN: &str = "children";
/// Whose requests the API server writes down: the provider, and the bare client that it is compared with.
pub(super) const PROVIDER: Identity = Identity("provider");
pub(super) const BARE: Identity = Identity("bare");

/// A ServiceAccount in the system namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity(&'static str);

impl Identity {
    pub(super) fn user(self) -> String {
        format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", self.0)
    }
}

/// What a bench needs to start.
pub(super) const TOOLS: [Tool; 2] = [Tool::Etcd, Tool::KubeApiserver];

/// See the module.
pub(super) struct Site<'a> {
    platform: &'a Platform,
    control_plane: ControlPlane<'a>,
    /// As the one who prepares and looks: not written down.
    pub(super) client: Client,
    pub(super) audit: AuditLog,
}

impl<'a> Site<'a> {
    /// Starts the servers and installs what every platform has.
    pub(super) async fn start(platform: &'a Platform, assets: &'a Assets) -> Result<Self> {
        let steps = Steps::begin("one kube-apiserver, which plays platform, onboarding and ControlPlanes");
        let (policy, log) = (platform.path("audit-policy.yaml"), platform.path("audit.log"));
        write_private(
            &policy,
            audit::policy(&[&PROVIDER.user(), &BARE.user()]).as_bytes(),
        )?;
        let mut control_plane = ControlPlane::open(platform, assets)?
            .with_flags(
                Component::ApiServer,
                [
                    format!("--audit-policy-file={}", policy.display()),
                    format!("--audit-log-path={}", log.display()),
                    "--audit-log-maxsize=10000".to_owned(),
                ],
            )
            .with_flags(Component::Etcd, ["--quota-backend-bytes=8589934592".to_owned()]);
        control_plane.prepare()?;
        for component in [Component::Etcd, Component::ApiServer] {
            let since = Instant::now();
            let started = control_plane.start(component)?;
            control_plane.wait_ready(component, !started).await?;
            steps.done(component.name(), "", since);
        }
        let client = control_plane.admin().await?;
        let site = Self {
            platform,
            control_plane,
            client,
            audit: AuditLog::new(&log),
        };
        let since = Instant::now();
        site.install().await?;
        steps.done("definitions, identities", "", since);
        Ok(site)
    }

    async fn install(&self) -> Result<()> {
        for crd in crds::all() {
            let mut object = json!(crd);
            object["apiVersion"] = json!("apiextensions.k8s.io/v1");
            object["kind"] = json!("CustomResourceDefinition");
            self.define(object).await?;
        }
        for namespace in [SYSTEM_NAMESPACE, CHILDREN] {
            self.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}))
                .await?;
        }
        for Identity(name) in [PROVIDER, BARE] {
            let account = json!({"metadata": {"name": name}});
            self.post(
                &format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts"),
                &account,
            )
            .await?;
            let binding = json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE}],
            });
            self.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
                .await?;
        }
        Ok(())
    }

    /// Creates a definition and waits until it is served.
    pub(super) async fn define(&self, definition: Value) -> Result<()> {
        const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let served = format!(
            "/apis/{}/{}/{}?limit=1",
            text(&spec["group"]),
            text(&spec["versions"][0]["name"]),
            text(&spec["names"]["plural"])
        );
        self.post(PATH, &definition).await?;
        let asked = async {
            while !crate::control_plane::answers(&self.client, &served).await {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), asked)
            .await
            .with_context(|| format!("{served} is not served"))
    }

    /// Creates an object.
    pub(super) async fn post(&self, collection: &str, object: &Value) -> Result<Value> {
        post(&self.client, collection, object).await
    }

    /// A kubeconfig of an identity, with a fresh token.
    pub(super) async fn kubeconfig(&self, Identity(name): Identity) -> Result<Value> {
        let ask = json!({"spec": {"expirationSeconds": 86_400}});
        let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{name}/token");
        let token = self.post(&path, &ask).await?;
        let pki = self.control_plane.pki();
        let server = self.platform.block.api_server_url();
        let mut config = kubeconfig::build("bench", &server, &pki.ca(), pki, "admin")?;
        config["users"] = json!([{"name": "admin", "user": {"token": token["status"]["token"]}}]);
        Ok(config)
    }

    /// Certificate and key of the API server, and the address that they are for.
    pub(super) fn serving(&self) -> (PathBuf, PathBuf, Ipv4Addr) {
        let pki = self.control_plane.pki();
        let name = Component::ApiServer.name();
        (pki.cert(name), pki.key(name), self.platform.block.host())
    }

    /// A client of an identity.
    pub(super) async fn client_of(&self, identity: Identity) -> Result<Client> {
        kubeconfig::client(self.kubeconfig(identity).await?).await
    }

    /// A file of the bench.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.platform.path(name)
    }

    /// Starts a program that is ended with the platform, whatever becomes of this command.
    pub(super) fn spawn(
        &mut self,
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Process> {
        let log = self.platform.log_path(name);
        let output = fs::File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = gated(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdout(output.try_clone()?)
            .stderr(output);
        let ledger = self.control_plane.ledger();
        reap(ledger.start(name, command)?);
        ledger
            .get(name)
            .cloned()
            .with_context(|| format!("{name} was not recorded"))
    }

    /// Kills a program that was started by [`Site::spawn`], and waits until it is gone.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        Ok(self.control_plane.ledger().kill(name)?)
    }

    /// Ends the API server and starts it again: its watches are void then.
    pub(super) async fn restart_api_server(&mut self) -> Result<()> {
        self.control_plane.stop(Component::ApiServer)?;
        let started = self.control_plane.start(Component::ApiServer)?;
        self.control_plane
            .wait_ready(Component::ApiServer, !started)
            .await
    }

    /// The last lines of a program's log.
    pub(super) fn last_words(&self, name: &str) -> String {
        let text = fs::read_to_string(self.platform.log_path(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Resident memory of the API server.
    pub(super) fn api_server_memory(&mut self) -> u64 {
        let process = self.control_plane.ledger().running(Component::ApiServer.name());
        let memory = process.and_then(|process| usage::memory(process.pid).ok());
        memory.map_or(0, |memory| memory.resident)
    }
}

/// Creates an object.
pub(super) async fn post(client: &Client, collection: &str, object: &Value) -> Result<Value> {
    let request = http::Request::post(collection).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(object)?)?;
    let made = client.request(request).await;
    made.with_context(|| format!("cannot create {} in {collection}", object["metadata"]["name"]))
}

/// Changes an object by a merge patch.
pub(super) async fn merge(client: &Client, object: &str, patch: &Value) -> Result<Value> {
    let request = http::Request::patch(object).header("content-type", "application/merge-patch+json");
    let request = request.body(serde_json::to_vec(patch)?)?;
    let patched = client.request(request).await;
    patched.with_context(|| format!("cannot change {object}"))
}
