//! One step of a plan: look, decide whether it may be done now, do it, keep what came of it.
use super::{
    cluster::Cluster,
    converge::{Engine, Maker, Scene},
    damper::Pause,
    drift::Drift,
    exact::surplus,
    kinds::Kind,
    observe::{Address, Child, held_by},
    plan::{Action, Candidate},
    remove::propagation,
    report::{Failure, Report},
    wanted::{Mode, Wanted},
    watch::Scope,
};
use crate::{
    Fault, Key,
    apply_child::{Target, Terms},
    digest::Digest,
    fault::IMMUTABLE,
    inventory::{Entry, Inventory, Store},
    raw,
};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use std::{borrow::Cow, time::Duration};

/// One object with what is to be done about it.
pub(super) struct Step<'a> {
    pub(super) candidate: &'a Candidate<'a>,
    pub(super) entry: Entry,
    pub(super) hash: Digest,
    pub(super) action: Action,
}

/// What a step came to.
pub(super) enum Outcome {
    /// Nothing was to be done: the child is as the watch has it.
    Nothing,
    /// Nothing was to be done: the child is as a look has just found it, and its event will be no news.
    Same(Child),
    Applied(Box<Done>),
}

/// What an apply brought.
pub(super) struct Done {
    entry: Entry,
    child: Child,
    repaired: Option<Drift>,
}

/// What a look at a child that seems to differ brought.
enum Explained {
    Drift(Drift),
    /// There is no such object.
    Absent(Drift),
    Same(Child),
}

/// Whether to apply.
enum Admitted {
    Apply(Option<Drift>),
    /// As a new object.
    Recreate(Drift),
    Same(Child),
}

/// Why a step was not executed now.
pub(super) enum Held {
    Failed(Fault),
    /// It was deleted to be made anew, for this reason; its entry as it is to be recorded.
    Replaced(Box<Entry>, String),
    /// By its mode.
    Detected(Drift),
    /// By the damper.
    Paused(Pause),
}

impl From<Fault> for Held {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Engine {
    pub(super) async fn run_step<'c, M: Maker>(
        &self,
        scene: &Scene<'_, M>,
        step: Step<'c>,
    ) -> (&'c Candidate<'c>, Result<Outcome, Held>) {
        (step.candidate, self.execute(scene, step).await)
    }

    async fn execute<M: Maker>(&self, scene: &Scene<'_, M>, mut step: Step<'_>) -> Result<Outcome, Held> {
        let order = scene.order;
        let Candidate { wanted, id, live } = step.candidate;
        if matches!(step.action, Action::Nothing | Action::Await) {
            if wanted.mode == Mode::Detect {
                self.told().is_over(order.key, id);
            }
            return Ok(Outcome::Nothing);
        }
        let live = live.as_ref().map(Child::digest);
        if step.action == Action::Report && live.is_some_and(|live| self.told().knows(order.key, id, live)) {
            return Ok(Outcome::Nothing);
        }
        let Some(cluster) = order.clusters.get(&wanted.cluster) else {
            return Ok(Outcome::Nothing);
        };
        let kind = match scene.kind(wanted) {
            Some(kind) => kind.clone(),
            None => self.served(cluster, wanted).await?,
        };
        let address = id.at(&kind);
        let target = Target {
            client: &cluster.client,
            address: &address,
            manager: self.manager(),
            mark: order.mark,
        };
        let admitted = self.admit(&target, &step, &cluster.identity, order.now).await;
        if let (Err(Held::Detected(_)), Some(live)) = (&admitted, live) {
            self.told().note(order.key, id, live);
        }
        let drift = match admitted? {
            Admitted::Apply(drift) => drift,
            // The GET has answered 404: the recorded UID can only be refused.
            Admitted::Recreate(drift) => {
                step.entry.uid = None;
                Some(drift)
            }
            Admitted::Same(child) => {
                self.record(order.key, cluster, &address, child.clone());
                return Ok(Outcome::Same(child));
            }
        };
        let made = if wanted.recipe.is_some() {
            scene.maker.make(wanted).await?
        } else {
            wanted.object.clone()
        };
        let terms = Terms {
            adoption: wanted.adoption,
            ignored: wanted.ignored().collect(),
        };
        let body = match target.apply(&made, step.entry.uid.as_deref(), &terms).await {
            Ok(live) => live,
            Err(fault) if fault.reason == IMMUTABLE && wanted.replace => {
                return Err(replace(&target, step.entry, fault).await);
            }
            Err(fault) => return Err(fault.into()),
        };
        let (_, removals) = surplus(self.manager(), &made, &body, wanted.exacts());
        let body = match removals.is_empty() {
            true => body,
            false => target.trim(&body, removals).await?,
        };
        if let Some(drift) = &drift {
            // What was refused is no repair: it is told as what it is, and paced by the back-off.
            self.damper()
                .note(&cluster.identity, id, &drift.to_string(), order.now);
        }
        let child = Child::observe(self.digester(), wanted.kind(), &body).ok_or_else(|| {
            Fault::retry(
                "ApiError",
                format!("apply {address}: the API server answered with something else"),
            )
        })?;
        self.record(order.key, cluster, &address, child.clone());
        let entry = Entry {
            version: wanted.version().to_owned(),
            uid: body["metadata"]["uid"].as_str().map(str::to_owned),
            wave: wanted.wave,
            desired: Some(step.hash),
            live: Some(child.digest()),
            orphan: wanted.retain,
            ..step.entry
        };
        Ok(Outcome::Applied(Box::new(Done {
            entry,
            child,
            repaired: drift,
        })))
    }

