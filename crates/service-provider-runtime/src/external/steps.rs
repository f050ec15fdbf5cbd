//! What is done next about each resource, and what is written before: nonces first, names after, struck off last.
//!
//! | observed | wanted | not wanted |
//! |---|---|---|
//! | Absent, no name recorded | create | struck off |
//! | Absent, a name recorded | another nonce is written; create | struck off |
//! | Creating | looked at again soon | delete |
//! | Current | looked at again after the interval | delete |
//! | Drifted | update, at a falling rate while it does not help | delete |
//! | Unknown, any fault | nothing; tried again | nothing; tried again |
use super::{Calls, External, ExternalResource, Observation, Removal};
use openmcp_api::{inventory::External as Row, names};
use openmcp_reconcile::{Fault, Key, environment::chance};
use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    future::Future,
    hash::{Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What was asked of a back end is looked at again after this.
const SOON: Duration = Duration::from_secs(5);
/// Something was recorded that others may wait for: the next pass comes at once, and no faster than this.
const AGAIN: Duration = Duration::from_millis(200);
/// What somebody has to clear is looked at again after this.
const BLOCKED: Duration = Duration::from_secs(60);

/// The reason of a deletion that goes on by itself.
pub(crate) const DELETING: &str = "DeletingExternal";

/// Where the resources of one service object are recorded.
pub(crate) trait Ledger: Sync {
    fn externals(&self) -> Vec<Row>;
    /// Replaces all of them, or fails when somebody else wrote meanwhile.
    fn save_externals(&self, rows: Vec<Row>) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// When each resource was last seen well. Only saves questions: after a start, each is asked for once.
#[derive(Default)]
pub(crate) struct Looks(Mutex<HashMap<Key, HashMap<String, Look>>>);

#[derive(Clone, Copy, Default)]
struct Look {
    spec: u64,
    /// Not asked for before, unless the spec changes.
    next: Option<Instant>,
    /// Updates in a row.
    updates: u32,
}

impl Looks {
    fn held(&self) -> MutexGuard<'_, HashMap<Key, HashMap<String, Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key, nonce: &str) -> Look {
        let held = self.held();
        let of = held.get(key).and_then(|looks| looks.get(nonce));
        of.copied().unwrap_or_default()
    }

    fn set(&self, key: &Key, nonce: &str, look: Look) {
        self.held()
            .entry(key.clone())
            .or_default()
            .insert(nonce.to_owned(), look);
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.held().remove(key);
    }
}

/// What came of a pass.
#[derive(Debug, Default)]
pub(crate) struct Ensured {
    /// What is not there yet, or not gone yet, in words.
    pub(crate) missing: Vec<String>,
    pub(crate) failures: Vec<Fault>,
    /// Reason and text of Events.
    pub(crate) told: Vec<(&'static str, String)>,
    pub(crate) wake: Option<Duration>,
}

impl Ensured {
    fn wake_in(&mut self, after: Duration) {
        self.wake = Some(self.wake.map_or(after, |wake| wake.min(after)));
    }
}

/// What the steps of one service object share.
pub(crate) struct Scene<'a, L> {
    pub(crate) calls: &'a Calls,
    pub(crate) looks: &'a Looks,
    pub(crate) ledger: &'a L,
    pub(crate) key: &'a Key,
    /// The service object's UID.
    pub(crate) uid: &'a str,
}

fn same(row: &Row, wanted: &External) -> bool {
    row.backend == wanted.backend && row.key == wanted.key
}

/// What no other resource has, nor this one before: 128 bits of a hash that begins with a UID.
fn nonce(uid: &str, backend: &str, key: &str, former: &str) -> String {
    names::name_uuid(&[uid, backend, key, former])
}

fn hash(wanted: &External) -> u64 {
    let mut hash = DefaultHasher::new();
    wanted.spec.to_string().hash(&mut hash);
    hash.finish()
}

impl<L: Ledger> Scene<'_, L> {
    fn resource(&self, row: &Row, wanted: Option<&External>) -> ExternalResource {
        ExternalResource {
            key: row.key.clone(),
            owner: self.key.to_string(),
            nonce: row.nonce.clone(),
            name: row.name.clone(),
            spec: wanted.map(|wanted| wanted.spec.clone()),
        }
    }

    /// The row of what is wanted, as it is stored.
    fn row(&self, wanted: &External) -> Result<Row, Fault> {
        let found = self.ledger.externals().into_iter().find(|row| same(row, wanted));
        found.ok_or_else(|| Fault::bug(format!("{wanted:?} is not recorded")))
    }

    async fn store(&self, row: &Row) -> Result<(), Fault> {
        let mut rows = self.ledger.externals();
        for held in &mut rows {
            if (&held.backend, &held.key) == (&row.backend, &row.key) {
                held.clone_from(row);
            }
        }
        self.ledger.save_externals(rows).await
    }

    /// Records nonces for what has none: one write before the first creation.
    async fn intend(&self, wanted: &[External]) -> Result<(), Fault> {
        let mut rows = self.ledger.externals();
        let before = rows.len();
        for (index, it) in wanted.iter().enumerate() {
            if wanted[..index]
                .iter()
                .any(|other| (other.backend, &other.key) == (it.backend, &it.key))
            {
                return Err(Fault::bug(format!("{it:?} is wanted twice")));
            }
            if !rows.iter().any(|row| same(row, it)) {
                rows.push(Row {
                    backend: it.backend.to_owned(),
                    key: it.key.clone(),
                    nonce: nonce(self.uid, it.backend, &it.key, ""),
                    name: None,
                });
            }
        }
        match rows.len() == before {
            true => Ok(()),
            false => self.ledger.save_externals(rows).await,
        }
    }

    /// One step about one wanted resource.
    async fn step(&self, wanted: &External, out: &mut Ensured) -> Result<(), Fault> {
        let mut row = self.row(wanted)?;
        let (spec, look) = (hash(wanted), self.looks.get(self.key, &row.nonce));
        if let Some(next) = look
            .next
            .filter(|next| look.spec == spec && *next > Instant::now())
        {
            out.wake_in(next.saturating_duration_since(Instant::now()));
            return Ok(());
        }
        let resource = self.resource(&row, Some(wanted));
        let seen = self.calls.observe(wanted.backend, &resource).await?;
        if let Some(name) = seen.name().filter(|name| row.name.as_deref() != Some(*name)) {
            row.name = Some(name.to_owned());
            self.store(&row).await?;
            out.wake_in(AGAIN);
        }
        match seen {
            Observation::Absent => self.create(wanted, row, out).await,
            Observation::Unknown { why } => Err(unknown(&row, &why)),
            Observation::Creating { name } => {
                out.missing.push(format!("{wanted:?} ({name}) is being created"));
                out.wake_in(SOON);
                Ok(())
            }
            Observation::Current { .. } => {
                let after = self.calls.interval(wanted.backend);
                let next = Some(Instant::now() + after);
                self.looks.set(
                    self.key,
                    &row.nonce,
                    Look {
                        spec,
                        next,
                        updates: 0,
                    },
                );
                out.wake_in(after);
                Ok(())
            }
            Observation::Drifted { diff, .. } => {
                self.update(wanted, &row, &diff, (spec, look.updates), out).await
            }
        }
    }

    async fn create(&self, wanted: &External, mut row: Row, out: &mut Ensured) -> Result<(), Fault> {
        if let Some(gone) = row.name.take() {
            // Another creation, under another nonce: also this one is found again.
            row.nonce = nonce(self.uid, &row.backend, &row.key, &row.nonce);
            self.store(&row).await?;
            out.told.push((
                "DriftRepaired",
                format!("{wanted:?} ({gone}) is gone, deleted by unknown: made anew"),
            ));
        }
        let name = self
            .calls
            .create(wanted.backend, &self.resource(&row, Some(wanted)))
            .await?;
        out.told
            .push(("ExternalCreated", format!("{wanted:?} was created: {name}")));
        out.missing.push(format!("{wanted:?} ({name}) is being created"));
        row.name = Some(name);
        self.store(&row).await?;
        out.wake_in(AGAIN);
        Ok(())
    }

    /// The more often it did not help, the longer until the next time.
    async fn update(
        &self,
        wanted: &External,
        row: &Row,
        diff: &str,
        (spec, updates): (u64, u32),
        out: &mut Ensured,
    ) -> Result<(), Fault> {
        self.calls
            .update(wanted.backend, &self.resource(row, Some(wanted)), diff)
            .await?;
        let after = SOON.saturating_mul(1 << updates.min(10));
        let after = after.min(self.calls.interval(wanted.backend).max(SOON));
        let (next, updates) = (Some(Instant::now() + after), updates.saturating_add(1));
        self.looks.set(self.key, &row.nonce, Look { spec, next, updates });
        out.told
            .push(("DriftRepaired", format!("drift repaired: {wanted:?} {diff}")));
        if updates > 1 {
            out.missing
                .push(format!("{wanted:?} differs after {updates} updates: {diff}"));
        }
        out.wake_in(after);
        Ok(())
    }

    /// One step of the removal of one recorded resource.
    async fn remove(&self, row: &Row) -> Result<Removal, Fault> {
        let mut resource = self.resource(row, None);
        match self.calls.observe(&row.backend, &resource).await? {
            Observation::Absent => return Ok(Removal::Gone),
            Observation::Unknown { why } => return Err(unknown(row, &why)),
            seen => resource.name = seen.name().map(str::to_owned),
        }
        self.calls.delete(&row.backend, &resource).await
    }

    async fn strike(&self, gone: &Row) -> Result<(), Fault> {
        let mut rows = self.ledger.externals();
        rows.retain(|row| row != gone);
        self.ledger.save_externals(rows).await
    }
}

