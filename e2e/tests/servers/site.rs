//! What surrounds a provider, on API servers of its own: platform and onboarding on one, the ControlPlanes of all
//! tenants on another or on the same, somebody who grants what is asked for, and the provider's processes.
use crate::{
    notes::{GROUP, Notes},
    solo::{Options, PROVIDER, Solo},
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use openmcp_api::{crds, names};
use openmcp_e2e::{
    kinds::{self, api},
    people::{self, SYSTEM},
    wait,
};
use openmcp_reconcile::{
    Environment,
    admin::Readiness,
    cluster::{Connection, Tcp},
};
use serde_json::{Value, json};
use service_provider_runtime::{Process, ServiceProvider};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

pub(crate) const NAME: &str = "notes";
/// The one tenant.
pub(crate) const TENANT: &str = "team";
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Site {
    // First: it needs the others.
    _granter: AbortOnDropHandle<()>,
    pub(crate) home: Arc<Solo>,
    pub(crate) mcp: Arc<Solo>,
}

/// A process of the provider; it is gone when this is dropped.
pub(crate) struct Provider {
    task: JoinHandle<Result<(), openmcp_reconcile::Fault>>,
    stop: DropGuard,
}

impl Provider {
    /// SIGTERM; returns when it has ended.
    pub(crate) async fn end(self) -> Result<()> {
        drop(self.stop);
        let ended = tokio::time::timeout(wait::PATIENCE, self.task).await;
        Ok(ended.context("the process does not end")???)
    }
}

impl Site {
    /// `mcp` is where the ControlPlanes are, if it is another server.
    pub(crate) async fn new(mcp: Option<Options>) -> Result<Self> {
        let home = Arc::new(Solo::start(Options::default()).await?);
        let mcp = match mcp {
            Some(options) => Arc::new(Solo::start(options).await?),
            None => home.clone(),
        };
        let client = home.client.clone();
        for definition in crds::all() {
            let mut object = json!(definition);
            object["apiVersion"] = "apiextensions.k8s.io/v1".into();
            object["kind"] = "CustomResourceDefinition".into();
            let made = people::apply(&client, &kinds::crd(), object).await?;
            let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            wait::condition(&api(&client, &kinds::crd(), ""), &name, "Established", "True", "").await?;
        }
        for namespace in [SYSTEM, TENANT] {
            people::apply(&client, &kinds::namespace(), of("v1", "Namespace", "", namespace)).await?;
        }
        let kubeconfigs = BTreeMap::from([
            ("onboarding", home.kubeconfig(PROVIDER)?.to_string()),
            ("mcp", mcp.kubeconfig(PROVIDER)?.to_string()),
        ]);
        for purpose in kubeconfigs.keys() {
            let mut cluster = of("clusters.openmcp.cloud/v1alpha1", "Cluster", SYSTEM, purpose);
            cluster["spec"] = json!({
                "profile": "test", "purposes": [purpose], "tenancy": "Shared", "kubernetes": {},
            });
            apply_soon(&client, &kinds::cluster(), &cluster).await?;
            status(
                &client,
                &kinds::cluster(),
                SYSTEM,
                purpose,
                json!({"observedGeneration": 1, "phase": "Ready"}),
            )
            .await?;
        }
        let mut registration = of("openmcp.cloud/v1alpha1", "ServiceProvider", "", NAME);
        registration["spec"] = json!({"image": "test"});
        apply_soon(&client, &kinds::service_provider(), &registration).await?;
        status(
            &client,
            &kinds::service_provider(),
            "",
            NAME,
            json!({"observedGeneration": 1}),
        )
        .await?;
        let granter = tokio::spawn(grant_for_ever(client, kubeconfigs));
        Ok(Self {
            home,
            mcp,
            _granter: AbortOnDropHandle::new(granter),
        })
    }

    async fn process(&self, pod: &str, release: &str) -> Result<Process> {
        // Of its own: whether a process may write depends on its Lease.
        self.process_in(Environment::new(Tcp, Timestamp::now), pod, release)
            .await
    }

    async fn process_in(&self, surroundings: Environment, pod: &str, release: &str) -> Result<Process> {
        let kubeconfig = self.home.kubeconfig(PROVIDER)?.to_string();
        let agent = format!("{NAME}/{release}");
        Ok(Process {
            provider: NAME.to_owned(),
            namespace: SYSTEM.to_owned(),
            pod: pod.to_owned(),
            leader_elect: true,
            platform: Connection::within(&surroundings, kubeconfig.as_bytes(), &agent).await?,
            readiness: Readiness::default(),
        })
    }

    /// `init` of a release, and then its ProviderConfig.
    pub(crate) async fn init<P: ServiceProvider>(&self, release: &str) -> Result<()> {
        let process = self.process("init", release).await?;
        tokio::time::timeout(wait::PATIENCE, process.init::<P>()).await??;
        let mut config = of(&format!("{GROUP}/v1alpha1"), "ProviderConfig", "", NAME);
        config["spec"] = json!({});
        apply_soon(&self.home.client, &config_kind(), &config).await
    }

    /// `run` of a release.
    pub(crate) async fn run<P: ServiceProvider>(
        &self,
        provider: P,
        pod: &str,
        release: &str,
    ) -> Result<Provider> {
        Ok(begin(self.process(pod, release).await?, provider))
    }

    /// [`Site::run`] as the program would: the provider's code has threads of its own. One at a time, for whether it may
    /// write is the whole program's.
    pub(crate) async fn run_threaded<P: ServiceProvider>(&self, provider: P, pod: &str) -> Result<Provider> {
        let process = self.process_in(Environment::default(), pod, "1").await?;
        Ok(begin(process, provider))
    }

    /// The first release, installed and running.
    pub(crate) async fn served(&self) -> Result<Provider> {
        self.init::<Notes>("1").await?;
        self.run(Notes, "one", "1").await
    }

    /// Orders so many notes on a ControlPlane of that name.
    pub(crate) async fn order(&self, name: &str, count: i32) -> Result<()> {
        let client = &self.home.client;
        let own = names::control_plane_namespace(TENANT, name);
        people::apply(client, &kinds::namespace(), of("v1", "Namespace", "", &own)).await?;
        let mut plane = of(
            "core.open-control-plane.io/v2alpha1",
            "ControlPlane",
            TENANT,
            name,
        );
        plane["spec"] = json!({"iam": {}});
        people::apply(client, &kinds::control_plane(), plane).await?;
        let mut request = of("clusters.openmcp.cloud/v1alpha1", "ClusterRequest", &own, name);
        request["spec"] = json!({"purpose": "mcp"});
        people::apply(client, &kinds::cluster_request(), request).await?;
        let mut order = of(&format!("{GROUP}/v1alpha1"), "NoteSet", TENANT, name);
        order["spec"] = json!({"count": count, "text": "hello"});
        people::apply(client, &order_kind(), order).await.map(drop)
    }

    pub(crate) fn orders(&self) -> Api<DynamicObject> {
        api(&self.home.client, &order_kind(), TENANT)
    }

    /// Where all notes are.
    pub(crate) fn notes(&self) -> Api<DynamicObject> {
        api(&self.mcp.client, &kinds::config_map(), "default")
    }

    /// The UIDs of an order's notes, by name.
    pub(crate) async fn uids(&self, order: &str) -> Result<BTreeMap<String, String>> {
        let all = self.notes().list(&ListParams::default()).await?.items;
        let of = |it: DynamicObject| Some((it.metadata.name?, it.metadata.uid?));
        let prefix = format!("{order}-");
        let found = all.into_iter().filter_map(of);
        Ok(found.filter(|(name, _)| name.starts_with(&prefix)).collect())
    }

    pub(crate) async fn ready(&self, name: &str) -> Result<Value> {
        let ready = |live: &Value| {
            wait::find(live, "Ready").is_some_and(|it| {
                it["status"] == "True" && it["observedGeneration"] == live["metadata"]["generation"]
            })
        };
        wait::until(&self.orders(), name, "Ready", |live| live.is_some_and(ready)).await
    }

    /// Waits until it is not Ready and says so; returns the condition.
    pub(crate) async fn unready(&self, name: &str, text: &str) -> Result<Value> {
        wait::condition(&self.orders(), name, "Ready", "False", text).await
    }

    pub(crate) async fn told(&self, name: &str, texts: &[&str]) -> Result<String> {
        wait::event(&self.home.client, TENANT, name, texts).await
    }

    /// Somebody deletes a note; the provider makes it again.
    pub(crate) async fn is_repaired(&self, note: &str) -> Result<()> {
        let before = self.notes().get(note).await?.metadata.uid;
        self.notes().delete(note, &DeleteParams::default()).await?;
        let anew = |live: &Value| live["metadata"]["uid"].as_str() != before.as_deref();
        wait::until(&self.notes(), note, "made again", |live| live.is_some_and(anew))
            .await
            .map(drop)
    }
}

fn begin<P: ServiceProvider>(process: Process, provider: P) -> Provider {
    let stop = CancellationToken::new();
    let task = tokio::spawn(process.run(provider, stop.clone()));
    Provider {
        task,
        stop: stop.drop_guard(),
    }
}

pub(crate) fn order_kind() -> ApiResource {
    kinds::resource(GROUP, "v1alpha1", "NoteSet", "notesets")
}

fn config_kind() -> ApiResource {
    kinds::resource(GROUP, "v1alpha1", "ProviderConfig", "providerconfigs")
}

/// An object without anything in it.
pub(crate) fn of(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata})
}

