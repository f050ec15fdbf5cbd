//! What a provider answers: objects, each with how it is kept, and what it is waiting for.
use crate::{
    children::Answers, external::External, identity::WorkloadIdentity, inputs::Invalid, values::Ask,
};
use openmcp_reconcile::children::{Adoption, Mode, Wanted, Wave};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Which of a service object's clusters something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Mcp,
    Workload,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Workload => "workload",
        }
    }
}

/// Something that must happen elsewhere before all objects can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// On what: "ConfigMap kro-v0.9.4".
    pub on: String,
    /// Why: "it does not exist".
    pub why: String,
}

/// The objects that should exist for one service object.
///
/// A wait forbids that anything is pruned and that the service is Ready; the objects are applied and repaired all
/// the same. So a provider in stages never loses stage 2 because an input blinked.
#[derive(Debug, Default)]
pub struct Desired {
    pub(crate) objects: Vec<Object>,
    pub(crate) identities: Vec<WorkloadIdentity>,
    pub(crate) externals: Vec<External>,
    /// Values to be made, and what is wrong with those that were made.
    pub(crate) asks: Vec<Ask>,
    pub(crate) lost: Vec<String>,
    pub(crate) waiting: Vec<Wait>,
    /// Which children the provider read, and what it was told.
    pub(crate) answers: Answers,
    /// What else it read, in words.
    pub(crate) read: BTreeSet<String>,
    /// Kinds of children that it read whose first list is being read: nothing is to be done before.
    pub(crate) reading: Vec<String>,
}

/// One object, and how it is kept: enforced, unless something else is said.
#[derive(Debug)]
pub struct Object {
    pub(crate) role: Role,
    pub(crate) wanted: Wanted,
}

impl Desired {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `object` on the tenant's ControlPlane. What cannot be written as JSON is [`Invalid`].
    pub fn mcp(&mut self, object: impl Serialize) -> Result<&mut Object, Invalid> {
        self.add(Role::Mcp, object)
    }

    /// `object` on the workload cluster.
    pub fn workload(&mut self, object: impl Serialize) -> Result<&mut Object, Invalid> {
        self.add(Role::Workload, object)
    }

    /// The objects of a manifest bundle on the tenant's ControlPlane.
    pub fn mcp_all(&mut self, objects: impl IntoIterator<Item = Value>) -> Result<(), Invalid> {
        objects
            .into_iter()
            .try_for_each(|object| self.mcp(object).map(drop))
    }

    /// An identity of the workload on the tenant's ControlPlane: its ServiceAccount there, and its kubeconfig in a
    /// Secret on the workload cluster, kept fresh.
    pub fn identity(&mut self, identity: &WorkloadIdentity) {
        self.identities.push(identity.clone());
    }

    /// A resource in a back end that is not Kubernetes: `backend` as in
    /// [`ServiceProvider::externals`](crate::ServiceProvider::externals), `key` is the provider's name for it among
    /// those of this service object. Both must stay what they are: another key is another resource.
    pub fn external(
        &mut self,
        backend: &'static str,
        key: impl Into<String>,
        spec: impl Serialize,
    ) -> Result<(), Invalid> {
        let spec =
            serde_json::to_value(spec).map_err(|error| Invalid::new("InvalidObject", error.to_string()))?;
        let key = key.into();
        self.externals.push(External { backend, key, spec });
        Ok(())
    }

    /// Not everything can be told yet.
    pub fn wait(&mut self, on: impl Into<String>, why: impl Into<String>) {
        self.waiting.push(Wait {
            on: on.into(),
            why: why.into(),
        });
    }

    fn add(&mut self, role: Role, object: impl Serialize) -> Result<&mut Object, Invalid> {
        let object =
            serde_json::to_value(object).map_err(|error| Invalid::new("InvalidObject", error.to_string()))?;
        let index = self.objects.len();
        self.objects.push(Object {
            role,
            wanted: Wanted::new(role.as_str(), object),
        });
        Ok(&mut self.objects[index])
    }
}

impl Object {
    /// Made when it is absent, then left to others.
    pub fn if_absent(&mut self) -> &mut Self {
        self.wanted.mode = Mode::IfAbsent;
        self
    }

    /// Differences that others make are reported, not repaired.
    pub fn detect(&mut self) -> &mut Self {
        self.wanted.mode = Mode::Detect;
        self
    }

    /// Stays when it is not desired any more, without our marks.
    pub fn retain(&mut self) -> &mut Self {
        self.wanted.retain = true;
        self
    }

    /// Leaves the field at `path` (`/spec/replicas`; an item of a list by the value of its key) to others once the
    /// object is made.
    pub fn ignore(&mut self, path: &str) -> &mut Self {
        self.wanted.ignore(path);
        self
    }

    /// Removes whatever others add at `path` (`/data`; `/spec/template/spec/containers`): a map has the desired keys, a
    /// list the desired items, and no more. Elsewhere, fields that nobody desired are left to those who own them. A path
    /// may lead through items of lists, by the values of their keys: `/spec/template/spec/containers/kro/env`. Where
    /// nothing is desired at it the object is refused.
    pub fn exact(&mut self, path: &str) -> &mut Self {
        self.wanted.exact(path);
        self
    }

    /// May be deleted and made anew when a field is to change that cannot be changed (a Job's template). By default
    /// the service says which field it is, and the object stays.
    pub fn replaceable(&mut self) -> &mut Self {
        self.wanted.replace = true;
        self
    }

    /// Takes over an object of this name that somebody else made. By default it is left alone, and said so.
    pub fn adopt(&mut self) -> &mut Self {
        self.wanted.adoption = Adoption::Adopt;
        self
    }

    /// Another wave than that of its kind.
    pub fn wave(&mut self, wave: Wave) -> &mut Self {
        self.wanted.wave = wave;
        self
    }
}
