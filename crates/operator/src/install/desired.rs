//! What is installed for a provider, built from its spec alone (contract §3, §11.6): pure, golden-tested.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use openmcp_api::{
    keys::{annotations, env, labels},
    names::{Component, ProviderNames},
    provider::{DeploymentSpec, Provider, ProviderKind},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where a webhook server looks for its certificate.
const SERVING_CERTS: &str = "/tmp/k8s-webhook-server/serving-certs";
const WEBHOOK_VOLUME: &str = "webhook-tls";
const METRICS_PORT: &str = "metrics-http";
/// Pods that the Job starts after the first one failed.
const BACKOFF_LIMIT: i32 = 4;

/// One provider, and where it is installed.
pub(crate) struct Installation<'a> {
    pub kind: ProviderKind,
    pub name: String,
    pub names: ProviderNames,
    pub generation: i64,
    pub spec: &'a DeploymentSpec,
    pub namespace: &'a str,
    pub environment: &'a str,
    owner: Option<OwnerReference>,
}

impl<'a> Installation<'a> {
    pub(crate) fn new<P: Provider>(provider: &'a P, namespace: &'a str, environment: &'a str) -> Self {
        Self {
            kind: P::KIND,
            name: provider.name_any(),
            names: ProviderNames::new(P::KIND, provider.name_any()),
            generation: provider.meta().generation.unwrap_or_default(),
            spec: provider.deployment(),
            namespace,
            environment,
            owner: provider.controller_owner_ref(&()),
        }
    }

    /// Names in spec.env that the operator sets itself, or that occur twice.
    pub(crate) fn clashing_env(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::from(env::RESERVED);
        self.spec
            .env
            .iter()
            .map(|e| e.name.as_str())
            .filter(|name| !seen.insert(name))
            .collect()
    }

    pub(crate) fn namespace_object(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
    }