impl Observation {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Creating { name } | Self::Current { name } | Self::Drifted { name, .. } => Some(name),
            Self::Absent | Self::Unknown { .. } => None,
        }
    }
}

fn unknown(row: &Row, why: &str) -> Fault {
    let message = format!(
        "{} {}: it cannot be told whether it exists: {why}",
        row.backend, row.key
    );
    Fault::retry("ExternalUnknown", message)
}

/// Makes and repairs what is wanted. What goes wrong with one resource concerns no other.
pub(crate) async fn ensure<L: Ledger>(scene: &Scene<'_, L>, wanted: &[External]) -> Ensured {
    let mut out = Ensured::default();
    if let Err(fault) = scene.intend(wanted).await {
        out.failures.push(fault);
        return out;
    }
    for it in wanted {
        if let Err(fault) = scene.step(it, &mut out).await {
            out.failures.push(fault);
        }
    }
    out
}

/// Removes what is recorded and not wanted any more.
pub(crate) async fn prune<L: Ledger>(scene: &Scene<'_, L>, wanted: &[External], out: &mut Ensured) {
    for row in scene.ledger.externals() {
        if wanted.iter().any(|wanted| same(&row, wanted)) {
            continue;
        }
        match removed(scene, &row).await {
            Ok(()) => out.told.push((
                "ExternalDeleted",
                format!("{} {} was removed", row.backend, row.key),
            )),
            Err(fault) => out.failures.push(fault),
        }
    }
}

