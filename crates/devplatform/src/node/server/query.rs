//! The options of `kubectl logs`, as the API server passes them on. Pure.
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Which part of a log is wanted, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogQuery {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    /// Lines from the end; all where absent.
    pub(super) tail: Option<usize>,
    pub(super) since: Option<Timestamp>,
    /// Bytes at most.
    pub(super) limit: Option<usize>,
    /// `stdout` or `stderr`; both where absent.
    pub(super) stream: Option<String>,
}

impl LogQuery {
    /// Reads a query string. The error says which option is wrong.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            wanted
                .set(name, &decode(value))
                .ok_or_else(|| format!("option {name} has no valid value: {value:?}"))?;
        }
        Ok(wanted)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "follow" => self.follow = flag(value)?,
            "previous" => self.previous = flag(value)?,
            "timestamps" => self.timestamps = flag(value)?,
            "tailLines" => self.tail = Some(value.parse().ok()?),
            "limitBytes" => self.limit = Some(value.parse().ok()?),
            "sinceTime" => self.since = Some(value.parse().ok()?),
            "sinceSeconds" => {
                let ago = SignedDuration::from_secs(value.parse().ok()?);
                self.since = Some(Timestamp::now().checked_sub(ago).ok()?);
            }
            "stream" => self.stream = Some(value.to_lowercase()).filter(|stream| stream != "all"),
            // An option of a later release changes nothing here.
            _ => {}
        }
        Some(())
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// `%3A` and `+`.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(code) => {
                        bytes.push(code);
                        rest = &after[2..];
                    }
                    None => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_read_and_a_wrong_one_is_named() {
        let query =
            LogQuery::parse("follow=true&tailLines=5&timestamps=true&sinceTime=2026-01-01T00%3A00%3A00Z")
                .unwrap();
        assert!(query.follow && query.timestamps && !query.previous);
        assert_eq!(query.tail, Some(5));
        assert_eq!(query.since, "2026-01-01T00:00:00Z".parse().ok());
        assert!(
            LogQuery::parse("tailLines=some")
                .unwrap_err()
                .contains("tailLines")
        );
        assert_eq!(LogQuery::parse("").unwrap(), LogQuery::default());
        assert!(
            LogQuery::parse("sinceSeconds=60&later=x")
                .unwrap()
                .since
                .is_some()
        );
    }
}
