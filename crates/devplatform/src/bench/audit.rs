//! Requests, counted by the API server itself: its audit log of the identities that are measured.
//!
//! Other than `apiserver_request_total` it tells who sent a request and when, and so what is the provider's.
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The audit policy: nothing but requests of these users, without their content.
pub(super) fn policy(users: &[&str]) -> String {
    let users: Vec<String> = users.iter().map(|user| format!("{user:?}")).collect();
    format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
         - level: Metadata\n  users: [{}]\n- level: None\n",
        users.join(", ")
    )
}

/// Why a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    /// The service's own objects on the ControlPlane.
    Children,
    /// Finalizer and status of the service object.
    Object,
    Inventory,
    /// Requests for access, their Secrets, which cluster it is.
    Access,
    Events,
    /// Lists and watches of any kind.
    Watches,
    Other,
}

impl Column {
    pub(super) const ALL: [Self; 7] = [
        Self::Children,
        Self::Object,
        Self::Inventory,
        Self::Access,
        Self::Events,
        Self::Watches,
        Self::Other,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Children => "children",
            Self::Object => "finalizer+status",
            Self::Inventory => "inventory",
            Self::Access => "access",
            Self::Events => "events",
            Self::Watches => "watches",
            Self::Other => "other",
        }
    }

    fn of(verb: &str, resource: &str) -> Self {
        match (verb, resource) {
            ("list" | "watch", _) => Self::Watches,
            (_, "configmaps") => Self::Children,
            (_, "configsets" | "bareconfigsets") => Self::Object,
            (_, "inventories") => Self::Inventory,
            (_, "clusters" | "clusterrequests" | "accessrequests" | "secrets" | "namespaces") => Self::Access,
            (_, "events") => Self::Events,
            _ => Self::Other,
        }
    }
}

/// Counted requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    /// By column, and by verb, resource and answer where that is no success.
    counts: BTreeMap<(Column, String), u64>,
    /// By second, as the log writes times.
    seconds: BTreeMap<String, u64>,
}

impl Requests {
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn of(&self, column: Column) -> u64 {
        let of = self.counts.iter().filter(|((it, _), _)| *it == column);
        of.map(|(_, count)| count).sum()
    }

    /// Those of one verb and resource that succeeded.
    pub(super) fn counts_of(&self, what: &str) -> u64 {
        let of = self.counts.iter().filter(|((_, it), _)| it == what);
        of.map(|(_, count)| count).sum()
    }

    /// Requests that change something.
    pub(super) fn writes(&self) -> u64 {
        let writes = self.counts.iter().filter(|((_, what), _)| {
            ["create", "update", "patch", "delete"]
                .iter()
                .any(|verb| what.starts_with(verb))
        });
        writes.map(|(_, count)| count).sum()
    }

    /// Complete lists of a collection.
    pub(super) fn lists(&self) -> u64 {
        let lists = self
            .counts
            .iter()
            .filter(|((_, what), _)| what.starts_with("list "));
        lists.map(|(_, count)| count).sum()
    }

    /// Those that are about one resource.
    pub(super) fn about(&self, resource: &str) -> u64 {
        let about = self
            .counts
            .iter()
            .filter(|((_, what), _)| what.split([' ', '/']).nth(1) == Some(resource));
        about.map(|(_, count)| count).sum()
    }

    /// Requests in the fullest second.
    pub(super) fn peak(&self) -> u64 {
        self.seconds.values().copied().max().unwrap_or_default()
    }

