//! ClusterRequests and AccessRequests of service objects.
use super::{ClusterName, Connections, Identities, Reached, Site, connections::Incarnation};
use crate::{archive::Archive, dependents::Dependents, desired::Role, provider::rules, stop::Stop};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::{Api, Resource, ResourceExt};
use openmcp_api::{
    AccessRequest, Cluster, ClusterRequest,
    clusters::{AccessRequestSpec, ClusterRequestSpec, Tenancy, TokenConfig, purpose},
    common::{ObjectReference, PermissionsRequest, phase},
    keys::{finalizers, labels},
    names::{self, RequestTarget},
};
use openmcp_reconcile::{
    Fault, Key,
    apply::{self, Mark},
    fault::Class,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

/// The service object that requests are made for.
#[derive(Debug, Clone)]
pub(crate) struct Owner<'a> {
    pub(crate) key: &'a Key,
    /// The ControlPlane's namespace on the platform.
    pub(crate) namespace: String,
}

impl<'a> Owner<'a> {
    pub(crate) fn new(key: &'a Key) -> Self {
        Self {
            namespace: names::control_plane_namespace(&key.namespace, &key.name),
            key,
        }
    }
}

/// The provider's requests on the platform.
pub(crate) struct Requests {
    pub(crate) client: kube::Client,
    pub(crate) provider: &'static str,
    /// The provider's own namespace: for what several service objects share.
    pub(crate) home: String,
    pub(crate) clusters: Archive<Cluster>,
    pub(crate) cluster_requests: Archive<ClusterRequest>,
    pub(crate) access_requests: Archive<AccessRequest>,
    pub(crate) connections: Connections,
    pub(crate) dependents: Arc<Dependents>,
}

/// What the runtime itself needs on each cluster: to know which one it is.
pub(crate) fn base_rules() -> PolicyRule {
    PolicyRule {
        resource_names: Some(vec!["kube-system".to_owned()]),
        ..rules::allow("", &["namespaces"], &["get"])
    }
}

impl Requests {
    pub(crate) const CLUSTER: &'static str = "Cluster";
    pub(crate) const CLUSTER_REQUEST: &'static str = "ClusterRequest";
    pub(crate) const ACCESS_REQUEST: &'static str = "AccessRequest";

    /// The Cluster of the service object's ControlPlane, by the ControlPlane's own ClusterRequest.
    pub(crate) fn mcp_cluster(&self, owner: &Owner<'_>) -> Result<ClusterName, Stop> {
        let (namespace, name) = (&owner.namespace, &owner.key.name);
        self.dependents
            .add(owner.key, Self::CLUSTER_REQUEST, namespace, name);
        match self.cluster_requests.get(namespace, name)? {
            Some(request) => granted(&request, Role::Mcp, "the ControlPlane's cluster"),
            None => Err(Stop::wait(
                "ClusterPending",
                format!(
                    "ControlPlane {} has not asked for its cluster yet",
                    owner.key.name
                ),
            )),
        }
    }

    /// The workload Cluster that the service object claims a slot on.
    pub(crate) async fn workload_cluster(&self, owner: &Owner<'_>) -> Result<ClusterName, Stop> {
        let name = names::request(self.provider, &owner.key.name, RequestTarget::Workload);
        self.dependents
            .add(owner.key, Self::CLUSTER_REQUEST, &owner.namespace, &name);
        let live = self.cluster_requests.get(&owner.namespace, &name)?;
        if let Some(live) = &live {
            self.let_go_if_deleted(live.as_ref()).await?;
        }
        let spec = ClusterRequestSpec {
            purpose: purpose::WORKLOAD.to_owned(),
            wait_for_cluster_deletion: None,
        };
        let labels = self.labels(owner, RequestTarget::Workload);
        match live.filter(|live| bears(live.as_ref(), &labels)) {
            Some(live) => granted(&live, Role::Workload, "a workload cluster"),
            None => {
                self.upsert::<ClusterRequest>(&owner.namespace, &name, labels, true, json!(spec))
                    .await?;
                Err(Stop::wait("ClusterPending", "a workload cluster is asked for"))
            }
        }
    }

    /// As [`Requests::reach`]. An API server that does not answer is the one obstacle that stops nothing else.
    pub(crate) async fn site(
        &self,
        owner: &Owner<'_>,
        cluster: ClusterName,
        rights: &[PolicyRule],
        recorded: &Identities,
    ) -> Result<Site, Stop> {
        match self.reach(owner, cluster.clone(), rights, recorded).await {
            Ok(reached) => Ok((cluster, Ok(reached))),
            Err(Stop::Fault(mut fault)) if fault.class == Class::Unreachable => {
                fault.message = format!("{}: {}", cluster.title(), fault.message);
                Ok((cluster, Err(fault)))
            }
            Err(stop) => Err(stop),
        }
    }

