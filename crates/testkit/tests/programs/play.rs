//! One run of a program, and its judgement.
use super::{
    act::{Act, HOSTS, Harm, TENANTS, mcp},
    common::{Provider, config, gadget, greeter, simulation, stage, staged},
};
use openmcp_api::keys::labels;
use openmcp_testkit::{Crash, Ended, Job, PERSON, Process, Server, Simulation, World, children, oracle};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Longer than any back-off, and than a watch lingers.
const QUIET: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
const GREETINGS: &str = "greetings";

/// What is wrong, and all requests of the provider.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) wrong: Vec<String>,
    pub(crate) trace: Vec<String>,
}

fn platform() -> World {
    static PLATFORM: LazyLock<World> = LazyLock::new(|| two_tenants().world());
    PLATFORM.fork()
}

fn two_tenants() -> Simulation<Provider> {
    simulation().control_plane("others", "one")
}

/// An object that people made: where, and which.
type Theirs = (Server, Value);

struct Run {
    simulation: Simulation<Provider>,
    world: World,
    process: Process,
    theirs: Vec<Theirs>,
    wrong: Vec<String>,
    /// The requests of the processes that ended.
    trace: Vec<String>,
}

/// Runs a program, and then judges. Returns the requests of the provider.
pub(crate) fn play(seed: u64, acts: &[Act]) -> Result<Vec<String>, Failure> {
    let (simulation, world) = (two_tenants().seed(seed), platform());
    let mut run = Run {
        process: simulation.start(&world, Job::Run),
        simulation,
        world,
        theirs: Vec::new(),
        wrong: Vec::new(),
        trace: Vec::new(),
    };
    for act in acts {
        run.act(act);
    }
    run.make_peace();
    run.rest();
    run.judge();
    if run.wrong.is_empty() {
        run.take_everything_back();
    }
    let Run { wrong, mut trace, .. } = run;
    trace.extend(run.process.network().trace());
    match wrong.is_empty() {
        true => Ok(trace),
        false => Err(Failure { wrong, trace }),
    }
}

impl Run {
    fn act(&mut self, act: &Act) {
        let (world, network) = (self.world.clone(), self.process.network().clone());
        match act.clone() {
            Act::Wait(time) => self.drive(time),
            Act::Kill => self.restart(),
            Act::KillBefore(k) => network.crash(Crash::Before(network.effects() + k)),
            Act::KillAfter(k) => network.crash(Crash::After(network.effects() + k)),
            Act::Trouble(host, trouble, times, every) => {
                let count = AtomicUsize::new(0);
                network.trouble(host, times, trouble, move |request| {
                    request.method() != "GET" && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
                });
            }
            Act::Down(host) => network.down(host),
            Act::Watches(host, trouble) => network.trouble_watches(host, trouble),
            Act::CloseWatches(host) => network.close_watches(host),
            Act::Compact(host) => world.server(host).compact(),
            Act::Lag(host) => world.server(host).fall_behind(),
            Act::Rotate(host) => world.rotate_credentials(host),
            Act::Heal => self.heal(),
            // People are refused at times: what is not there cannot be changed.
            people => drop(self.people(&people)),
        }
    }