    /// Takes over what the API server said of a child, so that its event is no news.
    fn record(&self, key: &Key, cluster: &Cluster, address: &Address, child: Child) {
        let lease = self.lease(key, cluster, &address.kind, Scope::Marked);
        lease.follow(&address.namespace, &address.name);
        lease.record(&address.namespace, &address.name, child);
    }

    /// Whether to apply now, and for a repair what is repaired.
    async fn admit(
        &self,
        target: &Target<'_>,
        step: &Step<'_>,
        identity: &str,
        now: Timestamp,
    ) -> Result<Admitted, Held> {
        if !matches!(step.action, Action::Report | Action::Repair) {
            return Ok(Admitted::Apply(None));
        }
        let id = &step.candidate.id;
        if step.action == Action::Repair
            && let Some(pause) = self.damper().holds(identity, id, now)
        {
            return Err(Held::Paused(pause));
        }
        let (drift, absent) = match self.explain(target, step).await? {
            Explained::Drift(drift) => (drift, false),
            Explained::Absent(drift) => (drift, true),
            Explained::Same(child) => return Ok(Admitted::Same(child)),
        };
        if step.action == Action::Report {
            return Err(Held::Detected(drift));
        }
        Ok(match absent {
            true => Admitted::Recreate(drift),
            false => Admitted::Apply(Some(drift)),
        })
    }

    /// A kind that was not served when the convergence began: its definition may have come in an earlier wave.
    async fn served(&self, cluster: &Cluster, wanted: &Wanted) -> Result<Kind, Fault> {
        let (api_version, kind) = (wanted.api_version(), wanted.kind());
        cluster.kind(api_version, kind).await?.ok_or_else(|| {
            Fault::retry(
                "KindNotServed",
                format!(
                    "cluster {} does not serve {kind} of {api_version}",
                    wanted.cluster
                ),
            )
        })
    }

    /// What somebody did to the object; `None` when nobody did anything. One GET.
    pub(super) async fn drift(&self, target: &Target<'_>, step: &Step<'_>) -> Result<Option<Drift>, Fault> {
        match self.explain(target, step).await? {
            Explained::Drift(drift) | Explained::Absent(drift) => Ok(Some(drift)),
            Explained::Same(_) => Ok(None),
        }
    }

