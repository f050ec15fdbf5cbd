//! The provider's own access to the onboarding cluster: static requests (contract §8), kept while it runs.
use crate::{
    access::base_rules,
    provider::{ServiceProvider, rules},
    world::Names,
};
use k8s_openapi::api::{core::v1::Secret, rbac::v1::PolicyRule};
use kube::{
    Api, Resource,
    runtime::{wait::await_condition, watcher},
};
use openmcp_api::{
    AccessRequest, ClusterRequest,
    clusters::{AccessRequestSpec, ClusterRequestSpec, TokenConfig, purpose},
    common::{ObjectReference, PermissionsRequest},
    keys::{labels, secrets},
    names,
};
use openmcp_reconcile::{
    Environment, Fault,
    apply::{self, Mark},
    cluster::Connection,
    fault::Class,
    watch,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What `init` does on the onboarding cluster: it installs.
pub(crate) fn init_rules() -> Vec<PolicyRule> {
    vec![
        rules::allow(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &["get", "list", "watch", "create", "patch"],
        ),
        // It gives tenants rights on the service's kinds, which it does not hold itself.
        rules::allow(
            "rbac.authorization.k8s.io",
            &["clusterroles"],
            &["get", "create", "patch", "escalate"],
        ),
        base_rules(),
    ]
}

/// What `run` does there: it serves one kind.
fn run_rules(group: &str, plural: &str) -> Vec<PolicyRule> {
    let sub = |name: &str| format!("{plural}/{name}");
    vec![
        rules::allow(group, &[plural], &["get", "list", "watch", "patch"]),
        rules::allow(
            group,
            &[&sub("status"), &sub("finalizers")],
            &["get", "patch", "update"],
        ),
        rules::allow(
            "core.open-control-plane.io",
            &["controlplanes"],
            &["get", "list", "watch"],
        ),
        rules::allow("events.k8s.io", &["events"], &["create", "patch"]),
        base_rules(),
    ]
}

/// Until what failed in passing is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The static requests of one purpose.
#[derive(Clone)]
pub(crate) struct Onboarding {
    client: kube::Client,
    environment: Environment,
    provider: &'static str,
    controller: String,
    namespace: String,
    name: String,
    rules: Vec<PolicyRule>,
}

impl Onboarding {
    /// `local` is `onboarding-init` or `onboarding-run`.
    pub(crate) fn new(platform: &Connection, names: &Names, local: &str, rules: Vec<PolicyRule>) -> Self {
        Self {
            client: platform.client(),
            environment: platform.environment().clone(),
            name: names::static_request(&names.group, local),
            provider: names.provider,
            controller: names.group.clone(),
            namespace: names.home.clone(),
            rules,
        }
    }

    /// Those of `run`.
    pub(crate) fn of_run<P: ServiceProvider>(platform: &Connection, names: &Names) -> Self {
        let rules = run_rules(&names.group, &P::Api::plural(&()));
        Self::new(platform, names, "onboarding-run", rules)
    }

    /// Asks for the cluster and for access, and waits until both are granted.
    pub(crate) async fn connect(&self, user_agent: &str) -> Result<Connection, Fault> {
        self.request().await?;
        let api: Api<AccessRequest> = Api::namespaced(self.client.clone(), &self.namespace);
        let decided = |request: Option<&AccessRequest>| {
            request.is_some_and(|request| request.granted_secret().is_some() || request.is_denied())
        };
        let waited = await_condition(api, &self.name, decided).await;
        let request = waited.map_err(|error| {
            Fault::new(
                Class::Unreachable,
                "Unreachable",
                format!("wait for AccessRequest {}: {error}", self.name),
            )
        })?;
        let secret = request
            .as_ref()
            .and_then(AccessRequest::granted_secret)
            .ok_or_else(|| {
                let message = format!(
                    "access to the onboarding cluster is denied: AccessRequest {}/{}",
                    self.namespace, self.name
                );
                Fault::new(Class::Denied, "AccessDenied", message)
            })?;
        Connection::within(&self.environment, &self.kubeconfig(secret).await?, user_agent).await
    }

    async fn kubeconfig(&self, secret: &str) -> Result<Vec<u8>, Fault> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get(secret)
            .await
            .map_err(|error| Fault::api(format_args!("read Secret {secret}"), &error))?;
        let bytes = found.data.and_then(|mut data| data.remove(secrets::KUBECONFIG));
        bytes
            .map(|bytes| bytes.0)
            .ok_or_else(|| Fault::retry("AccessPending", format!("Secret {secret} has no kubeconfig")))
    }

    /// Asks, without waiting. Writes nothing where everything is as it should be.
    pub(crate) async fn request(&self) -> Result<(), Fault> {
        let cluster = ClusterRequestSpec {
            purpose: purpose::ONBOARDING.to_owned(),
            wait_for_cluster_deletion: None,
        };
        self.upsert::<ClusterRequest>(json!(cluster)).await?;
        let access = AccessRequestSpec {
            request_ref: Some(ObjectReference::new(&*self.namespace, &*self.name)),
            token: Some(TokenConfig {
                permissions: vec![PermissionsRequest {
                    rules: self.rules.clone(),
                    ..PermissionsRequest::default()
                }],
                role_refs: Vec::new(),
            }),
            ..AccessRequestSpec::default()
        };
        self.upsert::<AccessRequest>(json!(access)).await
    }

    async fn upsert<K: Resource<DynamicType = ()>>(&self, spec: Value) -> Result<(), Fault> {
        let mark = Mark {
            label: labels::MANAGED_BY,
            value: names::label_value(&self.controller),
        };
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {
                "name": self.name, "namespace": self.namespace,
                // By it the operator takes the access back before the group is registered.
                "labels": {labels::RUNTIME_PROVIDER: names::label_value(self.provider)},
            },
            "spec": spec,
        });
        apply::upsert(&self.client, &self.controller, &mark, object)
            .await
            .map(drop)
    }

    /// Keeps the access: requests that somebody deletes are made again, renewed credentials are swapped in.
    pub(crate) async fn keep(self, connection: Connection, shutdown: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        let accesses = watch::watch(
            Api::<AccessRequest>::namespaced(self.client.clone(), &self.namespace),
            watcher::Config::default().fields(&format!("metadata.name={}", self.name)),
            shutdown.clone(),
            move |_| wake.notify_one(),
        );
        let wake = changed.clone();
        let secret = names::secret_of_access_request(&self.name);
        let secrets = watch::watch(
            Api::<Secret>::namespaced(self.client.clone(), &self.namespace),
            watcher::Config::default().fields(&format!("metadata.name={secret}")),
            shutdown.clone(),
            move |_| wake.notify_one(),
        );
        accesses.synced().await;
        while shutdown.run_until_cancelled(changed.notified()).await.is_some() {
            if let Err(fault) = self.mend(&connection, &accesses, &secrets, &secret).await {
                tracing::warn!(
                    reason = fault.reason,
                    "keeping the access to the onboarding cluster: {fault}"
                );
                if matches!(fault.class, Class::Retry | Class::Unreachable) {
                    tokio::time::sleep(AGAIN).await;
                    changed.notify_one();
                }
            }
        }
    }

    async fn mend(
        &self,
        connection: &Connection,
        accesses: &watch::Store<AccessRequest>,
        secrets: &watch::Store<Secret>,
        secret: &str,
    ) -> Result<(), Fault> {
        if accesses.get(&self.namespace, &self.name).is_none() {
            self.request().await?;
        }
        let held = secrets.get(&self.namespace, secret);
        let kubeconfig = held
            .as_ref()
            .and_then(|held| held.data.as_ref()?.get(openmcp_api::keys::secrets::KUBECONFIG));
        if let Some(kubeconfig) = kubeconfig
            && !connection.swap(&kubeconfig.0).await?
        {
            let message = format!("Secret {secret} leads to another cluster than before: refused");
            return Err(Fault::invalid("ClusterChanged", message));
        }
        Ok(())
    }
}
