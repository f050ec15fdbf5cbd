//! Bad input of those who are not tenants: a provider's author, another provider, whoever writes to the platform. Each
//! ends in a condition with a reason and an Event, on the object that it concerns and on no other.
#![allow(clippy::unwrap_used, clippy::panic)]
mod common;

use common::{Greeter, LIMIT, ProviderConfig, QUIET, config, gadget, gadgets, greeter};
use kube::ResourceExt;
use openmcp_testkit::{
    Ended, Job, PERSON, Process, Simulation, World, children,
    oracle::{self, BYSTANDER},
};
use serde_json::{Value, json};
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider, rules};

const MCP: &str = "mcp-team-one";
const SPACE: &str = "greetings";

/// What an author wants besides, for an order of this tenant.
type Besides = fn(&str, &mut Desired) -> Result<(), Invalid>;

/// Greetings on the ControlPlane, and what its author did not think of.
struct Provider(Besides);

impl ServiceProvider for Provider {
    type Api = Greeter;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Access::mcp([rules::manage("", &["configmaps", "namespaces"])])
            .workload([rules::manage("", &["configmaps", "namespaces"])])
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let mut desired = Desired::new();
        desired.mcp(namespace(SPACE))?;
        for number in 0..cx.object().spec.count {
            desired.mcp(greeting(number))?;
        }
        (self.0)(&cx.object().namespace().unwrap_or_default(), &mut desired)?;
        Ok(desired)
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn greeting(number: i32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("greeting-{number}"), "namespace": SPACE}, "data": {"text": "hello"},
    })
}

/// Two tenants with a service each; it is the order of `team` that something is wrong with.
struct Scene {
    world: World,
    process: Process,
    besides: Besides,
}

impl Scene {
    /// With the order of the others, which is served.
    fn new(besides: Besides) -> Self {
        let simulation = Simulation::new("greeter", move || Provider(besides))
            .on_platform(config("hello"))
            .control_plane("team", "one")
            .control_plane("others", "one");
        let world = simulation.world();
        let process = simulation.start(&world, Job::Run);
        let mut scene = Self {
            world,
            process,
            besides,
        };
        scene.order("others", 2);
        assert!(scene.is_ready("others"), "{}", scene.live("others"));
        scene
    }

    /// With both orders, which are served.
    fn served() -> Self {
        let mut scene = Self::new(|_, _| Ok(()));
        scene.order("team", 2);
        assert!(scene.is_ready("team"), "{}", scene.live("team"));
        scene
    }

    fn restart(&mut self) {
        let besides = self.besides;
        self.process = Simulation::new("greeter", move || Provider(besides)).start(&self.world, Job::Run);
        self.settle();
    }

    fn settle(&mut self) {
        assert_eq!(self.process.settle(QUIET, LIMIT), Ended::Reached);
    }

    fn order(&mut self, tenant: &str, count: i32) {
        let onboarding = self.world.server("onboarding");
        onboarding.apply(PERSON, &greeter(tenant, "one", count)).unwrap();
        self.settle();
    }

    fn live(&self, tenant: &str) -> Value {
        let onboarding = self.world.server("onboarding");
        onboarding.live(&greeter(tenant, "one", 0)).unwrap_or_default()
    }

    fn is_ready(&self, tenant: &str) -> bool {
        let live = self.live(tenant);
        live["status"]["phase"] == "Ready"
            && live["status"]["observedGeneration"] == live["metadata"]["generation"]
    }

