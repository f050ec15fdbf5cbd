//! A platform and an onboarding cluster in memory, for tests of what the controllers do together: their watches and
//! their wake-ups are the real ones. Nobody schedules clusters or runs pods there; a test plays them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use crate::{
    config::ControlPlanes,
    controlplane,
    install::{self, Install},
    onboarding::{Bootstrap, Guard, Onboarding, Slot},
    platform::{self, Platform, Wake},
    schedule::OwnWrites,
};
use openmcp_api::crds::{self, InstalledOn};
use openmcp_reconcile::{Controller, Limits, cluster::Connection, events::Recorder};
use openmcp_testkit::Server;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Service;

/// The longest that anything may take; machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the onboarding cluster is known by.
pub(crate) const ONBOARDING: &str = "onboarding-uid";
pub(crate) const SYSTEM: &str = "openmcp-system";
pub(crate) const SERVICE_GROUP: &str = "kro.services.open-control-plane.io";

pub(crate) struct Rig {
    pub platform: Server,
    pub onboarding: Server,
    seen: Arc<Platform>,
    slot: Slot,
    wake: Wake,
    providers: Arc<Controller>,
    control_planes: Arc<Controller>,
    stop: CancellationToken,
    _stopped: DropGuard,
}

impl Rig {
    /// Servers with our definitions; `before` is what is there when the operator starts.
    pub(crate) async fn new(before: impl FnOnce(&Server, &Server)) -> Self {
        let servers = (Server::new(), Server::with(2, jiff::Timestamp::now));
        for (server, cluster) in [
            (&servers.0, InstalledOn::Platform),
            (&servers.1, InstalledOn::Onboarding),
        ] {
            for definition in crds::installed_on(cluster) {
                let mut definition = json!(definition);
                definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
                definition["kind"] = "CustomResourceDefinition".into();
                server.create(&definition).unwrap();
            }
        }
        before(&servers.0, &servers.1);
        Self::on(servers.0, servers.1).await
    }

