//! The network of one simulated process: the way to each server by its host name, and everything that can go wrong
//! on it.
//!
//! A request that is not a read is an **effect** (Events excepted: nothing depends on them). Effects are counted from
//! 1; a crash or a fault can be put before or after any of them.
use crate::{Server, server::refusal, time::Time};
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, header, header::HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
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

/// The way there and back takes up to this time.
const LATENCY: Duration = Duration::from_millis(20);

/// When the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The effect with this number does not happen.
    Before(usize),
    /// It happens; its answer is lost.
    After(usize),
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Nothing listens.
    Refused,
    /// It never gets an answer, nor does the server get it.
    Silent,
    /// The server does it; the answer is lost.
    AnswerLost,
    /// The server does it; the answer ends in the middle.
    Truncated,
    /// It takes this time more.
    Slow(Duration),
    /// The server answers this status, with `Retry-After` in seconds if there is one.
    Status(u16, Option<u32>),
}

/// What becomes of watches that are open or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchTrouble {
    /// Nothing comes any more, and the connection stays open.
    Stalled,
    /// Bookmarks do not come.
    NoBookmarks,
    /// Every n-th event is missed.
    Missed(u32),
    /// Every event comes twice.
    Doubled,
    /// Two events at a time come in the other order.
    Reordered,
}

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
    pub(crate) fn new(servers: Arc<Mutex<BTreeMap<String, Server>>>, time: Time, seed: u64) -> Self {
        Self(Arc::new(Shared {
            time,
            servers,
            state: Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                effects: 0,
                sent: 0,
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

    async fn carry(self, host: String, request: Request<Body>) -> Result<Reply, BoxError> {
        let (pause, effect) = self.note(&host, &request);
        tokio::time::sleep(pause).await;
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
        let reply = server
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        if let Some(number) = effect
            && self.pass(Crash::After(number))
        {
            self.die().await;
        }
        match trouble {
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

    /// The events of a watch, through whatever troubles there are when each comes.
    fn watch(self, host: String, reply: Reply) -> Reply {
        let opened = self.0.breaks.load(Ordering::Relaxed);
        let (parts, body) = reply.into_parts();
        let relay = Relay {
            events: body.into_data_stream().boxed(),
            network: self,
            host,
            opened,
            count: 0,
            held: Vec::new(),
        };
        let frames = relay.stream().map(|event| Ok::<_, BoxError>(Frame::data(event)));
        Reply::from_parts(parts, StreamBody::new(frames).boxed_unsync())
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

struct Relay<S> {
    events: S,
    network: Network,
    host: String,
    opened: u64,
    count: u32,
    held: Vec<Bytes>,
}

impl<S: Stream<Item = Result<Bytes, BoxError>> + Unpin + Send> Relay<S> {
    fn stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, async |mut relay| {
            let event = relay.next().await?;
            Some((event, relay))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let broken = self.network.0.broken.notified();
            let since = |troubles: &HashMap<String, u64>, host: &str, opened: u64| {
                troubles.get(host).is_some_and(|at| *at > opened)
            };
            let (closed, silent, trouble) = {
                let state = self.network.state();
                (
                    since(&state.closed, &self.host, self.opened),
                    since(&state.silent, &self.host, self.opened),
                    state.watches.get(&self.host).copied(),
                )
            };
            if closed {
                return None;
            }
            if silent {
                broken.await;
                continue;
            }
            if trouble != Some(WatchTrouble::Reordered)
                && let Some(event) = self.held.pop()
            {
                return Some(event);
            }
            let event = tokio::select! {
                biased;
                () = broken => continue,
                event = self.events.next() => event?.ok()?,
            };
            self.count += 1;
            let is_bookmark =
                event.starts_with(b"{\"object\":") && event.windows(10).any(|part| part == b"\"BOOKMARK\"");
            match trouble {
                Some(WatchTrouble::NoBookmarks) if is_bookmark => {}
                Some(WatchTrouble::Missed(every)) if !is_bookmark && self.count.is_multiple_of(every) => {}
                Some(WatchTrouble::Doubled) => {
                    self.held.push(event.clone());
                    return Some(event);
                }
                Some(WatchTrouble::Reordered) if self.held.is_empty() => self.held.push(event),
                _ => return Some(event),
            }
        }
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

fn status(code: u16, retry_after: Option<u32>) -> Reply {
    let mut reply = refusal(code);
    if let Some(seconds) = retry_after {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

async fn truncated(reply: Reply) -> Reply {
    let (parts, body) = reply.into_parts();
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let half = bytes.slice(..bytes.len() / 2);
    let frames = [
        Ok(Frame::data(half)),
        Err(BoxError::from("unexpected end of the body")),
    ];
    Reply::from_parts(parts, StreamBody::new(stream::iter(frames)).boxed_unsync())
}

impl Dial for Network {
    fn dial(&self, config: &Config) -> Result<Wire, Fault> {
        let host = config.cluster_url.host().unwrap_or_default();
        let host = host.trim_end_matches(".sim").to_owned();
        let network = self.clone();
        let wire = tower::service_fn(move |request| network.clone().carry(host.clone(), request));
        Ok(BoxCloneSyncService::new(wire))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
