//! What people do.
use crate::{World, world::must};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) type Does = Arc<dyn Fn(&World) + Send + Sync>;

/// One thing that somebody does.
#[derive(Clone)]
pub(super) struct Act {
    pub(super) what: String,
    pub(super) does: Does,
    /// After a crash nobody waits for the restart.
    pub(super) at_once: bool,
}

/// What people do, one thing after the other; the world comes to rest after each.
#[derive(Clone)]
pub struct Scenario {
    pub(super) name: String,
    pub(super) acts: Vec<Act>,
    /// The acts before are not crashed in.
    pub(super) from: usize,
}

impl Scenario {
    /// Nothing happens yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            acts: Vec::new(),
            from: 0,
        }
    }

    /// What was done so far is given: [`Simulation::crash_everywhere`] crashes in what follows.
    #[must_use]
    pub fn given(mut self) -> Self {
        self.from = self.acts.len();
        self
    }

    /// Then somebody does something.
    #[must_use]
    pub fn then(mut self, what: &str, does: impl Fn(&World) + Send + Sync + 'static) -> Self {
        self.acts.push(Act {
            what: what.to_owned(),
            does: Arc::new(does),
            at_once: false,
        });
        self
    }

    /// As [`Scenario::then`]; and where the process crashed in what went before, the same also while it is down, so that
    /// it finds the one half done and the other asked for. What is done must be possible then.
    #[must_use]
    pub fn then_at_once(self, what: &str, does: impl Fn(&World) + Send + Sync + 'static) -> Self {
        let mut scenario = self.then(what, does);
        if let Some(last) = scenario.acts.last_mut() {
            last.at_once = true;
        }
        scenario
    }

    /// Then an object is made or changed on a server.
    #[must_use]
    pub fn apply(self, host: &str, object: Value) -> Self {
        let (host, what) = (host.to_owned(), format!("apply {}", words(&object)));
        self.then(&what, move |world| {
            drop(must(world.server(&host).apply(crate::PERSON, &object)))
        })
    }

    /// Then an object is deleted.
    #[must_use]
    pub fn delete(self, host: &str, object: &Value) -> Self {
        let (host, what, object) = (
            host.to_owned(),
            format!("delete {}", words(object)),
            object.clone(),
        );
        self.then(&what, move |world| {
            drop(must(world.server(&host).delete(&object)))
        })
    }

    /// Then all children are tampered with: data of ConfigMaps, replicas of Deployments; ConfigMaps, Secrets and
    /// ServiceAccounts are deleted next.
    #[must_use]
    pub fn drift(self) -> Self {
        self.then("tamper with the children", |world| {
            for (server, child) in children(world) {
                let patch = match child["kind"].as_str() {
                    Some("ConfigMap") => json!({"data": first_key(&child["data"], "tampered")}),
                    Some("Deployment" | "StatefulSet") => json!({"spec": {"replicas": 7}}),
                    _ => continue,
                };
                must(server.merge(&child, &patch));
            }
        })
        .then("delete children", |world| {
            for (server, child) in children(world) {
                if matches!(
                    child["kind"].as_str(),
                    Some("ConfigMap" | "Secret" | "ServiceAccount")
                ) {
                    must(server.delete(&child));
                }
            }
        })
    }
}

fn words(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{} {}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

fn first_key(data: &Value, value: &str) -> Value {
    let key = data
        .as_object()
        .and_then(|data| data.keys().next().cloned())
        .unwrap_or_default();
    json!({key: value})
}

/// What was made for service objects, on all clusters but the platform.
pub fn children(world: &World) -> Vec<(crate::Server, Value)> {
    let mut all = Vec::new();
    for (host, server) in world.servers() {
        if host == "platform" || host == "onboarding" {
            continue;
        }
        for (_, object) in server.everything() {
            if !object["metadata"]["labels"][openmcp_api::keys::labels::RUNTIME_OWNER].is_null() {
                all.push((server.clone(), (*object).clone()));
            }
        }
    }
    all
}