/// Removes everything that is recorded; whatever still holds one is returned with it, after all were tried.
pub(crate) async fn remove_all<L: Ledger>(scene: &Scene<'_, L>) -> Vec<(Row, Fault)> {
    let mut held = Vec::new();
    for row in scene.ledger.externals() {
        if let Err(fault) = removed(scene, &row).await {
            held.push((row, fault));
        }
    }
    held
}

async fn removed<L: Ledger>(scene: &Scene<'_, L>, row: &Row) -> Result<(), Fault> {
    let said = |why: String| format!("{} {}: {why}", row.backend, row.key);
    match scene.remove(row).await? {
        Removal::Gone => scene.strike(row).await,
        Removal::Waiting { on } => {
            let again = SOON.mul_f64(0.8 + 0.4 * chance());
            Err(Fault::retry(DELETING, said(format!("waiting until it is gone: {on}"))).after(again))
        }
        Removal::Blocked { by } => Err(Fault::retry(crate::stop::BLOCKED, said(by)).after(BLOCKED)),
    }
}

/// What each resource is and what a pass would do about it, for `explain`. Changes nothing.
pub(crate) async fn preview<L: Ledger>(scene: &Scene<'_, L>, wanted: &[External]) -> Vec<String> {
    let mut lines = Vec::new();
    for it in wanted {
        let (is, next) = match scene.row(it) {
            Err(_unrecorded) => ("not recorded yet".to_owned(), "create"),
            Ok(row) => {
                let resource = scene.resource(&row, Some(it));
                match scene.calls.observe(it.backend, &resource).await {
                    Ok(seen) => told(seen, &row),
                    Err(fault) => (fault.message, "nothing; it is asked for again"),
                }
            }
        };
        lines.push(format!("  {it:?}\n    is    {is}\n    next  {next}"));
    }
    for row in scene.ledger.externals() {
        if !wanted.iter().any(|wanted| same(&row, wanted)) {
            let name = row.name.as_deref().unwrap_or("no name known yet");
            let (backend, key) = (&row.backend, &row.key);
            lines.push(format!(
                "  {backend} {key}\n    is    {name}, not wanted any more\n    next  delete"
            ));
        }
    }
    lines
}

fn told(seen: Observation, row: &Row) -> (String, &'static str) {
    match (seen, &row.name) {
        (Observation::Absent, None) => ("absent".to_owned(), "create"),
        (Observation::Absent, Some(name)) => (format!("absent; recorded as {name}"), "create another one"),
        (Observation::Creating { name }, _) => {
            (format!("{name}, being created"), "nothing; it is looked at soon")
        }
        (Observation::Current { name }, _) => (format!("{name}, as it is wanted"), "nothing"),
        (Observation::Drifted { name, diff }, _) => (format!("{name}, but {diff}"), "update"),
        (Observation::Unknown { why }, _) => (format!("unknown: {why}"), "nothing; it is asked for again"),
    }
}
