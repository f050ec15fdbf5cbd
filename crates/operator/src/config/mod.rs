//! The operator's configuration: read once at start, validated as a whole, every complaint names its key.
//!
//! Owns the file's format and the rules between its keys. Knows nothing of clusters or clients. The rest of the
//! operator sees only [`Config`], in which selectors are compiled and defaults are filled in.
mod file;

pub(crate) use file::{ExposedEndpoint, Scope, Strategy, Template};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use openmcp_api::{
    clusters::Tenancy, common::OidcProviderConfig, control_plane::DEFAULT_OIDC_PROVIDER, names,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a configuration may be refused for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path}: {source}")]
    Parse {
        path: PathBuf,
        source: serde_yaml::Error,
    },
    #[error("configuration file {path}: {key}: {problem}")]
    Invalid {
        path: PathBuf,
        key: String,
        problem: String,
    },
}

/// One rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    key: String,
    problem: String,
}

fn broken<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, Broken> {
    Err(Broken {
        key: key.into(),
        problem: problem.into(),
    })
}

/// The whole configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub scheduler: Scheduler,
    /// Which AccessRequests the generic controller acts on.
    pub access_requests: Selector,
    pub control_planes: ControlPlanes,
}

/// How ClusterRequests become Clusters.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub scope: Scope,
    pub strategy: Strategy,
    pub requests: Selector,
    pub purposes: BTreeMap<String, Purpose>,
}

/// What a purpose is served by.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// How many requests may share a cluster; 0: all of them share one.
    pub tenancy_count: usize,
    /// The global and the purpose's own selector; a cluster must match both.
    pub selectors: [Selector; 2],
    pub template: Template,
}

impl Purpose {
    /// Whether each request gets a cluster of its own.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.template.spec.tenancy == Tenancy::Exclusive
    }

    /// Whether all requests share a single cluster.
    pub(crate) fn is_singleton(&self) -> bool {
        !self.is_exclusive() && self.tenancy_count == 0
    }

    /// Whether a cluster with these labels may be shared for the purpose.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selectors.iter().all(|s| s.matches(labels))
    }
}

/// How ControlPlanes are made.
#[derive(Debug, Clone)]
pub(crate) struct ControlPlanes {
    pub cluster_purpose: String,
    pub default_oidc_provider: Option<OidcProviderConfig>,
    /// Look at each ControlPlane again after this time, also if nothing changed.
    pub reconcile_every: Option<Duration>,
    pub exposed_endpoints: Vec<ExposedEndpoint>,
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the key.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        let file: file::File = serde_yaml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.into(),
            source,
        })?;
        Self::validate(file).map_err(|b| ConfigError::Invalid {
            path: path.into(),
            key: b.key,
            problem: b.problem,
        })
    }

    fn validate(file: file::File) -> Result<Self, Broken> {
        Ok(Self {
            scheduler: scheduler(file.scheduler)?,
            access_requests: selector("accessRequest.selector", file.access_request.selector)?,
            control_planes: control_planes(file.managed_control_plane)?,
        })
    }
}

fn selector(key: &str, selector: Option<LabelSelector>) -> Result<Selector, Broken> {
    let compiled = selector.map(Selector::try_from).transpose();
    compiled
        .map(Option::unwrap_or_default)
        .or_else(|error| broken(key, error.to_string()))
}

fn scheduler(file: file::Scheduler) -> Result<Scheduler, Broken> {
    let clusters = selector("scheduler.selectors.clusters", file.selectors.clusters)?;
    let requests = selector("scheduler.selectors.requests", file.selectors.requests)?;
    let purposes = file
        .purpose_mappings
        .into_iter()
        .map(|(name, mapping)| Ok((name.clone(), purpose(&name, mapping, &clusters)?)))
        .collect::<Result<_, _>>()?;
    Ok(Scheduler {
        scope: file.scope,
        strategy: file.strategy,
        requests,
        purposes,
    })
}

fn purpose(name: &str, mapping: file::Mapping, clusters: &Selector) -> Result<Purpose, Broken> {
    let key = format!("scheduler.purposeMappings.{name}");
    if name.is_empty() {
        return broken("scheduler.purposeMappings", "a purpose must not be empty");
    }
    let file::Mapping {
        tenancy_count,
        selector: own,
        template,
    } = mapping;
    if template.spec.profile.is_empty() {
        return broken(
            format!("{key}.template.spec.profile"),
            "must name a ClusterProfile",
        );
    }
    let Ok(tenancy_count) = usize::try_from(tenancy_count) else {
        return broken(
            format!("{key}.tenancyCount"),
            format!("must not be negative, is {tenancy_count}"),
        );
    };
    if template.spec.tenancy == Tenancy::Exclusive && tenancy_count != 0 {
        return broken(
            format!("{key}.tenancyCount"),
            "must be 0 (or absent) where the template's tenancy is Exclusive",
        );
    }
    let prefix = names::cluster_prefix(template.metadata.generate_name.as_deref(), name);
    if let Err(error) = names::cluster(&prefix, "", "") {
        return broken(format!("{key}.template.metadata.generateName"), error.to_string());
    }
    let own = selector(&format!("{key}.selector"), own)?;
    for (which, selector) in [
        ("scheduler.selectors.clusters", clusters),
        ("the purpose's own selector", &own),
    ] {
        if !selector.matches(&template.metadata.labels) {
            return broken(
                format!("{key}.template.metadata.labels"),
                format!("must match {which}, or the clusters made for the purpose are never found again"),
            );
        }
    }
    Ok(Purpose {
        tenancy_count,
        selectors: [clusters.clone(), own],
        template,
    })
}

fn control_planes(file: file::ManagedControlPlane) -> Result<ControlPlanes, Broken> {
    let every = u64::try_from(file.reconcile_every_days).or_else(|_| {
        broken(
            "managedControlPlane.reconcileMCPEveryXDays",
            "must not be negative",
        )
    })?;
    Ok(ControlPlanes {
        cluster_purpose: file.mcp_cluster_purpose.unwrap_or_else(|| "mcp".to_owned()),
        default_oidc_provider: file
            .default_oidc_provider
            .map(default_oidc_provider)
            .transpose()?,
        reconcile_every: (every > 0).then(|| Duration::from_secs(every * 24 * 60 * 60)),
        exposed_endpoints: file.exposed_endpoints,
    })
}

fn default_oidc_provider(file: file::DefaultOidcProvider) -> Result<OidcProviderConfig, Broken> {
    let key = "managedControlPlane.defaultOIDCProvider";
    if !file.role_bindings.is_empty() {
        return broken(
            format!("{key}.roleBindings"),
            "must be empty: each ControlPlane binds roles for the default provider itself",
        );
    }
    if !(file.issuer.starts_with("https://") || file.issuer.starts_with("http://")) {
        return broken(
            format!("{key}.issuer"),
            format!("must be an http(s) URL, is {:?}", file.issuer),
        );
    }
    if file.client_id.is_empty() {
        return broken(format!("{key}.clientID"), "must not be empty");
    }
    Ok(OidcProviderConfig {
        name: DEFAULT_OIDC_PROVIDER.to_owned(),
        issuer: file.issuer,
        client_id: file.client_id,
        groups_prefix: file.groups_prefix,
        groups_claim: file.groups_claim.unwrap_or_else(|| "groups".to_owned()),
        username_prefix: file.username_prefix,
        username_claim: file.username_claim.unwrap_or_else(|| "sub".to_owned()),
        extra_scopes: file.extra_scopes,
        role_bindings: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