    /// The tenant's order is not Ready for this reason; it says this, an Event says the same, and the others notice
    /// nothing.
    fn says(&self, reason: &str, text: &str) {
        let live = self.live("team");
        let mut conditions = live["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.find(|it| it["type"] == "Ready").unwrap();
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&json!("False"), &json!(reason))
        );
        assert!(ready["message"].as_str().unwrap().contains(text), "{ready}");
        let told = self.told("team", &["Normal", "Warning"]);
        let says = |note: &String| note.contains(reason) && note.contains(text);
        assert!(told.iter().any(says), "{told:#?}");
        self.others_are_unharmed();
    }

    fn others_are_unharmed(&self) {
        assert!(self.is_ready("others"), "{}", self.live("others"));
        assert_eq!(self.told("others", &["Warning"]), Vec::<String>::new());
    }

    /// What Events of these types say about a tenant's order.
    fn told(&self, tenant: &str, types: &[&str]) -> Vec<String> {
        let events = self
            .world
            .server("onboarding")
            .objects("events.k8s.io/v1", "Event");
        let about = |it: &&Value| {
            it["regarding"]["namespace"] == tenant && types.iter().any(|type_| it["type"] == *type_)
        };
        let notes = events.iter().filter(about).map(|it| it["note"].as_str());
        notes.map(|note| note.unwrap_or_default().to_owned()).collect()
    }

    /// The order was mended: it is Ready. When it goes nothing stays of it.
    fn ends_well(&mut self) {
        self.settle();
        assert!(self.is_ready("team"), "{}", self.live("team"));
        let onboarding = self.world.server("onboarding");
        onboarding.delete(&greeter("team", "one", 0)).unwrap();
        self.settle();
        assert!(self.live("team").is_null(), "{}", self.live("team"));
        let left = self.world.server(MCP).objects("v1", "ConfigMap");
        let left: Vec<_> = left
            .iter()
            .map(|it| &it["metadata"]["name"])
            .filter(|it| *it != BYSTANDER)
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(
            !self.inventories().iter().any(is_team),
            "its Inventory is still there"
        );
        self.others_are_unharmed();
    }

    fn inventories(&self) -> Vec<Value> {
        let platform = self.world.server("platform");
        platform.objects("runtime.openmcp.cloud/v1alpha1", "Inventory")
    }

    fn recorded(&self) -> Value {
        let mut all = self.inventories();
        all.retain(is_team);
        all.remove(0)["spec"]["entries"].take()
    }
}

fn is_team(inventory: &Value) -> bool {
    inventory["spec"]["owner"]["namespace"] == "team"
}

#[test]
fn of_two_orders_that_want_the_same_child_the_second_says_so_and_gets_it_when_the_first_goes() {
    let mut scene = Scene::new(|_, desired| desired.workload(namespace("shared")).map(drop));
    scene.order("team", 1);
    scene.says(
        "ForeignObject",
        "Namespace shared already exists and is not ours (managed by greeter)",
    );
    let workload = scene.world.server("workload");
    let first = workload.live(&namespace("shared")).unwrap()["metadata"]["uid"].take();
    scene
        .world
        .server("onboarding")
        .delete(&greeter("others", "one", 2))
        .unwrap();
    scene.settle();
    assert!(scene.is_ready("team"), "{}", scene.live("team"));
    let second = workload.live(&namespace("shared")).unwrap();
    assert_ne!(second["metadata"]["uid"], first);
    assert_eq!(oracle::judge(&scene.world), Vec::<String>::new());
}

#[test]
fn what_another_provider_has_made_is_left_to_it_and_named() {
    let mut scene = Scene::new(|_, _| Ok(()));
    scene.order("team", 1);
    let mcp = scene.world.server(MCP);
    let mut theirs = greeting(1);
    theirs["metadata"]["labels"] = json!({
        "runtime.openmcp.cloud/owner": "theirs", "runtime.openmcp.cloud/provider": "other",
    });
    let theirs = mcp.apply("other", &theirs).unwrap();
    scene.order("team", 2);
    scene.says(
        "ForeignObject",
        "ConfigMap greetings/greeting-1 already exists and is not ours (managed by other)",
    );
    assert_eq!(mcp.live(&theirs), Some(theirs.clone()));
    mcp.delete(&theirs).unwrap();
    scene.ends_well();
}

#[test]
fn an_object_that_is_wanted_twice_is_named_and_nothing_is_made() {
    let mut scene = Scene::new(|tenant, desired| match tenant {
        "team" => desired.mcp(greeting(0)).map(drop),
        _ => Ok(()),
    });
    scene.order("team", 1);
    scene.says(
        "DuplicateObject",
        "ConfigMap greetings/greeting-0 is wanted twice",
    );
    assert!(scene.world.server(MCP).live(&greeting(0)).is_none());
    // Without the second one of the two.
    scene.order("team", 0);
    scene.ends_well();
}

