//! From "there is no onboarding cluster" to "tenants may order": request → access → CRDs → policies → proof that they
//! act → ControlPlanes. Afterwards it keeps credentials, policies and the access to service kinds current.
use super::{NAME, Onboarding, Slot, policies, registered, requests, roles, watches::Source};
use crate::{
    crds,
    ensure::Applier,
    platform::{Platform, Wake},
};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    rbac::v1::ClusterRole,
};
use kube::{Api, api::PostParams, runtime::watcher::Config};
use openmcp_api::{
    AccessRequest, ControlPlane,
    crds::{InstalledOn, installed_on},
    keys::labels,
};
use openmcp_reconcile::{
    Fault, Key, Lane, Outcome, Reconciler, apply::Mark, cluster::Connection, watch::Store,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A policy starts to deny about a second after it was applied; this is for a busy API server.
const PROBES: u32 = 300;
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Reconciles the operator's own access to the onboarding cluster: a single key.
pub(crate) struct Bootstrap {
    platform: Arc<Platform>,
    slot: Slot,
    wake: Wake,
    shutdown: CancellationToken,
    apply: Applier,
    /// Told when the onboarding cluster is usable.
    usable: watch::Sender<Option<Arc<Onboarding>>>,
}

impl Bootstrap {
    pub(crate) fn new(
        platform: Arc<Platform>,
        slot: Slot,
        wake: Wake,
        shutdown: CancellationToken,
        usable: watch::Sender<Option<Arc<Onboarding>>>,
    ) -> Self {
        let mark = Mark {
            label: labels::MANAGED_BY,
            value: NAME.to_owned(),
        };
        let apply = Applier {
            client: platform.client.clone(),
            manager: NAME,
            mark,
        };
        Self {
            platform,
            slot,
            wake,
            shutdown,
            apply,
            usable,
        }
    }
}

impl Reconciler for Bootstrap {
    async fn reconcile(&self, _key: &Key) -> Result<Outcome, Fault> {
        let (platform, namespace, name) =
            (&self.platform, self.platform.namespace.as_str(), requests::name());
        let request = platform.requests.get(namespace, &name);
        self.apply
            .ensure(request.as_deref(), requests::cluster_request(namespace))
            .await?;
        let access = platform.accesses.get(namespace, &name);
        let groups: BTreeSet<String> = registered(&platform.service_providers)
            .into_iter()
            .map(|kind| kind.group)
            .collect();
        self.apply
            .ensure(access.as_deref(), requests::access_request(namespace, &groups))
            .await?;
        let Some(access) = access else {
            return Ok(Outcome::Settled);
        };
        // Also while more is asked for: what was granted before stays valid.
        let secret = access
            .status
            .as_ref()
            .and_then(|status| status.secret_ref.as_ref());
        let Some(secret) = secret.and_then(|secret| platform.secrets.get(namespace, &secret.name)) else {
            return Ok(Outcome::Settled);
        };
        let Some(kubeconfig) = secret.kubeconfig() else {
            return Ok(Outcome::Settled);
        };
        let onboarding = match self.slot.get() {
            Some(onboarding) => {
                renew(onboarding, kubeconfig).await?;
                onboarding.clone()
            }
            None => self.open(kubeconfig).await?,
        };
        if is_current(&access) {
            onboarding.kinds.follow(&requests::readable_groups(&access));
        }
        onboarding.guard.ensure().await?;
        Ok(Outcome::Settled)
    }
}

/// Whether what the AccessRequest asks for now was granted.
fn is_current(access: &AccessRequest) -> bool {
    access.is_granted() && access.status.as_ref().map(|s| s.observed_generation) == access.metadata.generation
}

/// Takes over newer credentials for the same cluster. Others are refused: ControlPlanes of one onboarding cluster must
/// never be looked for on another one.
async fn renew(onboarding: &Onboarding, kubeconfig: &[u8]) -> Result<(), Fault> {
    if onboarding.connection.swap(kubeconfig).await? {
        return Ok(());
    }
    Err(Fault::invalid(
        "OtherCluster",
        "the kubeconfig for the onboarding cluster points at another API server than before and is not used: restart the operator if the onboarding cluster was really replaced",
    ))
}

impl Bootstrap {
    async fn open(&self, kubeconfig: &[u8]) -> Result<Arc<Onboarding>, Fault> {
        let connection = Connection::from_kubeconfig(kubeconfig, NAME).await?;
        let client = connection.client();
        // A kubeconfig with another CA is compared with it later, and so is what was made for ControlPlanes.
        let identity = connection.identity().await?.ok_or_else(|| {
            let message = "the onboarding cluster has no namespace kube-system yet";
            Fault::retry("OnboardingIdentity", message)
        })?;
        let stop = self.shutdown.child_token();
        let abandoned = stop.clone().drop_guard();
        let guard = Guard::start(&client, &self.wake, &stop);
        let crds = async {
            let installed = crds::install(&client, NAME, installed_on(InstalledOn::Onboarding)).await;
            installed.map_err(|error| Fault::retry("OnboardingCrds", format!("onboarding cluster: {error}")))
        };
        let guarded = async {
            guard.synced().await;
            guard.ensure().await
        };
        tokio::try_join!(crds, guarded)?;
        let onboarding = self.watch(connection, client, identity, guard, &stop);
        tokio::join!(prove(&onboarding.client), onboarding.synced()).0?;
        abandoned.disarm();
        self.opened(&onboarding);
        tracing::info!("the onboarding cluster is usable: its policies deny, ControlPlanes are served");
        Ok(onboarding)
    }

    /// Its watches, which end with `stop`.
    pub(crate) fn watch(
        &self,
        connection: Connection,
        client: kube::Client,
        identity: String,
        guard: Guard,
        stop: &CancellationToken,
    ) -> Arc<Onboarding> {
        Arc::new(Onboarding::watch(
            connection,
            client,
            identity,
            guard,
            &self.platform,
            &self.wake,
            stop,
        ))
    }

    /// Tells everybody that the onboarding cluster is usable.
    pub(crate) fn opened(&self, onboarding: &Arc<Onboarding>) {
        let known = onboarding.control_planes.clone();
        let _ = self.wake.known_control_planes.set(known);
        let _ = self.slot.set(onboarding.clone());
        self.usable.send_replace(Some(onboarding.clone()));
        // Until now nobody could know whether there are service objects.
        onboarding.removals.wake();
    }
}

/// Keeps the policies and the tenants' roles on the onboarding cluster as they are to be.
pub(crate) struct Guard {
    apply: Applier,
    policies: Store<ValidatingAdmissionPolicy>,
    bindings: Store<ValidatingAdmissionPolicyBinding>,
    roles: Store<ClusterRole>,
}

impl Guard {
    pub(crate) fn start(client: &kube::Client, wake: &Wake, stop: &CancellationToken) -> Self {
        let mark = Mark {
            label: labels::MANAGED_BY,
            value: labels::MANAGED_BY_CONTROL_PLANE.to_owned(),
        };
        let from = Source { client, wake, stop };
        let marked = Config::default().labels(&format!("{}={}", mark.label, mark.value));
        Self {
            apply: Applier {
                client: client.clone(),
                manager: NAME,
                mark,
            },
            policies: from.watch(Config::default(), |wake, _| wake.onboarding(Lane::Normal)),
            bindings: from.watch(Config::default(), |wake, _| wake.onboarding(Lane::Normal)),
            roles: from.watch(marked, |wake, _| wake.onboarding(Lane::Normal)),
        }
    }

    async fn synced(&self) {
        tokio::join!(
            self.policies.synced(),
            self.bindings.synced(),
            self.roles.synced()
        );
    }

    async fn ensure(&self) -> Result<(), Fault> {
        for [policy, binding] in policies::all() {
            let name = policy["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.apply
                .ensure(self.policies.get("", &name).as_deref(), policy)
                .await?;
            self.apply
                .ensure(self.bindings.get("", &name).as_deref(), binding)
                .await?;
        }
        for role in roles::all() {
            let name = role["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.apply
                .ensure(self.roles.get("", &name).as_deref(), role)
                .await?;
        }
        Ok(())
    }
}

/// Tries, without effect, what the policy forbids, until it is denied.
async fn prove(client: &kube::Client) -> Result<(), Fault> {
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), "default");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    for _ in 0..PROBES {
        match api.create(&dry_run, &policies::forbidden()).await {
            Err(kube::Error::Api(status)) if status.message.contains(policies::PURPOSE_POLICY) => {
                return Ok(());
            }
            Err(error @ (kube::Error::HyperError(_) | kube::Error::Service(_))) => {
                return Err(Fault::api(
                    "try a forbidden ControlPlane on the onboarding cluster",
                    &error,
                ));
            }
            Ok(_) | Err(_) => tokio::time::sleep(PROBE_EVERY).await,
        }
    }
    Err(Fault::retry(
        "PolicyInert",
        format!(
            "the policy {} on the onboarding cluster does not deny a forbidden ControlPlane: ControlPlanes are not served before it does",
            policies::PURPOSE_POLICY
        ),
    ))
}
