//! `openmcp.cloud/v1alpha1`: what the operator installs on the platform cluster. ServiceProvider, ClusterProvider and
//! PlatformService differ in what they do, not in how they are run (contract §2.1, §3).
use k8s_openapi::{
    ClusterResourceScope,
    api::core::v1::{TopologySpreadConstraint, Volume, VolumeMount},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{CustomResource, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{GroupVersionKind, LocalObjectReference, ObjectReference},
    schema,
};

/// The three kinds of providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    Service,
    Cluster,
    Platform,
}

impl ProviderKind {
    /// Every kind of provider.
    pub const ALL: [Self; 3] = [Self::Service, Self::Cluster, Self::Platform];

    /// The kind as it is written in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "ServiceProvider",
            Self::Cluster => "ClusterProvider",
            Self::Platform => "PlatformService",
        }
    }
}

/// What the three provider kinds have in common, so that one controller installs all of them.
pub trait Provider: Resource<DynamicType = (), Scope = ClusterResourceScope> {
    /// Which of the three it is.
    const KIND: ProviderKind;

    /// How it is to be run.
    fn deployment(&self) -> &DeploymentSpec;

    /// What the operator observed, if it did yet.
    fn deployment_status(&self) -> Option<&DeploymentStatus>;
}

/// How a provider is run: an init Job, then a Deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// The provider's image.
    #[schemars(length(min = 1))]
    pub image: String,
    /// Secrets in the operator's namespace that the image is pulled with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Arguments of the init Job's container; the common flags follow. Default `["init"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_command: Vec<String>,
    /// Arguments of the Deployment's container; the common flags follow. Default `["run"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run_command: Vec<String>,
    /// Environment of both containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// How much the provider logs.
    #[serde(default = "default_verbosity")]
    #[schemars(extend("enum" = ["DEBUG", "INFO", "ERROR", "debug", "info", "error"]))]
    pub verbosity: String,
    /// Volumes of both pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volumes")]
    pub extra_volumes: Vec<Volume>,
    /// Where the volumes are mounted in both containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volume_mounts")]
    pub extra_volume_mounts: Vec<VolumeMount>,
    /// Replicas of the Deployment. More than one adds `--leader-elect=true`.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1))]
    pub run_replicas: i32,
    /// How the Deployment's pods are spread. The label selector is set by the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topology_spread_constraints")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The provider's metrics endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfiguration>,
}

impl DeploymentSpec {
    /// The init container's command words.
    pub fn init_command(&self) -> Vec<String> {
        if self.init_command.is_empty() {
            vec!["init".into()]
        } else {
            self.init_command.clone()
        }
    }

    /// The run container's command words.
    pub fn run_command(&self) -> Vec<String> {
        if self.run_command.is_empty() {
            vec!["run".into()]
        } else {
            self.run_command.clone()
        }
    }

    /// Path and port of the metrics endpoint, unless it is disabled.
    pub fn metrics(&self) -> Option<MetricsEndpoint<'_>> {
        let given = self.metrics.as_ref();
        if given.is_some_and(|it| it.disabled) {
            return None;
        }
        Some(MetricsEndpoint {
            path: given.and_then(|it| it.path.as_deref()).unwrap_or("/metrics"),
            port: given.and_then(|it| it.port).unwrap_or(8080),
        })
    }
}

/// A provider's metrics endpoint, with the defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsEndpoint<'a> {
    pub path: &'a str,
    pub port: i32,
}

/// An environment variable with a plain value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The variable's value; empty if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Settings of a provider's metrics endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MetricsConfiguration {
    /// Whether there is none: no flag, no container port, no Service.
    #[schemars(extend("default" = false))]
    pub disabled: bool,
    /// Path of the endpoint. Default `/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Port of the endpoint. Default 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// What the operator observed of a provider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Initialized, Ready and Uninstalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions_atomic")]
    pub conditions: Vec<Condition>,
    /// The generation that was last acted on.
    pub observed_generation: i64,
    /// Progressing, Ready or Uninstalling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Where the metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsStatus>,
}

/// Where a provider's metrics are served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsStatus {
    /// The Service in front of the metrics endpoint.
    pub service_ref: ObjectReference,
}

/// A provider of services for tenants.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "openmcp.cloud",
    version = "v1alpha1",
    kind = "ServiceProvider",
    doc = "ServiceProvider is a service that tenants can order, as the platform owner installs it.",
    status = "ServiceProviderStatus",
    derive = "PartialEq",
    category = "openmcp",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    label("openmcp.cloud/cluster", "platform")
)]
pub struct ServiceProviderSpec {
    #[serde(flatten)]
    pub deployment: DeploymentSpec,
}

/// What was observed of a ServiceProvider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServiceProviderStatus {
    #[serde(flatten)]
    pub deployment: DeploymentStatus,
    /// The kinds that tenants order the service by. Written by the provider's own init; read when a ControlPlane is
    /// deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<GroupVersionKind>,
}

/// A provider of clusters.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "openmcp.cloud",
    version = "v1alpha1",
    kind = "ClusterProvider",
    doc = "ClusterProvider makes clusters and grants access to them, as the platform owner installs it.",
    status = "ClusterProviderStatus",
    derive = "PartialEq",
    category = "openmcp",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    label("openmcp.cloud/cluster", "platform")
)]
pub struct ClusterProviderSpec {
    #[serde(flatten)]
    pub deployment: DeploymentSpec,
}

/// What was observed of a ClusterProvider.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClusterProviderStatus {
    #[serde(flatten)]
    pub deployment: DeploymentStatus,
}

/// A service of the platform itself.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "openmcp.cloud",
    version = "v1alpha1",
    kind = "PlatformService",
    doc = "PlatformService is a service of the platform itself, as the platform owner installs it.",
    status = "PlatformServiceStatus",
    derive = "PartialEq",
    category = "openmcp",
    selectable = ".status.phase",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    label("openmcp.cloud/cluster", "platform")
)]
pub struct PlatformServiceSpec {
    #[serde(flatten)]
    pub deployment: DeploymentSpec,
}

/// What was observed of a PlatformService.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlatformServiceStatus {
    #[serde(flatten)]
    pub deployment: DeploymentStatus,
}

macro_rules! provider {
    ($kind:ty, $which:ident) => {
        impl Provider for $kind {
            const KIND: ProviderKind = ProviderKind::$which;

            fn deployment(&self) -> &DeploymentSpec {
                &self.spec.deployment
            }

            fn deployment_status(&self) -> Option<&DeploymentStatus> {
                self.status.as_ref().map(|it| &it.deployment)
            }
        }
    };
}
provider!(ServiceProvider, Service);
provider!(ClusterProvider, Cluster);
provider!(PlatformService, Platform);

fn default_verbosity() -> String {
    "INFO".into()
}

fn default_replicas() -> i32 {
    1
}