    /// An operator that starts on these servers.
    pub(crate) async fn on(platform: Server, onboarding: Server) -> Self {
        let [providers, requests, accesses, bootstrap, control_planes] =
            ["providers", "requests", "accesses", "onboarding", "controlplanes"]
                .map(|name| Arc::new(Controller::new(name, Limits::default())));
        let wake = Wake {
            providers: providers.handle(),
            requests: requests.handle(),
            accesses: accesses.handle(),
            onboarding: bootstrap.handle(),
            control_planes: control_planes.handle(),
            known_control_planes: Arc::default(),
            known_namespaces: Arc::default(),
        };
        let stop = CancellationToken::new();
        let own = OwnWrites::default();
        let seen = platform::start(
            client(&platform),
            SYSTEM.into(),
            "test".into(),
            &wake,
            &own,
            &stop,
        );
        tokio::join!(
            seen.service_providers.synced(),
            seen.namespaces.synced(),
            seen.crds.synced(),
            seen.cluster_roles.synced(),
            seen.requests.synced(),
            seen.accesses.synced(),
            seen.clusters.synced(),
            seen.secrets.synced(),
            seen.installed.pods.synced(),
            seen.installed.cluster_role_bindings.synced(),
        );
        Self {
            platform,
            onboarding,
            seen: Arc::new(seen),
            slot: Slot::default(),
            wake,
            providers,
            control_planes,
            _stopped: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Installs and uninstalls providers from now on.
    pub(crate) fn run_providers(&self) {
        let events = Recorder::new(self.seen.client.clone(), install::NAME);
        let install = Arc::new(Install::new(self.seen.clone(), self.slot.clone(), events));
        let (controller, stop) = (self.providers.clone(), self.stop.clone());
        tokio::spawn(async move { controller.run(install, stop).await });
    }

    /// The onboarding cluster becomes usable, and ControlPlanes are served.
    pub(crate) async fn open(&self) -> Arc<Onboarding> {
        let client = kube::Client::new(self.onboarding.clone(), "default");
        let nowhere = "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
            clusters: [{name: it, cluster: {server: 'https://127.0.0.1:1'}}]\n\
            contexts: [{name: it, context: {cluster: it, user: it}}]\nusers: [{name: it, user: {}}]\n";
        let connection = Connection::from_kubeconfig(nowhere.as_bytes(), "rig")
            .await
            .unwrap();
        let (usable, _) = tokio::sync::watch::channel(None);
        let bootstrap = Bootstrap::new(
            self.seen.clone(),
            self.slot.clone(),
            self.wake.clone(),
            self.stop.clone(),
            usable,
        );
        let guard = Guard::start(&client, &self.wake, &self.stop);
        let onboarding = bootstrap.watch(connection, client, ONBOARDING.into(), guard, &self.stop);
        onboarding.synced().await;
        self.calm().await;
        bootstrap.opened(&onboarding);
        let reconcile = controlplane::Reconcile::new(self.seen.clone(), onboarding.clone(), config());
        let (controller, stop) = (self.control_planes.clone(), self.stop.clone());
        tokio::spawn(async move { controller.run(Arc::new(reconcile), stop).await });
        onboarding
    }

    /// The service's kind may be read: its objects are watched.
    pub(crate) fn follow(onboarding: &Onboarding) {
        onboarding
            .kinds
            .follow(&BTreeSet::from([SERVICE_GROUP.to_owned()]));
    }

    /// Gives what was woken so far the time to be done, so that only what comes next can wake anybody.
    pub(crate) async fn calm(&self) {
        tokio::time::sleep(LOOK_EVERY * 25).await;
    }

    /// Waits until `holds`, while the servers' own controllers work.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let waiting = async {
            loop {
                self.platform.settle_step();
                self.onboarding.settle_step();
                if holds(self) {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("{what}: did not come true");
        }
    }
}

/// A client of the platform. Nobody runs pods there, and the server does not know them: who looks for them sees as many
/// as there are LimitRanges, none.
fn client(platform: &Server) -> kube::Client {
    let server = platform.clone();
    let podless = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        let mut server = server.clone();
        *request.uri_mut() = request
            .uri()
            .to_string()
            .replacen("/pods", "/limitranges", 1)
            .parse()
            .unwrap();
        async move { server.call(request).await }
    });
    kube::Client::new(podless, "default")
}

fn config() -> ControlPlanes {
    ControlPlanes {
        cluster_purpose: "mcp".into(),
        default_oidc_provider: None,
        reconcile_every: None,
        exposed_endpoints: Vec::new(),
    }
}

/// The message of a condition.
pub(crate) fn message(object: Option<Value>, type_: &str) -> String {
    let object = object.unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned();
    let mut all = conditions.unwrap_or_default().into_iter();
    all.find(|c| c["type"] == type_)
        .and_then(|c| c["message"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The definition of the service's kind.
pub(crate) fn service_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("kros.{SERVICE_GROUP}"), "labels": {"openmcp.cloud/cluster": "onboarding"}},
        "spec": {
            "group": SERVICE_GROUP, "scope": "Namespaced",
            "names": {"kind": "Kro", "plural": "kros", "singular": "kro", "listKind": "KroList"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

/// A provider of the service that is installed and has registered its kind.
pub(crate) fn provider() -> Value {
    json!({
        "apiVersion": "openmcp.cloud/v1alpha1", "kind": "ServiceProvider",
        "metadata": {"name": "kro", "finalizers": ["openmcp.cloud/finalizer"]}, "spec": {"image": "kro"},
    })
}

pub(crate) fn add_provider(platform: &Server) {
    platform.create(&provider()).unwrap();
    let registered = json!({"observedGeneration": 1, "phase": "Ready",
        "resources": [{"group": SERVICE_GROUP, "version": "v1alpha1", "kind": "Kro"}]});
    platform.merge_status(&provider(), &registered).unwrap();
}