    /// What people do.
    fn people(&mut self, act: &Act) -> Option<Value> {
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

    /// Lets it run; whoever dies is started again, as its Deployment would.
    fn drive(&mut self, time: Duration) {
        if self.alive(|process| process.drive(time, |_| false)) {
            self.look_after_theirs();
        } else {
            self.drive(time);
        }
    }

    /// Whether the process lives after it has done something.
    fn alive(&mut self, does: impl FnOnce(&mut Process) -> Ended) -> bool {
        match does(&mut self.process) {
            Ended::Exited(ended) => self.wrong.push(format!("the process ended: {ended:?}")),
            Ended::Crashed => {}
            Ended::Reached | Ended::OutOfTime => return true,
        }
        self.restart();
        self.wrong.len() > 10
    }

    fn restart(&mut self) {
        self.trace.extend(self.process.network().trace());
        self.trace.push("a new process".to_owned());
        self.process = self.simulation.start(&self.world, Job::Run);
    }

    fn rest(&mut self) {
        loop {
            let mut ended = None;
            if self.alive(|process| ended.insert(process.settle(QUIET, LIMIT)).clone()) {
                if ended == Some(Ended::OutOfTime) {
                    self.wrong.push("I2: it does not come to rest".to_owned());
                }
                return self.look_after_theirs();
            }
        }
    }

    /// I4: what people made goes only with its namespace, and nobody else writes it.
    fn look_after_theirs(&mut self) {
        let Self { theirs, wrong, .. } = self;
        theirs.retain(|(server, object)| {
            let terminates = server.live(&namespace()).is_none_or(|live| {
                live["metadata"]["uid"] != "" && !live["metadata"]["deletionTimestamp"].is_null()
            });
            match server.live(object) {
                Some(live) if live == *object => return true,
                Some(live) if live["metadata"]["uid"] == object["metadata"]["uid"] && !terminates => {
                    wrong.push(format!("I4: somebody wrote what is not ours: {live}"));
                }
                _ if !terminates && object["metadata"]["namespace"] == GREETINGS => {
                    // Its namespace may have been made anew meanwhile.
                    let made_after = server.live(&namespace()).is_some_and(|live| {
                        live["metadata"]["creationTimestamp"].as_str()
                            > object["metadata"]["creationTimestamp"].as_str()
                    });
                    if !made_after {
                        wrong.push(format!("I4: somebody deleted what is not ours: {object}"));
                    }
                }
                None if object["metadata"]["namespace"] != GREETINGS => {
                    wrong.push(format!("I4: somebody deleted what is not ours: {object}"));
                }
                _ => {}
            }
            false
        });
    }

    fn heal(&self) {
        self.process.network().heal();
        for (_, server) in self.world.servers() {
            server.catch_up();
        }
    }

    /// All faults are over, people take away what is in the way, and what watches missed is listed again.
    fn make_peace(&mut self) {
        self.look_after_theirs();
        self.heal();
        for (server, object) in std::mem::take(&mut self.theirs) {
            drop(server.delete(&object));
        }
        for tenant in TENANTS {
            self.people(&Act::Gadget(tenant, false));
            if self.ordered(tenant).is_some_and(|count| count < 0) {
                self.people(&Act::Order(tenant, 1));
            }
        }
        if self.configured().0 == "panic" {
            let staged = self.configured().1;
            self.people(&Act::Configure {
                text: "hello",
                staged,
            });
        }
        if self.configured().1 && self.stage().is_none() {
            self.people(&Act::Stage(Some("second")));
        }
        let touch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}});
        for host in HOSTS {
            let server = self.world.server(host);
            server.create(&touch).unwrap();
            server.delete(&touch).unwrap();
            server.compact();
            self.process.network().close_watches(host);
        }
    }

    /// The count that a tenant has ordered.
    fn ordered(&self, tenant: &str) -> Option<i32> {
        let live = self.world.server("onboarding").live(&greeter(tenant, "one", 0))?;
        if !live["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        live["spec"]["count"]
            .as_i64()
            .and_then(|count| i32::try_from(count).ok())
    }

    fn configured(&self) -> (String, bool) {
        let live = self
            .world
            .server("platform")
            .live(&config(""))
            .unwrap_or_default();
        let text = live["spec"]["greeting"].as_str().unwrap_or_default();
        (text.to_owned(), live["spec"]["stage"].is_string())
    }

    fn stage(&self) -> Option<String> {
        let live = self.world.server("platform").live(&stage(""))?;
        live["data"]["text"].as_str().map(str::to_owned)
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            orders: TENANTS.map(|tenant| self.ordered(tenant)),
            config: self.configured(),
            stage: self.stage(),
        }
    }

    fn judge(&mut self) {
        let expected = without_faults(&self.wishes());
        let found = End::of(&self.world, &mut self.process);
        self.wrong.extend(oracle::judge(&self.world));
        self.wrong.extend(oracle::differences(&expected.all, &found.all));
        if found.counts != expected.counts {
            self.wrong.push(format!(
                "I9: (tasks, watches) are {:?}, and {:?} without faults",
                found.counts, expected.counts
            ));
        }
    }

    /// I4, I5: nothing is left of what was ordered.
    fn take_everything_back(&mut self) {
        for tenant in TENANTS {
            self.people(&Act::Withdraw(tenant));
        }
        self.rest();
        self.judge();
        let left = children(&self.world).len()
            + self
                .world
                .server("platform")
                .objects(INVENTORY.0, INVENTORY.1)
                .len();
        if left > 0 {
            self.wrong
                .push(format!("I4: {left} children and Inventories are left"));
        }
    }
}

const INVENTORY: (&str, &str) = ("runtime.openmcp.cloud/v1alpha1", "Inventory");

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

fn namespace() -> Value {
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

/// What people want in the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wishes {
    orders: [Option<i32>; 2],
    config: (String, bool),
    stage: Option<String>,
}

#[derive(Debug, Clone)]
struct End {
    all: BTreeMap<String, Value>,
    /// Tasks of the process, open watches.
    counts: (usize, usize),
}

impl End {
    fn of(world: &World, process: &mut Process) -> Self {
        Self {
            all: oracle::snapshot(world),
            counts: process.footprint(),
        }
    }
}

/// The end of the same wishes where nothing goes wrong.
fn without_faults(wishes: &Wishes) -> End {
    static KNOWN: Mutex<BTreeMap<Wishes, End>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().unwrap().get(wishes) {
        return known.clone();
    }
    let world = platform();
    let (platform, onboarding) = (world.server("platform"), world.server("onboarding"));
    let (text, has_stage) = &wishes.config;
    let wanted = if *has_stage { staged(text) } else { config(text) };
    platform.apply(PERSON, &wanted).unwrap();
    if let Some(text) = &wishes.stage {
        platform.apply(PERSON, &stage(text)).unwrap();
    }
    for (tenant, count) in TENANTS.into_iter().zip(wishes.orders) {
        if let Some(count) = count {
            onboarding.apply(PERSON, &greeter(tenant, "one", count)).unwrap();
        }
    }
    let mut process = two_tenants().start(&world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let end = End::of(&world, &mut process);
    KNOWN.lock().unwrap().insert(wishes.clone(), end.clone());
    end
}