    /// `children 5, inventory 2`, divided by how many things were done.
    pub(super) fn by_column(&self, things: u64) -> String {
        let share = |column| self.of(column) as f64 / things.max(1) as f64;
        let parts: Vec<String> = Column::ALL
            .into_iter()
            .filter(|column| self.of(*column) > 0)
            .map(|column| format!("{} {}", column.name(), short(share(column))))
            .collect();
        if parts.is_empty() {
            "none".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// `5 patch configmaps`, the most frequent first.
    pub(super) fn by_verb(&self) -> String {
        let mut all: Vec<(u64, &str)> = self
            .counts
            .iter()
            .map(|((_, what), count)| (*count, what.as_str()))
            .collect();
        all.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let all: Vec<String> = all
            .into_iter()
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        all.join(", ")
    }

    fn add(&mut self, entry: &Entry) {
        // A watch is logged when it begins and when it ends, anything else when it is answered.
        let counts = if entry.verb == "watch" {
            "ResponseStarted"
        } else {
            "ResponseComplete"
        };
        let Some(object) = entry.object_ref.as_ref().filter(|_| entry.stage == counts) else {
            return;
        };
        let mut what = format!("{} {}", entry.verb, object.resource);
        if let Some(part) = &object.subresource {
            what.push('/');
            what.push_str(part);
        }
        match entry.response_status.as_ref().map(|status| status.code) {
            Some(code) if code >= 300 => what.push_str(&format!(" ({code})")),
            _ => {}
        }
        let column = Column::of(&entry.verb, &object.resource);
        *self.counts.entry((column, what)).or_default() += 1;
        let second = entry.request_received_timestamp.split('.').next();
        *self
            .seconds
            .entry(second.unwrap_or_default().to_owned())
            .or_default() += 1;
    }
}

/// `5`, `5.25`
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
    response_status: Option<Answer>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: String,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    code: u16,
}

/// The log of one API server, read from a mark on.
pub(super) struct AuditLog {
    path: PathBuf,
}

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

impl AuditLog {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The end of the log as it is now.
    pub(super) fn mark(&self) -> Mark {
        Mark(fs::metadata(&self.path).map_or(0, |file| file.len()))
    }

    /// What a user sent since a mark.
    pub(super) fn since(&self, mark: Mark, user: &str) -> Result<Requests> {
        let problem = || format!("cannot read {}", self.path.display());
        let mut file = fs::File::open(&self.path).with_context(problem)?;
        file.seek(SeekFrom::Start(mark.0)).with_context(problem)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(problem)?;
        let mut requests = Requests::default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().filter(|line| line.contains(user)) {
            let entry: Entry = serde_json::from_str(line).with_context(problem)?;
            if entry.user.username == user {
                requests.add(&entry);
            }
        }
        Ok(requests)
    }

    /// Gives the disk back. The API server appends, so it goes on at the beginning. Marks are void after it.
    pub(super) fn clear(&self) -> Result<()> {
        let file = fs::File::options().write(true).open(&self.path);
        file.and_then(|file| file.set_len(0))
            .with_context(|| format!("cannot empty {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LOG: &str = r#"{"stage":"ResponseComplete","verb":"patch","user":{"username":"us"},"objectRef":{"resource":"configmaps"},"responseStatus":{"code":201},"requestReceivedTimestamp":"2026-01-01T00:00:01.5Z"}
{"stage":"ResponseComplete","verb":"patch","user":{"username":"them, not us"},"objectRef":{"resource":"configmaps"},"requestReceivedTimestamp":"2026-01-01T00:00:01.6Z"}
{"stage":"ResponseStarted","verb":"watch","user":{"username":"us"},"objectRef":{"resource":"inventories"},"requestReceivedTimestamp":"2026-01-01T00:00:01.7Z"}
{"stage":"ResponseComplete","verb":"watch","user":{"username":"us"},"objectRef":{"resource":"inventories"},"requestReceivedTimestamp":"2026-01-01T00:00:01.7Z"}
{"stage":"ResponseComplete","verb":"patch","user":{"username":"us"},"objectRef":{"resource":"configsets","subresource":"status"},"responseStatus":{"code":409},"requestReceivedTimestamp":"2026-01-01T00:00:02.1Z"}
{"stage":"ResponseComplete","verb":"pa"#;

    #[test]
    fn requests_of_one_user_are_counted_by_what_they_are_for() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog::new(&folder.path().join("audit.log"));
        fs::write(&log.path, LOG).unwrap();
        let requests = log.since(Mark(0), "us").unwrap();
        assert_eq!((requests.total(), requests.writes(), requests.peak()), (3, 2, 2));
        assert_eq!(requests.by_column(1), "children 1, finalizer+status 1, watches 1");
        assert!(requests.by_verb().contains("1 patch configsets/status (409)"));
        assert_eq!(log.since(log.mark(), "us").unwrap().total(), 0);
    }
}
