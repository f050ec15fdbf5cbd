//! A platform in memory: its API servers, an operator and a cluster provider that grant what is asked for
//! (`world/operator.rs`), and the time that all of them share.
mod operator;

use crate::{Server, network::Network, record::Record, time::Time};
use data_encoding::BASE64;
use jiff::Timestamp;
use openmcp_api::{
    crds::{self, InstalledOn},
    names,
};
use openmcp_reconcile::{Environment, Fault, cluster::Connection};
use serde_json::{Value, json};
use service_provider_runtime::Process;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, futures::Notified};

const CLUSTERS: &str = "clusters.openmcp.cloud/v1alpha1";
/// Where the provider's pods would be.
pub(crate) const HOME: &str = "openmcp-system";

/// The platform's definitions and those of the onboarding cluster: to make them takes long.
static DEFINITIONS: LazyLock<(Vec<Value>, Vec<Value>)> = LazyLock::new(|| {
    let on = |cluster| {
        let definitions = crds::installed_on(cluster).into_iter().map(|crd| {
            let mut crd = json!(crd);
            crd["apiVersion"] = "apiextensions.k8s.io/v1".into();
            crd["kind"] = "CustomResourceDefinition".into();
            crd
        });
        definitions.collect()
    };
    (on(InstalledOn::Platform), on(InstalledOn::Onboarding))
});

/// The platform, the onboarding cluster, a shared workload cluster, and a ControlPlane for each tenant. Clones are
/// the same world.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    time: Time,
    servers: Arc<Mutex<BTreeMap<String, Server>>>,
    versions: Arc<AtomicU64>,
    record: Record,
    changed: Arc<Notify>,
    installations: AtomicU32,
    tokens: AtomicU32,
    provider: String,
    available: Mutex<bool>,
    /// Up to which write each server's controllers have seen everything.
    settled: Mutex<BTreeMap<String, u64>>,
}

impl World {
    /// A platform on which a provider is installed, without tenants.
    pub fn new(provider: &str) -> Self {
        let versions = Arc::<AtomicU64>::default();
        let world = Self(Arc::new(Shared {
            time: Time::default(),
            servers: Arc::default(),
            record: Record::new(versions.clone()),
            versions,
            changed: Arc::default(),
            installations: AtomicU32::new(1),
            tokens: AtomicU32::new(1),
            provider: provider.to_owned(),
            available: Mutex::new(true),
            settled: Mutex::default(),
        }));
        for host in ["platform", "onboarding", "workload"] {
            world.add_server(host);
        }
        let platform = world.server("platform");
        for definition in &DEFINITIONS.0 {
            must(platform.create(definition));
        }
        world.define_onboarding();
        must(platform.create(&namespace(HOME)));
        let registration = json!({
            "apiVersion": "openmcp.cloud/v1alpha1", "kind": "ServiceProvider",
            "metadata": {"name": provider}, "spec": {"image": "simulated"},
        });
        must(platform.create(&registration));
        must(platform.merge_status(
            &registration,
            &json!({"observedGeneration": 1, "phase": "Progressing"}),
        ));
        for (name, tenancy, purpose) in [
            ("onboarding", "Shared", "onboarding"),
            ("workload", "Shared", "workload"),
        ] {
            world.add_cluster(HOME, name, tenancy, purpose);
        }
        world
    }

    /// Another world that is the same up to now.
    #[must_use]
    pub fn fork(&self) -> Self {
        let time = self.0.time.fork();
        let versions = Arc::new(AtomicU64::new(self.version()));
        let changed = Arc::<Notify>::default();
        let fork = |(host, server): (String, Server)| {
            let time = time.clone();
            let clock = Arc::new(move || time.now());
            (host, server.fork(clock, versions.clone(), changed.clone()))
        };
        let servers = self.servers().into_iter().map(fork).collect();
        let number = |of: &AtomicU32| AtomicU32::new(of.load(Ordering::Relaxed));
        Self(Arc::new(Shared {
            servers: Arc::new(Mutex::new(servers)),
            record: self.0.record.fork(versions.clone()),
            installations: number(&self.0.installations),
            tokens: number(&self.0.tokens),
            provider: self.0.provider.clone(),
            available: Mutex::new(*lock(&self.0.available)),
            settled: Mutex::default(),
            time,
            versions,
            changed,
        }))
    }

    fn add_server(&self, host: &str) -> Server {
        let installation = self.0.installations.fetch_add(1, Ordering::Relaxed);
        let time = self.0.time.clone();
        let server = Server::counting(
            installation,
            Arc::new(move || time.now()),
            self.0.versions.clone(),
            self.0.changed.clone(),
        );
        server.accept_only([format!("{host}-owner")]);
        self.put_server(host, server.clone());
        server
    }

    fn put_server(&self, host: &str, server: Server) {
        lock(&self.0.servers).insert(host.to_owned(), server);
        lock(&self.0.settled).remove(host);
    }

    fn define_onboarding(&self) {
        let onboarding = self.server("onboarding");
        for definition in &DEFINITIONS.1 {
            must(onboarding.create(definition));
        }
    }