    /// Access to a cluster with these rights: asked for, waited for, connected; if it is the recorded one.
    pub(crate) async fn reach(
        &self,
        owner: &Owner<'_>,
        cluster: ClusterName,
        rights: &[PolicyRule],
        recorded: &Identities,
    ) -> Result<Reached, Stop> {
        let wish = self.wish(owner, &cluster)?;
        let spec = AccessRequestSpec {
            cluster_ref: wish.by_cluster.then(|| cluster.reference()),
            request_ref: wish
                .request
                .map(|request| ObjectReference::new(&*owner.namespace, request)),
            token: Some(TokenConfig {
                permissions: vec![PermissionsRequest {
                    rules: rights.iter().cloned().chain([base_rules()]).collect(),
                    ..PermissionsRequest::default()
                }],
                role_refs: Vec::new(),
            }),
            ..AccessRequestSpec::default()
        };
        let (namespace, name) = (wish.namespace, wish.name);
        self.dependents
            .add(owner.key, Self::ACCESS_REQUEST, &namespace, &name);
        let live = self.access_requests.get(&namespace, &name)?;
        if let Some(live) = &live {
            self.let_go_if_deleted(live.as_ref()).await?;
        }
        let same = |live: &AccessRequest| bears(live, &wish.labels) && live.spec.token == spec.token;
        let Some(live) = live.filter(|live| same(live)) else {
            // References cannot be changed once they are set: those that are there stay.
            let mut spec = json!(spec);
            if let Some(live) = self.access_requests.get(&namespace, &name)? {
                let live = json!(live.spec);
                for field in ["clusterRef", "requestRef"] {
                    spec[field] = live[field].clone();
                }
            }
            self.upsert::<AccessRequest>(&namespace, &name, wish.labels, wish.own, spec)
                .await?;
            return Err(Stop::wait(
                "AccessPending",
                format!("access to {} is asked for", cluster.title()),
            ));
        };
        if live.is_denied() {
            let why = first_message(live.status.as_ref().map(|status| status.conditions.as_slice()));
            let message = format!(
                "access to {} is denied (AccessRequest {namespace}/{name}): {why}",
                cluster.title()
            );
            return Err(Stop::stuck("AccessDenied", message));
        }
        match live.granted_secret() {
            Some(secret) => {
                self.connections
                    .reach(
                        owner.key,
                        cluster,
                        &wish.incarnation,
                        recorded,
                        (&namespace, &name, secret),
                    )
                    .await
            }
            None => {
                let why = first_message(live.status.as_ref().map(|status| status.conditions.as_slice()));
                Err(Stop::wait(
                    "AccessPending",
                    format!("waiting for access to {}: {why}", cluster.title()),
                ))
            }
        }
    }

    /// Which AccessRequest leads to a cluster.
    pub(super) fn wish(&self, owner: &Owner<'_>, cluster: &ClusterName) -> Result<Wish, Stop> {
        self.dependents
            .add(owner.key, Self::CLUSTER, &cluster.namespace, &cluster.name);
        let target = match cluster.role {
            Role::Mcp => RequestTarget::Mcp,
            Role::Workload => RequestTarget::Workload,
        };
        let live = self.clusters.get(&cluster.namespace, &cluster.name)?;
        let Some(live) = live else {
            return Err(Stop::wait(
                "ClusterPending",
                format!("{} does not exist yet", cluster.title()),
            ));
        };
        let incarnation = Incarnation {
            uid: live.uid().unwrap_or_default(),
            ready: live
                .status
                .as_ref()
                .is_some_and(|status| status.phase == phase::READY),
        };
        if live.spec.tenancy == Tenancy::Shared {
            let local = shared_name(cluster);
            let shared = BTreeMap::from([
                (labels::MANAGED_BY.to_owned(), names::label_value(self.provider)),
                (labels::MANAGED_PURPOSE.to_owned(), names::label_value(&local)),
            ]);
            return Ok(Wish {
                namespace: self.home.clone(),
                name: names::static_request(self.provider, &local),
                labels: shared,
                own: false,
                by_cluster: true,
                request: None,
                incarnation,
            });
        }
        // The request that granted the cluster, where it is still there; on the way out it may be gone.
        let request = match cluster.role {
            Role::Mcp => owner.key.name.to_string(),
            Role::Workload => names::request(self.provider, &owner.key.name, target),
        };
        let grants = |request: &Arc<ClusterRequest>| request.granted_cluster() == Some(&cluster.reference());
        let standing = self
            .cluster_requests
            .get(&owner.namespace, &request)?
            .filter(grants)
            .is_some();
        Ok(Wish {
            namespace: owner.namespace.clone(),
            name: names::request(self.provider, &owner.key.name, target),
            labels: self.labels(owner, target),
            own: true,
            by_cluster: !standing,
            request: standing.then_some(request),
            incarnation,
        })
    }