    /// What somebody did to the object, in words. One GET, of a thing that is about to be written anyway.
    async fn explain(&self, target: &Target<'_>, step: &Step<'_>) -> Result<Explained, Fault> {
        let (wanted, name) = (step.candidate.wanted, &step.candidate.id.name);
        let Some(body) = raw::get(target.client, target.address).await? else {
            return Ok(Explained::Absent(Drift::deleted(wanted.kind(), name)));
        };
        let child = Child::observe(self.digester(), wanted.kind(), &body);
        let child =
            child.ok_or_else(|| Fault::retry("ApiError", format!("{} has no UID", target.address)))?;
        let replaced = !step.entry.uid.as_deref().is_some_and(|uid| child.has_uid(uid));
        if !replaced && step.entry.live == Some(child.digest()) && target.is_marked(&body) {
            // A late event, or a list older than our last apply: nobody did anything.
            return Ok(Explained::Same(child));
        }
        let manager = self.manager();
        let drift = match (replaced, &wanted.recipe) {
            (true, _) => Some(Drift::replaced(&body, manager)),
            (false, Some(_)) => None,
            (false, None) => Drift::between(&wanted.object, &body, manager),
        };
        let beside = || match surplus(manager, &wanted.object, &body, wanted.exacts()).0 {
            added if added.is_empty() => Drift::taken_over(&content(wanted, &body), &body, manager),
            added => Drift::added(&body, &added, manager),
        };
        Ok(Explained::Drift(drift.unwrap_or_else(beside)))
    }
}

/// What was applied. What a maker added is known from the live object only.
fn content<'a>(wanted: &'a Wanted, live: &Value) -> Cow<'a, Value> {
    if wanted.recipe.is_none() {
        return Cow::Borrowed(&wanted.object);
    }
    let mut whole = live.clone();
    whole["metadata"] = wanted.object["metadata"].clone();
    Cow::Owned(whole)
}

/// Deletes an object whose change was refused for good, to make it anew when it is gone.
async fn replace(target: &Target<'_>, entry: Entry, refused: Fault) -> Held {
    let Some(uid) = entry.uid.as_deref() else {
        return Held::Failed(refused);
    };
    let policy = propagation(entry.wave);
    match raw::delete(target.client, target.address, (uid, None), policy).await {
        Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND => {
            let why = refused.message;
            Held::Replaced(Box::new(Entry { uid: None, ..entry }), why)
        }
        Ok(answer) => Held::Failed(answer.fault(format!("delete {}", target.address))),
        Err(fault) => Held::Failed(fault),
    }
}

/// Where an object stands after its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not as it is wanted.
    Missing,
    /// It is as it is wanted, and not ready.
    Unready,
    Ready,
}

/// Puts the outcome of one step into inventory and report.
pub(super) fn take_in<S: Store>(
    candidate: &Candidate<'_>,
    outcome: Result<Outcome, Held>,
    inventory: &mut Inventory<'_, S>,
    report: &mut Report,
) -> Standing {
    let id = candidate.id.clone();
    let child = match outcome {
        Ok(Outcome::Applied(done)) => {
            inventory.record(done.entry);
            report.applied += 1;
            report.repaired.extend(done.repaired);
            Some(done.child)
        }
        Ok(Outcome::Same(child)) => Some(child),
        Ok(Outcome::Nothing) => candidate.live.clone(),
        Err(Held::Failed(fault)) => {
            report.failures.push(Failure { id, fault });
            return Standing::Missing;
        }
        Err(Held::Replaced(entry, why)) => {
            inventory.record(*entry);
            report.missing.push(format!("{id} is made anew: {why}"));
            return Standing::Missing;
        }
        Err(Held::Detected(drift)) => {
            report.detected.push(drift);
            candidate.live.clone()
        }
        Err(Held::Paused(pause)) => {
            let (drift, every) = (pause.about, pause.interval.as_secs().max(1));
            report
                .missing
                .push(format!("{drift} again and again: repaired every {every} s only"));
            report.wake_in(Duration::try_from(pause.due).unwrap_or_default());
            return Standing::Missing;
        }
    };
    let Some(child) = child else {
        return Standing::Ready;
    };
    let standing = match child.holders() {
        Some(holders) => {
            let held = held_by(holders);
            report
                .missing
                .push(format!("{id} is being deleted and made again after{held}"));
            Standing::Missing
        }
        None if child.health().is_ready() => Standing::Ready,
        None => Standing::Unready,
    };
    report.live.insert(id, child);
    standing
}
