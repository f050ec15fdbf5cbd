//! Which API servers a service object and what was made for it are on, as its Inventory records it: a process that was
//! started anew must not take another cluster for the one before (runtime design §7, invariant 6).
//!
//! What is not recorded is trusted and recorded with the next write. A Cluster object of another UID is another cluster
//! by the platform's word. It is an annotation, which an Inventory definition of any age keeps.
use super::{ClusterName, Reached};
use kube::ResourceExt;
use openmcp_api::{Inventory, keys::annotations};
use openmcp_reconcile::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the onboarding cluster is called among the others.
const ONBOARDING: &str = "onboarding";

/// By the name of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Identities(BTreeMap<String, Identity>);

/// One API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    /// UID of the Cluster object; none for the onboarding cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// UID of its kube-system.
    server: String,
}

/// Why a cluster is refused, and what a platform owner can do.
fn changed(what: &str) -> Fault {
    Fault::invalid(
        "ClusterChanged",
        format!(
            "{what} leads to another cluster than before: refused, and nothing is changed or removed. If that is meant, \
             and what was made on the one before may be forgotten, remove annotation {} of the Inventory",
            annotations::CLUSTERS
        ),
    )
}

impl Identities {
    /// As recorded. What nobody can read says nothing.
    pub(crate) fn of(inventory: &Inventory) -> Self {
        let text = inventory.annotations().get(annotations::CLUSTERS);
        let recorded = text.and_then(|text| serde_json::from_str(text).ok());
        recorded.unwrap_or_default()
    }

    /// Refuses the API server that `source` leads to, for a Cluster object with the UID `of`, where another one is
    /// recorded for that Cluster object.
    pub(crate) fn admit(
        &self,
        name: &ClusterName,
        of: &str,
        server: &str,
        source: &str,
    ) -> Result<(), Fault> {
        match self.0.get(&name.to_string()) {
            Some(known) if known.cluster.as_deref() == Some(of) && known.server != server => {
                Err(changed(source))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an onboarding cluster that is not the recorded one: that a service object is not there says nothing.
    pub(crate) fn admit_onboarding(&self, server: &str) -> Result<(), Fault> {
        match self.0.get(ONBOARDING) {
            Some(known) if known.server != server => Err(changed("the access to the onboarding cluster")),
            _ => Ok(()),
        }
    }

    /// Records what was reached.
    pub(crate) fn note(&mut self, reached: &Reached) {
        let identity = Identity {
            cluster: Some(reached.of.clone()),
            server: reached.cluster.identity.clone(),
        };
        self.0.insert(reached.name.to_string(), identity);
    }

    /// Writes down on an Inventory what is recorded there, what is noted here of the clusters that its objects are on,
    /// and the onboarding cluster.
    pub(crate) fn record(&self, inventory: &mut Inventory, onboarding: &str) {
        let mut known = Self::of(inventory).0;
        known.extend(self.0.clone());
        let entries = &inventory.spec.entries;
        known.retain(|name, _| name == ONBOARDING || entries.iter().any(|entry| entry.cluster == *name));
        known.entry(ONBOARDING.to_owned()).or_insert_with(|| Identity {
            cluster: None,
            server: onboarding.to_owned(),
        });
        if let Ok(text) = serde_json::to_string(&known) {
            inventory
                .annotations_mut()
                .insert(annotations::CLUSTERS.to_owned(), text);
        }
    }
}

/// Whether what people say by annotations is the same. Ours says something only when somebody takes it away.
pub(crate) fn says_the_same(old: &Inventory, new: &Inventory) -> bool {
    let theirs = |of: &Inventory| {
        let mut said = of.annotations().clone();
        (said.remove(annotations::CLUSTERS).is_some(), said)
    };
    let ((had, old), (has, new)) = (theirs(old), theirs(new));
    old == new && (has || !had)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use openmcp_api::inventory::{Entry, InventorySpec};

    fn inventory(clusters: &[&str]) -> Inventory {
        let entry = |cluster: &&str| Entry {
            cluster: (*cluster).to_owned(),
            ..Entry::default()
        };
        let spec = InventorySpec {
            entries: clusters.iter().map(entry).collect(),
            ..InventorySpec::default()
        };
        Inventory::new("x", spec)
    }

    fn noted(name: &str, of: &str, server: &str) -> Identities {
        let identity = Identity {
            cluster: Some(of.into()),
            server: server.into(),
        };
        Identities([(name.to_owned(), identity)].into())
    }

    #[test]
    fn another_server_behind_the_same_cluster_object_is_refused_also_after_a_restart() {
        let name: ClusterName = "mcp/a/b".parse().unwrap();
        let mut stored = inventory(&["mcp/a/b"]);
        noted("mcp/a/b", "u1", "s1").record(&mut stored, "o1");
        let recorded = Identities::of(&stored);
        assert!(recorded.admit(&name, "u1", "s1", "Secret x").is_ok());
        let refused = recorded.admit(&name, "u1", "s2", "Secret x").unwrap_err();
        assert_eq!(refused.reason, "ClusterChanged");
        assert!(
            recorded.admit(&name, "u2", "s2", "Secret x").is_ok(),
            "made anew by the platform"
        );
        assert!(recorded.admit_onboarding("o1").is_ok());
        assert!(recorded.admit_onboarding("o2").is_err());
    }

    #[test]
    fn what_is_not_recorded_is_trusted_and_what_is_not_used_any_more_is_forgotten() {
        let name: ClusterName = "mcp/a/b".parse().unwrap();
        let mut stored = inventory(&["workload/a/c"]);
        assert!(Identities::of(&stored).admit(&name, "u1", "s1", "").is_ok());
        noted("mcp/a/b", "u1", "s1").record(&mut stored, "o1");
        assert!(
            Identities::of(&stored).admit(&name, "u1", "s2", "").is_ok(),
            "nothing is there"
        );
        noted("workload/a/c", "u", "s").record(&mut stored, "o2");
        assert!(
            Identities::of(&stored).admit_onboarding("o2").is_err(),
            "the first one counts"
        );
    }

    #[test]
    fn that_somebody_takes_the_record_away_is_news_and_that_it_is_written_is_not() {
        let plain = inventory(&["mcp/a/b"]);
        let mut recorded = plain.clone();
        noted("mcp/a/b", "u1", "s1").record(&mut recorded, "o1");
        assert!(says_the_same(&plain, &recorded) && !says_the_same(&recorded, &plain));
    }
}
