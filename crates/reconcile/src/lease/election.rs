//! Whether a lease may be taken, by what was seen of it and when: pure, told the time.
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use std::time::Duration;
use tokio::time::Instant;

/// What a look at the lease came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be taken, by compare-and-swap.
    Free,
    /// Its holder may still be at work.
    Held {
        /// Who that is.
        by: String,
        /// When it is free, should nobody renew it until then.
        until: Instant,
    },
}

/// A candidate's memory.
pub(super) struct Election {
    identity: String,
    duration: Duration,
    seen: Option<Seen>,
}

struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Election {
    pub(super) fn new(identity: String, duration: Duration) -> Self {
        Self {
            identity,
            duration,
            seen: None,
        }
    }

    /// A lease is free when nobody holds it, when we do (a restart under the same identity), or when it did not
    /// change for its duration *since we first saw it so*. Its own timestamps are never believed.
    pub(super) fn observe(&mut self, meta: &ObjectMeta, spec: &LeaseSpec, now: Instant) -> Verdict {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return Verdict::Free;
        }
        let theirs = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let wait = self.duration.max(Duration::from_secs(theirs.unwrap_or(0)));
        let since = match &self.seen {
            Some(seen) if seen.version == meta.resource_version => seen.at,
            _ => {
                self.seen = Some(Seen {
                    version: meta.resource_version.clone(),
                    at: now,
                });
                now
            }
        };
        let until = since + wait;
        if now > until {
            return Verdict::Free;
        }
        Verdict::Held {
            by: holder.to_owned(),
            until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(version: &str) -> ObjectMeta {
        ObjectMeta {
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    fn held(by: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.to_owned()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_expires_by_the_time_since_it_was_seen_to_change() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut election = Election::new("me".to_owned(), 15 * second);
        let mut seen = |version: &str, after: u32| {
            election.observe(&meta(version), &held("other", 15), start + after * second)
        };
        let until = |after: u32| Verdict::Held {
            by: "other".to_owned(),
            until: start + after * second,
        };
        assert_eq!(seen("1", 0), until(15));
        assert_eq!(seen("1", 15), until(15));
        assert_eq!(seen("2", 16), until(31));
        assert_eq!(seen("2", 31), until(31));
        assert_eq!(seen("2", 32), Verdict::Free);
    }

    #[test]
    fn a_holder_with_a_longer_lease_is_given_its_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut election = Election::new("me".to_owned(), 15 * second);
        election.observe(&meta("1"), &held("other", 60), start);
        let verdict = election.observe(&meta("1"), &held("other", 60), start + 59 * second);
        assert_eq!(
            verdict,
            Verdict::Held {
                by: "other".to_owned(),
                until: start + 60 * second,
            }
        );
    }

    #[test]
    fn a_lease_that_was_given_back_or_is_ours_is_free() {
        let mut election = Election::new("me".to_owned(), Duration::from_secs(15));
        assert_eq!(
            election.observe(&meta("1"), &held("", 1), Instant::now()),
            Verdict::Free
        );
        assert_eq!(
            election.observe(&meta("1"), &held("me", 15), Instant::now()),
            Verdict::Free
        );
    }
}