    pub(crate) fn service_account(&self, component: Component) -> Value {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.metadata(&self.names.object(component), component)})
    }

    /// Binds a component's ServiceAccount to `cluster_role`.
    pub(crate) fn cluster_role_binding(&self, component: Component, cluster_role: &str) -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": self.names.cluster_scoped(component), "labels": self.names.labels(component)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": [self.subject(component)],
        })
    }

    /// What init may do in its own namespace, beside its ClusterRole.
    pub(crate) fn init_role(&self) -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": self.metadata(&self.names.object(Component::Init), Component::Init),
            "rules": [{"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["create", "update", "patch", "delete"]}],
        })
    }

    pub(crate) fn init_role_binding(&self) -> Value {
        let name = self.names.object(Component::Init);
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": self.metadata(&name, Component::Init),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [self.subject(Component::Init)],
        })
    }

    pub(crate) fn job(&self) -> Value {
        let component = Component::Init;
        let mut metadata = self.metadata(&self.names.object(component), component);
        metadata["annotations"] = json!({
            annotations::PROVIDER_NAME: self.name,
            annotations::PROVIDER_KIND: self.kind.as_str(),
            annotations::PROVIDER_GENERATION: self.generation.to_string(),
        });
        metadata["ownerReferences"] = json!([self.owner]);
        let mut pod = self.pod(component, self.spec.init_command(), Vec::new());
        pod["restartPolicy"] = "Never".into();
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": metadata,
            "spec": {
                "backoffLimit": BACKOFF_LIMIT,
                "template": {"metadata": {"labels": self.names.labels(component)}, "spec": pod},
            },
        })
    }

    /// The run part; with `webhook` the Secret of its webhooks' certificate is mounted.
    pub(crate) fn deployment(&self, webhook: bool) -> Value {
        let component = Component::Run;
        let mut flags = Vec::new();
        if self.spec.run_replicas > 1 {
            flags.push("--leader-elect=true".to_owned());
        }
        let mut pod_metadata = json!({"labels": self.names.labels(component)});
        if let Some(metrics) = self.spec.metrics() {
            flags.push(format!("--metrics-bind-address=:{}", metrics.port));
            flags.push("--metrics-secure=false".to_owned());
            pod_metadata["annotations"] = json!({
                annotations::PROMETHEUS_SCRAPE: "true",
                annotations::PROMETHEUS_PATH: metrics.path,
                annotations::PROMETHEUS_PORT: metrics.port.to_string(),
            });
        }
        let mut pod = self.pod(component, self.spec.run_command(), flags);
        if let Some(metrics) = self.spec.metrics() {
            pod["containers"][0]["ports"] =
                json!([{"name": METRICS_PORT, "containerPort": metrics.port, "protocol": "TCP"}]);
        }
        if webhook {
            push(
                &mut pod["volumes"],
                json!({"name": WEBHOOK_VOLUME, "secret": {"secretName": self.names.webhook_secret()}}),
            );
            push(
                &mut pod["containers"][0]["volumeMounts"],
                json!({"name": WEBHOOK_VOLUME, "mountPath": SERVING_CERTS, "readOnly": true}),
            );
        }
        self.spread(&mut pod, &mut pod_metadata);
        let mut metadata = self.metadata(&self.names.object(component), component);
        metadata["ownerReferences"] = json!([self.owner]);
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": self.spec.run_replicas,
                "selector": {"matchLabels": self.names.labels(component)},
                "template": {"metadata": pod_metadata, "spec": pod},
            },
        })
    }

    /// The Service in front of the run part's metrics, unless they are disabled.
    pub(crate) fn metrics_service(&self) -> Option<Value> {
        let metrics = self.spec.metrics()?;
        Some(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": self.metadata(&self.names.metrics_service(), Component::Run),
            "spec": {
                "type": "ClusterIP",
                "selector": self.names.labels(Component::Run),
                "ports": [{"name": METRICS_PORT, "port": metrics.port, "targetPort": METRICS_PORT, "protocol": "TCP"}],
            },
        }))
    }

    fn metadata(&self, name: &str, component: Component) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": self.names.labels(component)})
    }

    fn subject(&self, component: Component) -> Value {
        json!({"kind": "ServiceAccount", "name": self.names.object(component), "namespace": self.namespace})
    }

    /// The pod of a component: its image's entrypoint with the command words and flags as arguments.
    fn pod(&self, component: Component, command: Vec<String>, flags: Vec<String>) -> Value {
        let mut args = command;
        args.push(format!("--environment={}", self.environment));
        args.push(format!("--verbosity={}", self.spec.verbosity));
        args.push(format!("--provider-name={}", self.name));
        args.extend(flags);
        let mut container = json!({
            "name": self.names.container(component),
            "image": self.spec.image,
            "imagePullPolicy": "IfNotPresent",
            "args": args,
            "env": self.env(),
        });
        let mut pod = json!({"serviceAccountName": self.names.object(component)});
        if !self.spec.image_pull_secrets.is_empty() {
            pod["imagePullSecrets"] = json!(self.spec.image_pull_secrets);
        }
        if !self.spec.extra_volumes.is_empty() {
            pod["volumes"] = json!(self.spec.extra_volumes);
        }
        if !self.spec.extra_volume_mounts.is_empty() {
            container["volumeMounts"] = json!(self.spec.extra_volume_mounts);
        }
        pod["containers"] = json!([container]);
        pod
    }

    fn env(&self) -> Vec<Value> {
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let own = [
            field(env::POD_NAME, "metadata.name"),
            field(env::POD_NAMESPACE, "metadata.namespace"),
            field(env::POD_IP, "status.podIP"),
            field(env::POD_SERVICE_ACCOUNT_NAME, "spec.serviceAccountName"),
        ];
        self.spec.env.iter().map(|e| json!(e)).chain(own).collect()
    }

    /// Spreads the run part's pods as asked; the selector is always its own pods'.
    fn spread(&self, pod: &mut Value, pod_metadata: &mut Value) {
        if self.spec.topology_spread_constraints.is_empty() {
            return;
        }
        let own =
            json!({labels::TOPOLOGY: self.names.topology(), labels::TOPOLOGY_NAMESPACE: self.namespace});
        for key in [labels::TOPOLOGY, labels::TOPOLOGY_NAMESPACE] {
            pod_metadata["labels"][key] = own[key].clone();
        }
        let constraints = self.spec.topology_spread_constraints.iter().map(|constraint| {
            let mut constraint = json!(constraint);
            constraint["labelSelector"] = json!({"matchLabels": own});
            constraint
        });
        pod["topologySpreadConstraints"] = constraints.collect();
    }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}