#[test]
fn a_kind_that_is_not_served_is_named_and_waited_for() {
    let mut scene = Scene::new(|tenant, desired| match tenant {
        "team" => desired.mcp(gadget("wanted")).map(drop),
        _ => Ok(()),
    });
    scene.order("team", 1);
    scene.says("KindNotServed", "does not serve Gadget of greeter.example.com/v1");
    let mcp = scene.world.server(MCP);
    assert!(mcp.live(&greeting(0)).is_some(), "what is served is made");
    mcp.create(&gadgets()).unwrap();
    scene.ends_well();
}

#[test]
fn a_kubeconfig_that_is_none_is_said_with_its_secret_and_the_next_good_one_is_taken() {
    let mut scene = Scene::served();
    let platform = scene.world.server("platform");
    let of_mcp = |it: &&Value| it["metadata"]["name"] == "greeter--one--mcp.kubeconfig";
    let team = scene.recorded()[0]["cluster"].as_str().unwrap().to_owned();
    let secrets = platform.objects("v1", "Secret");
    let mut of_mcp = secrets.iter().filter(of_mcp);
    let secret = of_mcp
        .find(|it| team.contains(it["metadata"]["namespace"].as_str().unwrap()))
        .unwrap();
    platform
        .merge(secret, &json!({"data": {"kubeconfig": "bm9uZQ=="}}))
        .unwrap();
    scene.restart();
    scene.says("InvalidKubeconfig", "kubeconfig");
    scene.world.rotate_credentials(MCP);
    scene.ends_well();
}

/// Somebody writes to the Inventory; the next pass is that of another process.
fn tampered(with: impl Fn(&mut Vec<Value>)) -> Scene {
    let mut scene = Scene::served();
    let (before, had) = (scene.recorded(), children(&scene.world).len());
    let mut entries = before.as_array().unwrap().clone();
    assert_eq!(entries[0]["name"], "greeting-0");
    with(&mut entries);
    let inventory = scene.inventories().into_iter().find(is_team).unwrap();
    let platform = scene.world.server("platform");
    platform
        .merge(&inventory, &json!({"spec": {"entries": entries}}))
        .unwrap();
    let version = scene.world.version();
    scene.restart();
    assert_eq!(scene.recorded(), before, "it says what there is again");
    assert_eq!(children(&scene.world).len(), had);
    assert_eq!(
        oracle::deleted_children(&scene.world, version),
        Vec::<String>::new()
    );
    scene
}

#[test]
fn an_inventory_with_another_name_uid_or_less_is_put_right_and_nothing_is_made_anew() {
    tampered(|entries| entries[0]["name"] = json!("greeting-9")).ends_well();
    tampered(|entries| drop(entries.remove(0))).ends_well();
    let mut scene = tampered(|entries| entries[0]["uid"] = json!("11111111-2222-3333-4444-555555555555"));
    let told = scene.told("team", &["Warning"]);
    assert!(
        told.iter()
            .any(|it| it.contains("ConfigMap greeting-0 replaced by another object")),
        "{told:?}"
    );
    scene.ends_well();
}

#[test]
fn an_inventory_that_was_written_to_takes_nothing_from_a_deletion() {
    for nth in 0..3 {
        let mut scene = Scene::served();
        let mut entries = scene.recorded();
        let entries = entries.as_array_mut().unwrap();
        match nth {
            0 => entries[0]["name"] = json!("greeting-9"),
            1 => entries[0]["uid"] = json!("11111111-2222-3333-4444-555555555555"),
            _ => drop(entries.remove(0)),
        }
        let inventory = scene.inventories().into_iter().find(is_team).unwrap();
        let platform = scene.world.server("platform");
        platform
            .merge(&inventory, &json!({"spec": {"entries": entries}}))
            .unwrap();
        scene.ends_well();
    }
}
