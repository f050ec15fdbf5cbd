//! What people are told while a service goes on by what others' objects said before they could not be read any more.
use super::{ClusterName, Owner, Requests};
use crate::desired::Role;
use openmcp_api::names::{self, RequestTarget};

impl Requests {
    /// Which of the objects that lead to the service object's clusters cannot be read any more.
    pub(crate) fn outdated(&self, owner: &Owner<'_>) -> Vec<String> {
        let mut told = Vec::new();
        let unread = [
            self.cluster_requests.has_unread(),
            self.clusters.has_unread(),
            self.access_requests.has_unread(),
        ];
        if unread == [false; 3] {
            return told;
        }
        let workload = names::request(self.provider, &owner.key.name, RequestTarget::Workload);
        for (role, name) in [(Role::Mcp, &*owner.key.name), (Role::Workload, &workload)] {
            told.extend(self.cluster_requests.outdated(&owner.namespace, name));
            let request = self.cluster_requests.get(&owner.namespace, name).ok().flatten();
            let Some(cluster) = request.as_ref().and_then(|request| request.granted_cluster()) else {
                continue;
            };
            told.extend(self.clusters.outdated(&cluster.namespace, &cluster.name));
            if let Ok(wish) = self.wish(owner, &ClusterName::new(role, cluster)) {
                told.extend(self.access_requests.outdated(&wish.namespace, &wish.name));
            }
        }
        told
    }
}
