//! A back end that is not Kubernetes, in memory: it outlives the processes of its provider, and can end them at each of
//! its effects.
use crate::common::{Greeter, ProviderConfig};
use openmcp_testkit::Crash;
use serde_json::{Value, json};
use service_provider_runtime::{
    Access, Desired, ExternalFault, ExternalResource, ExternalService, Externals, Inputs, Invalid,
    Observation, Removal, ServiceProvider, rules,
};
use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

/// How the back end is today.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Does what it is asked, and never says so.
    LosesAnswers,
    Hangs,
    Unsure,
    Protected,
}

#[derive(Default)]
pub(crate) struct Databases {
    pub(crate) mood: Mood,
    /// By name: nonce and spec.
    pub(crate) held: BTreeMap<String, (String, Value)>,
    /// The nonces of all creations there ever were.
    pub(crate) created: Vec<String>,
    pub(crate) deleted: usize,
    pub(crate) observed: usize,
    pub(crate) effects: usize,
    pub(crate) crash: Option<Crash>,
    /// The process is to be killed.
    pub(crate) dead: bool,
}

#[derive(Clone, Default)]
pub(crate) struct BackEnd(pub(crate) Arc<Mutex<Databases>>);

impl BackEnd {
    pub(crate) fn held(&self) -> MutexGuard<'_, Databases> {
        self.0.lock().unwrap()
    }

    pub(crate) fn specs(&self) -> Vec<Value> {
        self.held().held.values().map(|(_, spec)| spec.clone()).collect()
    }

    fn is_here(&self, at: Crash) -> bool {
        let mut held = self.held();
        held.dead |= held.crash == Some(at);
        held.dead
    }

    /// An effect that the process may not survive, and the answer, if it arrives.
    async fn effect<T>(&self, effect: impl FnOnce(&mut Databases) -> T) -> T {
        let (number, mood) = {
            let mut held = self.held();
            held.effects += 1;
            (held.effects, held.mood)
        };
        if mood == Mood::Hangs || self.is_here(Crash::Before(number)) {
            pending::<()>().await;
        }
        let done = effect(&mut self.held());
        if mood == Mood::LosesAnswers || self.is_here(Crash::After(number)) {
            pending::<()>().await;
        }
        done
    }
}

fn name_of(databases: &Databases, resource: &ExternalResource) -> Option<String> {
    let named = resource.name().filter(|name| databases.held.contains_key(*name));
    let tagged = || {
        let mut all = databases.held.iter();
        all.find(|(_, (nonce, _))| nonce == resource.nonce())
            .map(|(name, _)| name.clone())
    };
    named.map(str::to_owned).or_else(tagged)
}

impl ExternalService for BackEnd {
    async fn observe(&self, resource: &ExternalResource) -> Result<Observation, ExternalFault> {
        let mood = self.held().mood;
        if mood == Mood::Hangs {
            pending::<()>().await;
        }
        let mut held = self.held();
        held.observed += 1;
        if mood == Mood::Unsure {
            let why = "half of the servers answered".to_owned();
            return Ok(Observation::Unknown { why });
        }
        let Some(name) = name_of(&held, resource) else {
            return Ok(Observation::Absent);
        };
        match resource.spec() {
            Some(spec) if *spec != held.held[&name].1 => {
                let diff = format!("size is {}", held.held[&name].1["size"]);
                Ok(Observation::Drifted { name, diff })
            }
            _ => Ok(Observation::Current { name }),
        }
    }

    async fn create(&self, resource: &ExternalResource) -> Result<String, ExternalFault> {
        let (nonce, spec) = (resource.nonce().to_owned(), resource.spec().unwrap().clone());
        let made = self.effect(|databases| {
            let name = format!("database-{}", databases.created.len());
            databases.created.push(nonce.clone());
            databases.held.insert(name.clone(), (nonce, spec));
            name
        });
        Ok(made.await)
    }

    async fn update(&self, resource: &ExternalResource, _diff: &str) -> Result<(), ExternalFault> {
        let (name, spec) = (
            resource.name().unwrap().to_owned(),
            resource.spec().unwrap().clone(),
        );
        self.effect(|databases| databases.held.get_mut(&name).unwrap().1 = spec)
            .await;
        Ok(())
    }

    async fn delete(&self, resource: &ExternalResource) -> Result<Removal, ExternalFault> {
        if self.held().mood == Mood::Protected {
            let by = "it is protected: ask its owner".to_owned();
            return Ok(Removal::Blocked { by });
        }
        let name = resource.name().unwrap().to_owned();
        self.effect(|databases| {
            databases.deleted += 1;
            databases.held.remove(&name);
        })
        .await;
        // Not even the one who removed it is sure at once.
        let on = "its disk".to_owned();
        Ok(Removal::Waiting { on })
    }
}

/// A database for each greeting, and on the ControlPlane its name.
pub(crate) struct Provider(pub(crate) BackEnd);

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps"])])
    }

    fn externals(&self) -> Externals {
        Externals::new().with("databases", self.0.clone())
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        for number in 0..cx.object().spec.count {
            let key = format!("db-{number}");
            desired.external("databases", &*key, json!({"size": cx.config().spec.greeting}))?;
            if let Some(name) = cx.external_name("databases", &key) {
                desired.mcp(json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": key, "namespace": "default"}, "data": {"name": name},
                }))?;
            }
        }
        Ok(desired)
    }
}
