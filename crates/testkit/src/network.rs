//! The network of one simulated process: the way to each server by its host name, and everything that can go wrong
//! on it.
//!
//! A request that is not a read is an **effect** (Events excepted: nothing depends on them). Effects are counted from
//! 1; a crash or a fault can be put before or after any of them.
mod relay;
mod trouble;

pub use trouble::{Crash, Trouble, WatchTrouble};

use crate::{Server, record::Record, time::Time};
use http::{Method, Request};
use kube::{Config, client::Body};
use openmcp_reconcile::{
    Fault,
    cluster::{Dial, Reply, Wire},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};
use trouble::{status, truncated};

/// The way there and back takes up to this time.
const LATENCY: Duration = Duration::from_millis(20);

/// What a client trusts, as DER.
type Ca = Option<Vec<u8>>;
type Look = Box<dyn FnMut(Crash) + Send>;
type Applies = Arc<dyn Fn(&Request<Body>) -> bool + Send + Sync>;

#[derive(Clone)]
struct Rule {
    host: String,
    applies: Applies,
    trouble: Trouble,
    left: usize,
}

/// The network of one simulated process. Clones are the same.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    time: Time,
    servers: Arc<Mutex<BTreeMap<String, Server>>>,
    record: Record,
    /// The process that this is the network of.
    by: String,
    state: Mutex<State>,
    dead: watch::Sender<bool>,
    /// Tells open watches to look at their troubles; unlike a channel it wakes them in their order.
    broken: Notify,
    /// How often that was so far.
    breaks: AtomicU64,
}

struct State {
    random: StdRng,
    effects: usize,
    sent: usize,
    connections: usize,
    crash: Option<Crash>,
    rules: Vec<Rule>,
    watches: HashMap<String, WatchTrouble>,
    /// Watches opened before are closed, or for ever silent.
    closed: HashMap<String, u64>,
    silent: HashMap<String, u64>,
    trace: Vec<String>,
    look: Option<Look>,
}

