//! Names and labels of what the operator installs for a provider (contract §3, §11.6).
use std::collections::BTreeMap;

use super::{MAX_LENGTH, hash::shortened};
use crate::{keys::labels, provider::ProviderKind};

/// The parts of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// The init Job.
    Init,
    /// The Deployment.
    Run,
}

/// Names of what the operator installs for one provider.
///
/// ```
/// use openmcp_api::{names::{Component, ProviderNames}, provider::ProviderKind};
///
/// let names = ProviderNames::new(ProviderKind::Service, "kro");
/// assert_eq!(names.object(Component::Run), "sp-kro");
/// assert_eq!(names.cluster_scoped(Component::Init), "openmcp.cloud:sp-kro-init");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderNames {
    kind: ProviderKind,
    provider: String,
}

impl ProviderNames {
    /// Names for the provider object of that kind and name.
    pub fn new(kind: ProviderKind, provider: impl Into<String>) -> Self {
        Self {
            kind,
            provider: provider.into(),
        }
    }

    fn prefixed(&self) -> String {
        let prefix = match self.kind {
            ProviderKind::Service => "sp",
            ProviderKind::Cluster => "cp",
            ProviderKind::Platform => "ps",
        };
        format!("{prefix}-{}", self.provider).to_lowercase()
    }

    /// Job or Deployment, ServiceAccount, Role and RoleBinding of a component.
    pub fn object(&self, component: Component) -> String {
        match component {
            Component::Init => format!("{}-init", self.prefixed()),
            Component::Run => self.prefixed(),
        }
    }

    /// ClusterRole and ClusterRoleBinding of a component.
    pub fn cluster_scoped(&self, component: Component) -> String {
        format!("openmcp.cloud:{}", self.object(component))
    }

    /// The component's only container.
    pub fn container(&self, component: Component) -> String {
        match component {
            Component::Init => "init".into(),
            Component::Run => self.prefixed(),
        }
    }

    /// The Service in front of the metrics endpoint.
    pub fn metrics_service(&self) -> String {
        const SUFFIX: &str = "-metrics";
        format!(
            "{}{SUFFIX}",
            shortened(&self.prefixed(), MAX_LENGTH - SUFFIX.len())
        )
    }

    /// The Secret with the certificate of the provider's webhooks, which somebody else makes.
    pub fn webhook_secret(&self) -> String {
        const SUFFIX: &str = "-webhook-tls";
        format!("{}{SUFFIX}", shortened(&self.provider, MAX_LENGTH - SUFFIX.len()))
    }

    /// The value of the label `openmcp.cloud/topology`.
    pub fn topology(&self) -> String {
        self.prefixed()
    }

    /// The labels of a component's objects and pods, which are also the Deployment's selector.
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let component = match component {
            Component::Init => "init-job",
            Component::Run => "controller",
        };
        [
            (labels::APP_MANAGED_BY, labels::MANAGED_BY_OPERATOR),
            (labels::APP_NAME, self.kind.as_str()),
            (labels::APP_INSTANCE, &self.provider),
            (labels::APP_COMPONENT, component),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}
