//! What a provider reads of the children of its service object: looked up by the Inventory in the shared watches, without
//! a request.
//!
//! What is not recorded was not made. What is recorded is absent only when a complete list says so: until then it is not
//! known, and a pass that would need to know it does nothing but wait for the list.
use crate::{access::Site, desired::Role, inventories};
use openmcp_api::Inventory;
use openmcp_reconcile::{
    Fault, Key,
    children::{Engine, Health, Report, Seen},
    inventory::{Entry, Id},
};
use std::{collections::BTreeMap, fmt};

/// How a child of the service object is, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// It was not made yet, or it is gone.
    Absent,
    /// It is there, and this is its health.
    Present(Health),
    /// It is not known at the moment, and why. The service waits for it already.
    Unknown(String),
}

impl ChildState {
    /// Whether it is there and ready.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Present(Health::Ready))
    }
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it does not exist yet"),
            Self::Present(Health::Ready) => f.write_str("it is ready"),
            Self::Present(Health::Progressing(why) | Health::Failed(why)) => f.write_str(why),
            Self::Present(Health::Terminating) => f.write_str("it is being deleted"),
            Self::Unknown(why) => f.write_str(why),
        }
    }
}

/// Which child is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) role: Role,
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Asked {
    pub(crate) fn new(role: Role, api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        let (group, _version) = api_version.split_once('/').unwrap_or_default();
        Self {
            role,
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn id(&self, cluster: String) -> Id {
        Id {
            cluster,
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl Asked {
    /// Whether it is this one of those on the service object's clusters.
    fn is(&self, id: &Id) -> bool {
        id.cluster.starts_with(self.role.as_str()) && *id == self.id(id.cluster.clone())
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id(String::new()).fmt(f)
    }
}

/// What was answered.
pub(crate) type Answers = BTreeMap<Asked, ChildState>;

/// The recorded children on the clusters where they are now.
pub(crate) struct Recorded<'a> {
    engine: &'a Engine,
    key: &'a Key,
    sites: &'a [Site],
    entries: BTreeMap<Id, Entry>,
}

/// What looking came to.
pub(crate) enum Look {
    Known(ChildState),
    /// The first list of its kind is being read: the service object is woken when it is there.
    Reading(String),
}

impl<'a> Recorded<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        key: &'a Key,
        sites: &'a [Site],
        stored: Option<&Inventory>,
    ) -> Self {
        let entries = stored.into_iter().flat_map(inventories::entries);
        Self {
            engine,
            key,
            sites,
            entries: entries.map(|entry| (entry.id.clone(), entry)).collect(),
        }
    }

    /// Looks, and wakes the service object from now on when the child changes.
    pub(crate) async fn look(&self, asked: &Asked) -> Result<Look, Fault> {
        let on_role = |(name, _): &&Site| name.role == asked.role;
        let Some((name, site)) = self.sites.iter().find(on_role) else {
            return Ok(Look::Known(ChildState::Absent));
        };
        let Some(entry) = self.entries.get(&asked.id(name.to_string())) else {
            return Ok(Look::Known(ChildState::Absent));
        };
        let cluster = match site {
            Ok(reached) => &reached.cluster,
            Err(fault) => return Ok(Look::Known(ChildState::Unknown(fault.message.clone()))),
        };
        let known = match self.engine.seen(self.key, cluster, entry).await? {
            Seen::Absent => ChildState::Absent,
            Seen::Present(health) => ChildState::Present(health),
            Seen::Reading(plural) => return Ok(Look::Reading(plural)),
        };
        Ok(Look::Known(known))
    }
}

/// Whether a pass has changed what the provider read: no event tells of what the pass did itself.
pub(crate) fn are_outdated(answers: &Answers, report: &Report, entries: &BTreeMap<Id, Entry>) -> bool {
    // A service that moves has two of them for a while: the former one is not looked at by this pass.
    answers.iter().any(|(asked, state)| {
        let mut recorded = entries.values().filter(|entry| asked.is(&entry.id));
        recorded.any(|entry| {
            let (uid, live) = (entry.uid.as_deref(), report.live.get(&entry.id));
            // Of another in its place the next pass would say the same as this one.
            let live = live.filter(|live| uid.is_some_and(|uid| live.has_uid(uid)));
            live.is_some_and(|live| *state != ChildState::Present(live.health().clone()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_known_by_its_role_whatever_its_cluster_is_called_and_in_any_version() {
        let asked = Asked::new(Role::Workload, "apps/v1", "Deployment", "x", "server");
        let id = asked.id("workload/platform/somewhere".to_owned());
        assert!(asked.is(&id) && asked.to_string() == "Deployment x/server");
        let elsewhere = Id {
            cluster: "mcp/platform/somewhere".to_owned(),
            ..id.clone()
        };
        let of_core = Asked::new(Role::Workload, "v1", "Deployment", "x", "server");
        assert!(!asked.is(&elsewhere) && !of_core.is(&id));
        assert_eq!(
            asked,
            Asked::new(Role::Workload, "apps/v2", "Deployment", "x", "server")
        );
    }
}