    fn add_cluster(&self, namespace: &str, name: &str, tenancy: &str, purpose: &str) {
        let cluster = json!({
            "apiVersion": CLUSTERS, "kind": "Cluster",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"profile": "simulated", "tenancy": tenancy, "purposes": [purpose], "kubernetes": {}},
        });
        let platform = self.server("platform");
        must(platform.create(&cluster));
        must(platform.merge_status(
            &cluster,
            &json!({"observedGeneration": 1, "phase": "Ready", "conditions": []}),
        ));
    }

    /// The server with this host name: `platform`, `onboarding`, `workload`, or that of a ControlPlane.
    ///
    /// # Panics
    /// If there is none.
    #[allow(clippy::panic)] // a test's mistake
    pub fn server(&self, host: &str) -> Server {
        match lock(&self.0.servers).get(host) {
            Some(server) => server.clone(),
            None => panic!("there is no server {host}"),
        }
    }

    /// All servers, by host name.
    pub fn servers(&self) -> Vec<(String, Server)> {
        lock(&self.0.servers)
            .iter()
            .map(|(host, server)| (host.clone(), server.clone()))
            .collect()
    }

    /// A tenant's ControlPlane with a cluster of its own. Returns the cluster's host name.
    pub fn add_control_plane(&self, tenant: &str, name: &str) -> String {
        let home = self.declare_control_plane(tenant, name);
        let host = format!("mcp-{tenant}-{name}");
        self.add_server(&host);
        self.add_cluster(&home, &host, "Exclusive", "mcp");
        must(self.server("platform").create(&cluster_request_of(&home, name)));
        host
    }

    /// A cluster for the ControlPlanes of several tenants.
    pub fn add_shared_cluster(&self, host: &str) {
        self.add_server(host);
        self.add_cluster(HOME, host, "Shared", host);
    }

    /// A tenant's ControlPlane on such a cluster.
    pub fn add_control_plane_on(&self, host: &str, tenant: &str, name: &str) {
        let request = cluster_request_of(&self.declare_control_plane(tenant, name), name);
        let platform = self.server("platform");
        must(platform.create(&request));
        let granted = json!({"observedGeneration": 1, "phase": "Granted", "cluster": {"name": host, "namespace": HOME}});
        must(platform.merge_status(&request, &granted));
    }

    /// Returns its namespace on the platform.
    fn declare_control_plane(&self, tenant: &str, name: &str) -> String {
        let (platform, onboarding) = (self.server("platform"), self.server("onboarding"));
        if onboarding.object("v1", "Namespace", "", tenant).is_none() {
            must(onboarding.create(&namespace(tenant)));
        }
        let control_plane = json!({
            "apiVersion": "core.open-control-plane.io/v2alpha1", "kind": "ControlPlane",
            "metadata": {"name": name, "namespace": tenant}, "spec": {"iam": {}},
        });
        must(onboarding.create(&control_plane));
        let home = names::control_plane_namespace(tenant, name);
        must(platform.create(&namespace(&home)));
        home
    }

    /// Whether Deployments and the like become available (they do, unless told otherwise).
    pub fn serve_workloads(&self, available: bool) {
        *lock(&self.0.available) = available;
        lock(&self.0.settled).clear();
    }

    /// The wall clock of the world.
    pub fn now(&self) -> Timestamp {
        self.0.time.now()
    }

    pub(crate) fn time(&self) -> &Time {
        &self.0.time
    }

    pub(crate) fn provider(&self) -> &str {
        &self.0.provider
    }

    /// The number of the last write anywhere.
    pub fn version(&self) -> u64 {
        self.0.versions.load(Ordering::Relaxed)
    }

    /// Ends with the next write anywhere.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    pub(crate) fn record(&self) -> &Record {
        &self.0.record
    }

    /// That of a process, by its name.
    pub(crate) fn network(&self, by: &str, seed: u64) -> Network {
        let (servers, record) = (self.0.servers.clone(), self.0.record.clone());
        Network::new(servers, record, self.0.time.clone(), (by, seed))
    }

    /// The provider's own connection to the platform, in the surroundings of one process.
    pub(crate) async fn connect(&self, environment: &Environment) -> Result<Connection, Fault> {
        let kubeconfig = self.kubeconfig("platform", "platform-owner");
        let agent = Process::user_agent(&self.0.provider);
        Connection::within(environment, kubeconfig.as_bytes(), &agent).await
    }

    /// Everybody but the provider does what there is to do now. Returns whether there was anything.
    pub(crate) fn step(&self) -> bool {
        let before = self.version();
        for (host, server) in self.servers() {
            if lock(&self.0.settled).get(&host) == Some(&server.version()) {
                continue;
            }
            let mut busy = server.settle_step();
            if *lock(&self.0.available) {
                busy |= server.serve_workloads();
            }
            if host == "platform" {
                busy |= self.operate(&server);
            }
            if !busy {
                lock(&self.0.settled).insert(host, server.version());
            }
        }
        self.version() != before
    }

    fn kubeconfig(&self, host: &str, token: &str) -> String {
        kubeconfig(host, &self.0.record.authority(host), token)
    }
}

/// By which a ControlPlane gets its cluster.
fn cluster_request_of(home: &str, name: &str) -> Value {
    json!({
        "apiVersion": CLUSTERS, "kind": "ClusterRequest",
        "metadata": {"name": name, "namespace": home}, "spec": {"purpose": "mcp"},
    })
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn kubeconfig(host: &str, ca: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://{host}.sim"),
            "certificate-authority-data": BASE64.encode(ca.as_bytes()),
        }}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    })
    .to_string()
}

/// What people and controllers of the simulation do is always granted.
#[allow(clippy::panic)] // a mistake of the simulation or of its test
#[track_caller]
pub(crate) fn must<T, E: std::fmt::Display>(done: Result<T, E>) -> T {
    match done {
        Ok(done) => done,
        Err(error) => panic!("the simulated world refused: {error}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
