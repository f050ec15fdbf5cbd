//! What tenants, platform owners and those who mean no good do.
use super::{GREETINGS, Run};
use crate::{
    act::{Act, Harm, mcp},
    common::{config, gadget, greeter, stage, staged},
};
use openmcp_api::keys::labels;
use openmcp_testkit::{PERSON, Server, children};
use serde_json::{Value, json};

impl Run {
    /// What people do.
    pub(super) fn people(&mut self, act: &Act) -> Option<Value> {
        let world = self.world.clone();
        let (onboarding, platform) = (world.server("onboarding"), world.server("platform"));
        match act.clone() {
            Act::Order(tenant, count) => onboarding.apply(PERSON, &greeter(tenant, "one", count)).ok(),
            Act::Withdraw(tenant) => onboarding.delete(&greeter(tenant, "one", 0)).ok(),
            Act::Configure { text, staged: true } => platform.apply(PERSON, &staged(text)).ok(),
            Act::Configure { text, .. } => platform.apply(PERSON, &config(text)).ok(),
            Act::Stage(Some(text)) => platform.apply(PERSON, &stage(text)).ok(),
            Act::Stage(None) => platform.delete(&stage("")).ok(),
            Act::LoseNamespace(tenant) => world.server(&mcp(tenant)).delete(&namespace()).ok(),
            Act::Gadget(tenant, true) => world.server(&mcp(tenant)).create(&gadget("mine")).ok(),
            Act::Gadget(tenant, false) => world.server(&mcp(tenant)).delete(&gadget("mine")).ok(),
            Act::Harm(tenant, number, harm) => {
                let mine = |(server, child): &(Server, Value)| {
                    world.server(&mcp(tenant)).live(child) == Some(child.clone())
                        || server.live(child).is_none()
                };
                let all: Vec<_> = children(&world).into_iter().filter(mine).collect();
                let (server, child) = all.get(number % all.len().max(1))?;
                harmed(server, child, harm)
            }
            Act::Plant(tenant, number) => {
                let (server, object) = (world.server(&mcp(tenant)), planted(number));
                // In the place of a child, or before it is made.
                let _gone = server.delete(&object);
                let made = server.create(&object).ok()?;
                self.theirs.push((server, made.clone()));
                Some(made)
            }
            Act::Pretend(tenant) => {
                let server = world.server(&mcp(tenant));
                let made = server.create(&pretender()).ok()?;
                self.theirs.push((server, made.clone()));
                Some(made)
            }
            _ => None,
        }
    }
}

fn harmed(server: &Server, child: &Value, harm: Harm) -> Option<Value> {
    let label = labels::RUNTIME_PROVIDER;
    match (harm, child["kind"].as_str()?) {
        (Harm::Deleted, "ConfigMap" | "Secret" | "ServiceAccount" | "Deployment") => {
            server.delete(child).ok()
        }
        (Harm::Changed, "ConfigMap") => server.merge(child, &json!({"data": {"text": "changed"}})).ok(),
        (Harm::Changed, "Deployment") => server.merge(child, &json!({"spec": {"replicas": 7}})).ok(),
        (Harm::Seized, "ConfigMap") => {
            let mut mine = child.clone();
            mine["metadata"] =
                json!({"name": child["metadata"]["name"], "namespace": child["metadata"]["namespace"]});
            mine["data"] = json!({"text": "seized"});
            server.apply("bot", &mine).ok()
        }
        (Harm::Unlabelled, _) => server
            .merge(child, &json!({"metadata": {"labels": {label: null}}}))
            .ok(),
        _ => None,
    }
}

pub(super) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GREETINGS}})
}

fn planted(number: i32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("greeting-{number}"), "namespace": GREETINGS}, "data": {"text": "theirs"},
    })
}

fn pretender() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "pretender", "namespace": "default", "labels": {labels::RUNTIME_PROVIDER: "greeter"}},
        "data": {"text": "theirs"},
    })
}