/// A kind is served a moment after its definition is established.
async fn apply_soon(client: &Client, kind: &ApiResource, object: &Value) -> Result<()> {
    let end = Instant::now() + wait::PATIENCE;
    loop {
        match people::apply(client, kind, object.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < end, "{error:#}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn status(
    client: &Client,
    kind: &ApiResource,
    namespace: &str,
    name: &str,
    status: Value,
) -> Result<()> {
    let patch = Patch::Merge(json!({"status": status}));
    let objects = api(client, kind, namespace);
    objects
        .patch_status(name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Scheduler and cluster provider that say yes.
async fn grant_for_ever(client: Client, kubeconfigs: BTreeMap<&'static str, String>) {
    loop {
        // What fails is tried again.
        if let Err(error) = grant(&client, &kubeconfigs).await {
            eprintln!("granting: {error:#}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn grant(client: &Client, kubeconfigs: &BTreeMap<&'static str, String>) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut purposes = BTreeMap::new();
    for request in asked(client, &kinds::cluster_request()).await? {
        let (metadata, purpose) = (&request["metadata"], text(&request["spec"]["purpose"]));
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        if request["status"]["phase"] != "Granted" {
            let granted = json!({
                "observedGeneration": metadata["generation"], "phase": "Granted",
                "cluster": {"namespace": SYSTEM, "name": purpose},
            });
            status(client, &kinds::cluster_request(), &namespace, &name, granted).await?;
        }
        purposes.insert((namespace, name), purpose);
    }
    for request in asked(client, &kinds::access_request()).await? {
        let (metadata, spec) = (&request["metadata"], &request["spec"]);
        let is_granted = request["status"]["phase"] == "Granted"
            && request["status"]["observedGeneration"] == metadata["generation"];
        let of = &spec["requestRef"];
        let cluster = match spec["clusterRef"]["name"].as_str() {
            Some(name) => Some(name.to_owned()),
            None => purposes
                .get(&(text(&of["namespace"]), text(&of["name"])))
                .cloned(),
        };
        let Some(cluster) = cluster.filter(|_| !is_granted) else {
            continue;
        };
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let secret = names::secret_of_access_request(&name);
        let mut object = self::of("v1", "Secret", &namespace, &secret);
        object["stringData"] = json!({"kubeconfig": kubeconfigs.get(&*cluster).context("no such cluster")?});
        people::apply(client, &kinds::secret(), object).await?;
        let granted = json!({
            "observedGeneration": metadata["generation"], "phase": "Granted", "secretRef": {"name": secret},
        });
        status(client, &kinds::access_request(), &namespace, &name, granted).await?;
    }
    Ok(())
}

async fn asked(client: &Client, kind: &ApiResource) -> Result<Vec<Value>> {
    let all = api(client, kind, "").list(&ListParams::default()).await?.items;
    let live = all
        .into_iter()
        .filter(|it| it.metadata.deletion_timestamp.is_none());
    Ok(live.map(serde_json::to_value).collect::<Result<_, _>>()?)
}
