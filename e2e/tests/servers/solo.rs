//! An etcd and a kube-apiserver of a scene's own, as processes on loopback ports: they may be filled, configured and
//! ended. Knows their flags; knows nothing of openMCP.
use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use kube::Client;
use openmcp_e2e::people;
use serde_json::{Value, json};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Connections go out from 127.0.0.1: none of them takes a port of this address.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Whose requests are written down.
pub(crate) const PROVIDER: &str = "provider";
const ADMIN: &str = "admin";
const PATIENCE: Duration = Duration::from_secs(60);

/// How it differs from any other.
#[derive(Default)]
pub(crate) struct Options {
    /// As many bytes etcd takes.
    pub(crate) quota: Option<u64>,
}

/// See the module. Both processes end with it.
pub(crate) struct Solo {
    server: Running,
    _etcd: Running,
    folder: TempDir,
    url: String,
    /// As one who may do everything, and whom nobody counts.
    pub(crate) client: Client,
    /// etcd's own interface.
    pub(crate) etcd: Client,
}

impl Solo {
    /// Starts both, and waits until the API server is ready.
    pub(crate) async fn start(options: Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (client, peer, secure) = (free_port().await?, free_port().await?, free_port().await?);
        let at = |port| format!("http://{HOST}:{port}");
        let mut etcd = Command::new(program("etcd")?);
        etcd.env_clear().args([
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--data-dir={}", folder.path().join("etcd").display()),
            format!("--listen-client-urls={}", at(client)),
            format!("--advertise-client-urls={}", at(client)),
            format!("--listen-peer-urls={}", at(peer)),
            format!("--initial-advertise-peer-urls={}", at(peer)),
            format!("--initial-cluster=default={}", at(peer)),
        ]);
        etcd.args(
            options
                .quota
                .map(|bytes| format!("--quota-backend-bytes={bytes}")),
        );
        let etcd = Running::start(etcd, &folder.path().join("etcd.log"))?;
        let url = format!("https://{HOST}:{secure}");
        let server = api_server(folder.path(), &at(client), secure)?;
        let server = Running::start(server, &folder.path().join("kube-apiserver.log"))?;
        let mut solo = Self {
            client: plain(&at(client)).await?,
            etcd: plain(&at(client)).await?,
            server,
            _etcd: etcd,
            folder,
            url,
        };
        let end = Instant::now() + PATIENCE;
        while !solo.answers().await {
            ensure!(
                Instant::now() < end && solo.server.runs(),
                "the API server does not start:\n{}",
                solo.last_words("kube-apiserver.log")
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(solo)
    }

    /// Whether it is ready; its certificate is there a moment after it was started.
    async fn answers(&mut self) -> bool {
        let Ok(kubeconfig) = self.kubeconfig(ADMIN) else {
            return false;
        };
        let Ok(client) = people::client(kubeconfig.to_string().as_bytes()).await else {
            return false;
        };
        self.client = client;
        get(&self.client, "/readyz").await.is_ok()
            && get(&self.client, "/api/v1/namespaces/kube-system").await.is_ok()
    }

    /// A kubeconfig of one whom it knows.
    pub(crate) fn kubeconfig(&self, user: &str) -> Result<Value> {
        let ca = fs::read(self.folder.path().join("apiserver.crt"))?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority-data": ByteString(ca)}}],
            "users": [{"name": "u", "user": {"token": token(user)}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }))
    }

    /// What the provider has requested from it so far, as verb, group and resource.
    pub(crate) fn requests(&self) -> Result<Vec<[String; 3]>> {
        let log = fs::read_to_string(self.folder.path().join("audit.log"))?;
        // The last line may be half written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let mut all = Vec::new();
        for line in whole.lines() {
            let entry: Value = serde_json::from_str(line)?;
            let text = |path: &str| {
                let found = entry.pointer(path).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            all.push([
                text("/verb"),
                text("/objectRef/apiGroup"),
                text("/objectRef/resource"),
            ]);
        }
        Ok(all)
    }

    fn last_words(&self, log: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

fn api_server(folder: &Path, etcd: &str, port: u16) -> Result<Command> {
    let file = |name: &str, content: &str| -> Result<String> {
        let path = folder.join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    };
    let tokens = [ADMIN, PROVIDER].map(|user| format!("{},{user},{user},system:masters", token(user)));
    let tokens = file("tokens.csv", &tokens.join("\n"))?;
    let issuer = rcgen::KeyPair::generate()?;
    let public = file("issuer.pub", &issuer.public_key_pem())?;
    let issuer = file("issuer.pem", &issuer.serialize_pem())?;
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata", "users": [PROVIDER]}, {"level": "None"}],
    });
    let policy = file("audit-policy.yaml", &policy.to_string())?;
    let mut command = Command::new(program("kube-apiserver")?);
    command.env_clear().env("PATH", "/usr/bin:/bin").args([
        format!("--etcd-servers={etcd}"),
        format!("--bind-address={HOST}"),
        format!("--advertise-address={HOST}"),
        format!("--secure-port={port}"),
        // It makes its own certificate there.
        format!("--cert-dir={}", folder.display()),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        format!("--service-account-issuer=https://{HOST}:{port}"),
        format!("--service-account-key-file={public}"),
        format!("--service-account-signing-key-file={issuer}"),
        format!("--token-auth-file={tokens}"),
        format!("--audit-policy-file={policy}"),
        format!("--audit-log-path={}", folder.join("audit.log").display()),
        "--authorization-mode=RBAC".to_owned(),
        // Its own Endpoints object would name a loopback address, which it refuses.
        "--endpoint-reconciler-type=none".to_owned(),
        "--profiling=false".to_owned(),
    ]);
    Ok(command)
}

fn token(user: &str) -> String {
    format!("token-of-{user}")
}

async fn plain(server: &str) -> Result<Client> {
    let kubeconfig = json!({
        "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    });
    people::client(kubeconfig.to_string().as_bytes()).await
}

pub(crate) async fn get(client: &Client, path: &str) -> Result<String> {
    Ok(client
        .request_text(http::Request::get(path).body(Vec::new())?)
        .await?)
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((HOST, 0)).await?.local_addr()?.port())
}

/// A program of those that the platform runs, beside what the suites are told of.
fn program(name: &str) -> Result<PathBuf> {
    let kro = std::env::var("OPENMCP_KRO_CRDS")
        .context("OPENMCP_KRO_CRDS is not set: run the suites by `cargo verify`")?;
    let assets = Path::new(&kro)
        .ancestors()
        .nth(2)
        .context("no folder of assets")?;
    for tool in fs::read_dir(assets).with_context(|| format!("reading {}", assets.display()))? {
        let path = tool?.path().join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    anyhow::bail!("{} has no {name}", assets.display())
}

/// A process that ends with its owner.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = fs::File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn();
        Ok(Self(
            child.with_context(|| format!("{command:?} does not start"))?,
        ))
    }
}

impl Running {
    fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
