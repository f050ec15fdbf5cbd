//! Workload identity: a workload's access to its tenant's ControlPlane, and to nothing else.
//!
//! The kubeconfig names a `tokenFile`, since clients read an inline token once and never again. The token is issued
//! for a ServiceAccount that is itself a desired object: when a tenant deletes that, both are made anew at once.
use crate::{access::Reached, desired::Role};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{SecretVolumeSource, ServiceAccount, Volume, VolumeMount},
    },
};
use kube::{Api, api::PostParams};
use openmcp_api::names;
use openmcp_reconcile::{
    Fault,
    children::{Maker, RENEW_ANNOTATION, Recipe, Wanted, Wave},
    inventory::Id,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where the Secret is mounted in the workload.
const MOUNT_PATH: &str = "/var/run/secrets/openmcp.cloud/mcp";
/// Tokens live for four hours and are renewed after 80 % of that, in place.
const LIFETIME: SignedDuration = SignedDuration::from_hours(4);

/// An identity on the tenant's ControlPlane, and the Secret on the workload cluster by which a workload uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadIdentity {
    namespace: String,
    name: String,
    workload_namespace: String,
    cluster_role: Option<String>,
}

impl WorkloadIdentity {
    pub(crate) fn new(namespace: &str, name: &str, workload_namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            workload_namespace: workload_namespace.to_owned(),
            cluster_role: None,
        }
    }

    /// With the rights of this ClusterRole on the whole ControlPlane. Its binding is called like the role.
    #[must_use]
    pub fn bound_to(mut self, cluster_role: &str) -> Self {
        self.cluster_role = Some(cluster_role.to_owned());
        self
    }

    fn secret(&self) -> String {
        format!("{}-mcp", self.name)
    }

    /// The volume with the kubeconfig and its token, as `name`.
    pub fn volume(&self, name: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(self.secret()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }
    }

    /// The mount of that volume.
    pub fn mount(&self, name: &str) -> VolumeMount {
        VolumeMount {
            name: name.to_owned(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }
    }

    /// The kubeconfig's path in the workload.
    pub fn kubeconfig(&self) -> String {
        format!("{MOUNT_PATH}/kubeconfig")
    }

    /// The ServiceAccount and its binding on the ControlPlane, the Secret on the workload cluster.
    pub(crate) fn wanted(&self, mcp: &Reached) -> Vec<(Role, Wanted)> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "automountServiceAccountToken": false,
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": self.secret(), "namespace": self.workload_namespace},
        });
        let mut secret = Wanted::new(Role::Workload.as_str(), secret);
        secret.wave = Wave::Credential;
        secret.recipe = Some(Recipe {
            text: kubeconfig(mcp).to_string(),
            of: Id {
                cluster: mcp.name.to_string(),
                group: String::new(),
                kind: "ServiceAccount".to_owned(),
                namespace: self.namespace.clone(),
                name: self.name.clone(),
            },
        });
        let on_mcp = [Some(account), self.binding()].into_iter().flatten();
        let on_mcp = on_mcp.map(|object| (Role::Mcp, Wanted::new(Role::Mcp.as_str(), object)));
        on_mcp.chain([(Role::Workload, secret)]).collect()
    }
}

impl WorkloadIdentity {
    fn binding(&self) -> Option<Value> {
        let role = self.cluster_role.as_ref()?;
        Some(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}],
        }))
    }
}

/// The kubeconfig of a workload. Nothing in it is secret.
fn kubeconfig(mcp: &Reached) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mcp",
        "clusters": [{"name": "mcp", "cluster": {
            "server": mcp.endpoint.server,
            "certificate-authority-data": mcp.endpoint.ca,
        }}],
        "users": [{"name": "workload", "user": {"tokenFile": format!("{MOUNT_PATH}/token")}}],
        "contexts": [{"name": "mcp", "context": {"cluster": "mcp", "user": "workload"}}],
    })
}

/// Issues tokens on the clusters that are reached.
pub(crate) struct Tokens<'a> {
    pub(crate) reached: &'a BTreeMap<String, Reached>,
    pub(crate) now: Timestamp,
}

impl Maker for Tokens<'_> {
    async fn make(&self, wanted: &Wanted) -> Result<Value, Fault> {
        let bug = |what: &str| Fault::new(openmcp_reconcile::fault::Class::Bug, "NoRecipe", what.to_owned());
        let recipe = wanted
            .recipe
            .as_ref()
            .ok_or_else(|| bug("a Secret without a recipe"))?;
        let of = &recipe.of;
        let mcp = self
            .reached
            .get(&of.cluster)
            .ok_or_else(|| bug("a token for a cluster that is not reached"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(mcp.cluster.client.clone(), &of.namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME.as_secs()),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(&of.name, &PostParams::default(), &request)
            .await;
        let issued = issued
            .map_err(|error| Fault::api(format_args!("issue a token for {of} on {}", of.cluster), &error))?
            .status
            .and_then(|status| Some((status.token?, status.expiration_timestamp?)));
        let Some((token, expires)) = issued else {
            return Err(Fault::retry(
                "ApiError",
                format!("issue a token for {of}: an empty answer"),
            ));
        };
        // The API server may grant less than was asked for.
        let life = expires.0.duration_since(self.now);
        let renew_at = self.now + SignedDuration::from_secs(life.as_secs() / 5 * 4);
        let mut secret = wanted.object.clone();
        let data =
            |text: &str| serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap_or_default();
        secret["data"] = json!({"kubeconfig": data(&recipe.text), "token": data(&token)});
        secret["metadata"]["annotations"][RENEW_ANNOTATION] = Value::from(renew_at.to_string());
        Ok(secret)
    }
}

/// The namespace on a workload cluster for the service object `namespace/name`.
pub(crate) fn workload_namespace(provider: &str, namespace: &str, name: &str) -> String {
    names::label_value(&format!("{provider}--{}", names::name_hash(&[namespace, name])))
}