    /// Whether the platform says that a Cluster is gone: a complete list without it, confirmed by a GET.
    pub(crate) async fn is_gone(&self, cluster: &ClusterName) -> Result<bool, Fault> {
        if self.clusters.get(&cluster.namespace, &cluster.name)?.is_some() {
            return Ok(false);
        }
        let api: Api<Cluster> = Api::namespaced(self.client.clone(), &cluster.namespace);
        let found = api.get_opt(&cluster.name).await;
        found
            .map(|found| found.is_none())
            .map_err(|error| Fault::api(format_args!("read {}", cluster.title()), &error))
    }

    /// A request that somebody deleted must go before it can be made again: our finalizer does not hold it.
    async fn let_go_if_deleted<K>(&self, live: &K) -> Result<(), Stop>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        if live.meta().deletion_timestamp.is_none() {
            return Ok(());
        }
        self.drop_finalizer(live).await?;
        let (kind, name) = (K::kind(&()), live.name_any());
        Err(Stop::wait(
            "AccessPending",
            format!("{kind} {name} was deleted; it is made again when it is gone"),
        ))
    }

    async fn upsert<K>(
        &self,
        namespace: &str,
        name: &str,
        labels: BTreeMap<String, String>,
        own: bool,
        spec: Value,
    ) -> Result<(), Stop>
    where
        K: Resource<DynamicType = ()>,
    {
        let mark = Mark {
            label: labels::MANAGED_PURPOSE,
            value: labels.get(labels::MANAGED_PURPOSE).cloned().unwrap_or_default(),
        };
        let mut object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
        });
        if own {
            object["metadata"]["finalizers"] = json!([finalizers::CLUSTER_ACCESS]);
        }
        apply::upsert(&self.client, self.provider, &mark, object).await?;
        Ok(())
    }

    fn labels(&self, owner: &Owner<'_>, target: RequestTarget) -> BTreeMap<String, String> {
        let (namespace, name) = (&owner.key.namespace, &owner.key.name);
        [
            (labels::MANAGED_BY, self.provider.to_owned()),
            (
                labels::MANAGED_PURPOSE,
                names::managed_purpose(namespace, name, target),
            ),
            (labels::ONBOARDING_NAME, names::label_value(name)),
            (labels::ONBOARDING_NAMESPACE, names::label_value(namespace)),
        ]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
    }
}

/// How the access to a Shared cluster is called: what a provider may do there differs by the cluster's role.
pub(super) fn shared_name(cluster: &ClusterName) -> String {
    match cluster.role {
        Role::Mcp => format!("mcp--{}--{}", cluster.namespace, cluster.name),
        Role::Workload => format!("{}--{}", cluster.namespace, cluster.name),
    }
}

pub(super) struct Wish {
    pub(super) namespace: String,
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    /// Made for one service object, which holds it by a finalizer.
    own: bool,
    by_cluster: bool,
    request: Option<String>,
    incarnation: Incarnation,
}

fn granted(request: &ClusterRequest, role: Role, what: &str) -> Result<ClusterName, Stop> {
    let why = || first_message(request.status.as_ref().map(|status| status.conditions.as_slice()));
    if let Some(cluster) = request.granted_cluster() {
        return Ok(ClusterName::new(role, cluster));
    }
    if request.is_denied() {
        let message = format!(
            "{what} is denied (ClusterRequest {}): {}",
            request.name_any(),
            why()
        );
        return Err(Stop::stuck("ClusterDenied", message));
    }
    Err(Stop::wait(
        "ClusterPending",
        format!("waiting for {what}: {}", why()),
    ))
}

fn first_message(conditions: Option<&[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]>) -> String {
    let failing = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.status != "True");
    failing.map_or_else(
        || "it is being worked on".to_owned(),
        |condition| condition.message.clone(),
    )
}

fn bears<K: Resource>(live: &K, labels: &BTreeMap<String, String>) -> bool {
    let held = live.labels();
    labels.iter().all(|(label, value)| held.get(label) == Some(value))
}