impl Network {
    pub(crate) fn new(
        servers: Arc<Mutex<BTreeMap<String, Server>>>,
        record: Record,
        time: Time,
        (by, seed): (&str, u64),
    ) -> Self {
        Self(Arc::new(Shared {
            time,
            servers,
            record,
            by: by.to_owned(),
            state: Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                effects: 0,
                sent: 0,
                connections: 0,
                crash: None,
                rules: Vec::new(),
                watches: HashMap::new(),
                closed: HashMap::new(),
                silent: HashMap::new(),
                trace: Vec::new(),
                look: None,
            }),
            dead: watch::Sender::new(false),
            broken: Notify::new(),
            breaks: AtomicU64::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies there.
    pub fn crash(&self, at: Crash) {
        self.state().crash = Some(at);
    }

    /// Calls `look` before and after each effect, while nothing else happens.
    pub(crate) fn look_at_effects(&self, look: impl FnMut(Crash) + Send + 'static) {
        self.state().look = Some(Box::new(look));
    }

    /// Whether the process dies here.
    fn pass(&self, at: Crash) -> bool {
        let mut state = self.state();
        if let Some(look) = &mut state.look {
            look(at);
        }
        state.crash == Some(at)
    }

    /// How many effects were sent so far.
    pub fn effects(&self) -> usize {
        self.state().effects
    }

    /// How many requests were sent so far, reads and Events included.
    pub fn requests(&self) -> usize {
        self.state().sent
    }

    /// How many connections were opened so far: one for each set of credentials, if they are kept.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// What was sent so far, a line a request.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// The next `times` requests to `host` (`platform`, `onboarding`, `workload`, `mcp-…`) that `applies` chooses
    /// get into trouble.
    pub fn trouble(
        &self,
        host: &str,
        times: usize,
        trouble: Trouble,
        applies: impl Fn(&Request<Body>) -> bool + Send + Sync + 'static,
    ) {
        self.state().rules.push(Rule {
            host: host.to_owned(),
            applies: Arc::new(applies),
            trouble,
            left: times,
        });
    }

    /// Nothing is answered, and all watches are closed, until [`Network::heal`].
    pub fn down(&self, host: &str) {
        self.trouble(host, usize::MAX, Trouble::Refused, |_| true);
        self.close_watches(host);
    }

    /// Watches on a host get into trouble, open ones too.
    pub fn trouble_watches(&self, host: &str, trouble: WatchTrouble) {
        let generation = self.next_break();
        let mut state = self.state();
        match trouble {
            WatchTrouble::Stalled => drop(state.silent.insert(host.to_owned(), generation)),
            trouble => drop(state.watches.insert(host.to_owned(), trouble)),
        }
        drop(state);
        self.0.broken.notify_waiters();
    }

    /// Open watches on a host end.
    pub fn close_watches(&self, host: &str) {
        let generation = self.next_break();
        self.state().closed.insert(host.to_owned(), generation);
        self.0.broken.notify_waiters();
    }

    /// Watches opened until now are those before it.
    fn next_break(&self) -> u64 {
        self.0.breaks.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All troubles are over; what was lost stays lost.
    pub fn heal(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.watches.clear();
    }

    pub(crate) fn died(&self) -> watch::Receiver<bool> {
        self.0.dead.subscribe()
    }

    /// Nothing gets through any more.
    pub(crate) fn kill(&self) {
        self.0.dead.send_replace(true);
    }

    fn is_dead(&self) -> bool {
        *self.0.dead.borrow()
    }

    /// Dies, and never comes back to the caller.
    async fn die(&self) -> ! {
        self.kill();
        std::future::pending().await
    }

    async fn carry(self, (host, ca): (String, Ca), request: Request<Body>) -> Result<Reply, BoxError> {
        let (pause, effect) = self.note(&host, &request);
        tokio::time::sleep(pause).await;
        if !self.0.record.is_trusted(&host, ca.as_deref()) {
            return Err(format!("{host}: invalid peer certificate: UnknownIssuer").into());
        }
        if self.is_dead() {
            return std::future::pending().await;
        }
        if let Some(number) = effect
            && self.pass(Crash::Before(number))
        {
            self.die().await;
        }
        let trouble = self.state().trouble(&host, &request);
        match trouble {
            Some(Trouble::Refused) => return Err(format!("{host}: connection refused").into()),
            Some(Trouble::Silent) => return std::future::pending().await,
            Some(Trouble::Slow(pause)) => tokio::time::sleep(pause).await,
            Some(Trouble::Status(code, retry_after)) => return Ok(status(code, retry_after)),
            _ => {}
        }
        let server = lock(&self.0.servers).get(&host).cloned();
        let server = server.ok_or_else(|| format!("{host}: no such host"))?;
        let is_watch = is_watch(&request);
        let arrives = effect.and_then(|_| self.0.record.arrives(&self.0.by, &host, &request));
        let reply = server
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        if let Some(effect) = arrives {
            self.0.record.done(effect);
        }
        if let Some(number) = effect
            && self.pass(Crash::After(number))
        {
            self.die().await;
        }
        match trouble {
            Some(Trouble::Unanswered) => std::future::pending().await,
            Some(Trouble::AnswerLost) => Err(format!("{host}: connection reset by peer").into()),
            Some(Trouble::Truncated) => Ok(truncated(reply).await),
            _ if is_watch && reply.status().is_success() => Ok(self.watch(host, reply)),
            _ => Ok(reply),
        }
    }

    /// Takes a request down. Returns how long it takes, and its number if it is an effect.
    fn note(&self, host: &str, request: &Request<Body>) -> (Duration, Option<usize>) {
        let at = self.0.time.elapsed();
        let mut state = self.state();
        let is_effect = is_effect(request);
        state.sent += 1;
        let effect = is_effect.then(|| {
            state.effects += 1;
            state.effects
        });
        let number = effect.map_or_else(String::new, |number| format!("#{number}"));
        let line = format!(
            "{:>9.3} {number:>4} {} {host}{}{}",
            at.as_secs_f64(),
            request.method(),
            request.uri().path(),
            if is_watch(request) { " watch" } else { "" }
        );
        state.trace.push(line);
        let pause = LATENCY.mul_f64(state.random.random());
        (pause, effect)
    }
}

impl State {
    fn trouble(&mut self, host: &str, request: &Request<Body>) -> Option<Trouble> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.left > 0 && rule.host == host && (rule.applies)(request))?;
        rule.left = rule.left.saturating_sub(1);
        Some(rule.trouble.clone())
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

fn is_effect(request: &Request<Body>) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.uri().path().starts_with("/apis/events.k8s.io/")
}

impl Dial for Network {
    fn dial(&self, config: &Config) -> Result<Wire, Fault> {
        let host = config.cluster_url.host().unwrap_or_default();
        let host = host.trim_end_matches(".sim").to_owned();
        self.state().connections += 1;
        let ca = config.root_cert.as_ref().and_then(|roots| roots.first().cloned());
        let network = self.clone();
        let wire =
            tower::service_fn(move |request| network.clone().carry((host.clone(), ca.clone()), request));
        Ok(BoxCloneSyncService::new(wire))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
