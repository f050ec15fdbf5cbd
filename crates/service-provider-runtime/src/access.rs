//! Access to a service object's clusters: the requests on the platform (contract §8), and the connections that
//! their credentials make.
//!
//! Owns ClusterRequests and AccessRequests of the provider. Each pass makes sure of them: what somebody deletes is
//! made again, whatever the pass is for. A Shared cluster has one AccessRequest for all service objects on it, given
//! back with the last of them. Nothing here polls: each wait ends with an event.
mod connections;
mod credentials;
mod identities;
mod outdated;
mod release;
mod requests;

pub(crate) use connections::{Connections, Reached};
pub(crate) use credentials::Credentials;
pub(crate) use identities::{Identities, says_the_same};
pub(crate) use requests::{Owner, Requests, base_rules};

use crate::desired::Role;
use openmcp_api::common::ObjectReference;
use openmcp_reconcile::Fault;
use std::{fmt, str::FromStr};

/// A cluster that something is wanted on: connected, or why not.
pub(crate) type Site = (ClusterName, Result<Reached, Fault>);

/// How an inventory calls a cluster: `mcp/<namespace>/<name>` of the Cluster object, or `workload/…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterName {
    pub(crate) role: Role,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ClusterName {
    pub(crate) fn new(role: Role, cluster: &ObjectReference) -> Self {
        Self {
            role,
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
        }
    }

    /// How it is called to people.
    pub(crate) fn title(&self) -> String {
        let what = match self.role {
            Role::Mcp => "the ControlPlane",
            Role::Workload => "the workload cluster",
        };
        format!("{what} (Cluster {}/{})", self.namespace, self.name)
    }

    pub(crate) fn reference(&self) -> ObjectReference {
        ObjectReference::new(&*self.namespace, &*self.name)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.role.as_str(), self.namespace, self.name)
    }
}

/// A cluster name that this build does not understand.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no cluster of an inventory: expected mcp/<namespace>/<name> or workload/<namespace>/<name>"
)]
pub(crate) struct UnknownClusterName(String);

impl FromStr for ClusterName {
    type Err = UnknownClusterName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/');
        let role = match parts.next() {
            Some("mcp") => Role::Mcp,
            Some("workload") => Role::Workload,
            _ => return Err(UnknownClusterName(text.to_owned())),
        };
        match (parts.next(), parts.next()) {
            (Some(namespace), Some(name)) => Ok(Self {
                role,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(UnknownClusterName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_reads_back() {
        let name = ClusterName::new(
            Role::Workload,
            &ObjectReference::new("openmcp-system", "workload-x"),
        );
        assert_eq!(name.to_string().parse::<ClusterName>().ok(), Some(name));
        assert!("elsewhere/a/b".parse::<ClusterName>().is_err());
    }
}
