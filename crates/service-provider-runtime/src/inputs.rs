//! What a provider may read: the service object, the ProviderConfig, ConfigMaps of the platform, how its own children are.
//!
//! Reading registers the watch: the provider is asked again when what it read changes.
use crate::{
    children::{Asked, ChildState},
    desired::{Role, Wait},
    identity::WorkloadIdentity,
    manifests::manifests,
    provider::ServiceProvider,
    values::{Ask, Generate, Generated, Known},
};
use k8s_openapi::api::core::v1::ConfigMap;
use openmcp_api::Inventory;
use serde_json::Value;
use std::{cell::RefCell, collections::BTreeSet, fmt, sync::Arc};

/// An input that no retry makes right: only its author can. The tenant reads it on the service object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Invalid {
    /// `reason` is PascalCase and from a small set; `message` names the input and what would be right.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}

/// What reads an input on the platform: `Err` says why it is not there.
pub(crate) type ReadConfigMap<'a> = &'a dyn Fn(&str) -> Result<Arc<ConfigMap>, String>;

/// What tells how a child is.
pub(crate) type ReadChild<'a> = &'a dyn Fn(Asked) -> ChildState;

/// The inputs of one service object.
pub struct Inputs<'a, P: ServiceProvider> {
    pub(crate) object: &'a P::Api,
    pub(crate) config: &'a P::Config,
    pub(crate) workload_namespace: &'a str,
    pub(crate) config_maps: ReadConfigMap<'a>,
    pub(crate) children: ReadChild<'a>,
    pub(crate) recorded: Option<&'a Inventory>,
    pub(crate) values: &'a Known,
    pub(crate) asks: RefCell<Vec<Ask>>,
    pub(crate) lost: RefCell<Vec<String>>,
    pub(crate) waits: RefCell<Vec<Wait>>,
    /// What was read, in words.
    pub(crate) read: RefCell<BTreeSet<String>>,
}

impl<P: ServiceProvider> Inputs<'_, P> {
    /// What the tenant ordered.
    pub fn object(&self) -> &P::Api {
        self.object
    }

    /// What the platform owner configured.
    pub fn config(&self) -> &P::Config {
        self.config
    }

    /// The namespace on the workload cluster for what belongs to this service object: nobody else's. It is made with
    /// the first object that is desired there.
    pub fn workload_namespace(&self) -> &str {
        self.workload_namespace
    }

    /// A ConfigMap in the provider's namespace on the platform. Where it does not exist the service waits for it.
    pub fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        let on = format!("ConfigMap {name} in the provider's namespace");
        self.read.borrow_mut().insert(on.clone());
        match (self.config_maps)(name) {
            Ok(found) => Some(found),
            Err(why) => {
                self.waits.borrow_mut().push(Wait { on, why });
                None
            }
        }
    }

    /// The objects of a manifest bundle: a ConfigMap as in [`Inputs::config_map`] whose values are YAML. Nothing,
    /// and a wait, where it does not exist.
    pub fn bundle(&self, name: &str) -> Result<Vec<Value>, Invalid> {
        let Some(config_map) = self.config_map(name) else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::new();
        for (key, text) in config_map.data.iter().flatten() {
            let found = manifests(text).map_err(|error| {
                Invalid::new("InvalidBundle", format!("ConfigMap {name}, key {key}: {error}"))
            })?;
            objects.extend(found);
        }
        Ok(objects)
    }

    /// How an object on the tenant's ControlPlane is that this service object desires: see
    /// [`Inputs::workload_child`]. `namespace` is empty for what is in none.
    pub fn mcp_child(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> ChildState {
        self.child(Asked::new(Role::Mcp, api_version, kind, namespace, name))
    }

    /// How an object on the workload cluster is that this service object desires; other objects are
    /// [`ChildState::Absent`]. For providers in stages. It costs no request, and the provider is asked again when the
    /// child changes. What this answer changes of it is not applied yet.
    ///
    /// Stages that are not desired are pruned unless something is waited for: so wait where a child is not as it should
    /// be, and an earlier stage that is not ready for a moment takes no later one with it. What is
    /// [`ChildState::Unknown`] is waited for anyway, and is no reason to refuse an order.
    ///
    /// ```
    /// use serde_json::Value;
    /// use service_provider_runtime::{Desired, Inputs, Invalid, ServiceProvider};
    ///
    /// fn stages<P: ServiceProvider>(cx: &Inputs<'_, P>, database: Value, app: Value) -> Result<Desired, Invalid> {
    ///     let mut desired = Desired::new();
    ///     desired.workload(database)?;
    ///     let database = cx.workload_child("apps/v1", "StatefulSet", cx.workload_namespace(), "database");
    ///     if database.is_ready() {
    ///         desired.workload(app)?;
    ///     } else {
    ///         desired.wait("StatefulSet database", database.to_string());
    ///     }
    ///     Ok(desired)
    /// }
    /// ```
    pub fn workload_child(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> ChildState {
        self.child(Asked::new(Role::Workload, api_version, kind, namespace, name))
    }

    fn child(&self, asked: Asked) -> ChildState {
        let on = asked.to_string();
        let state = (self.children)(asked);
        if let ChildState::Unknown(why) = &state {
            let why = why.clone();
            self.waits.borrow_mut().push(Wait { on, why });
        }
        state
    }

    /// What a back end calls a resource of this service object (see [`crate::Desired::external`]), for objects that
    /// refer to it. Where it was not made yet the service waits for it, and must desire it.
    pub fn external_name(&self, backend: &str, key: &str) -> Option<&str> {
        let rows = self.recorded.iter().flat_map(|it| &it.spec.externals);
        let mut named = rows.filter(|row| row.backend == backend && row.key == key);
        let name = named.find_map(|row| row.name.as_deref());
        if name.is_none() {
            let (on, why) = (format!("{backend} {key}"), "it was not created yet".to_owned());
            self.waits.borrow_mut().push(Wait { on, why });
        }
        name
    }

    /// A password or a key of this service object, made once and kept until the service object is gone. Needs
    /// [`Access::generated_values`](crate::Access::generated_values). Where it was not made yet the service waits for
    /// it, and the provider is asked again at once. It belongs into a Secret or an
    /// [external resource](crate::Desired::external), and nowhere else.
    ///
    /// A value whose Secret somebody deleted is not made anew, since that would change a password under a running
    /// service: the service object says so, what uses the value stays, and a platform owner decides.
    pub fn generated(&self, name: &str, how: Generate) -> Option<Generated> {
        let on = format!("generated value {name}");
        self.read.borrow_mut().insert(on.clone());
        let why = match self.values.get(name) {
            Some(Ok(value)) => return Some(value.clone()),
            Some(Err(why)) => {
                self.lost.borrow_mut().push(why.clone());
                "it is lost"
            }
            None => {
                let name = name.to_owned();
                self.asks.borrow_mut().push(Ask { name, how });
                "it is being made"
            }
        };
        let why = why.to_owned();
        self.waits.borrow_mut().push(Wait { on, why });
        None
    }

    /// An identity on the tenant's ControlPlane for a workload: the ServiceAccount `name` in `namespace` there.
    pub fn workload_identity(&self, namespace: &str, name: &str) -> WorkloadIdentity {
        WorkloadIdentity::new(namespace, name, self.workload_namespace)
    }
}
