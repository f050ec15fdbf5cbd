//! A log as a stream of bytes: what there is, and with `follow` what is written until the container ends.
use super::query::LogQuery;
use crate::node::container::{Line, Live, Logs};
use futures::Stream;
use hyper::body::Bytes;
use k8s_openapi::jiff::Timestamp;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};
use tokio::sync::watch;

/// The chunks of a log. Ends with the log of this start, not with the container's next one.
pub(super) fn chunks(
    logs: Arc<Logs>,
    attempt: i32,
    query: LogQuery,
) -> impl Stream<Item = Bytes> + Send + Sync {
    let reader = Reader {
        live: logs.live(),
        left: query.limit.unwrap_or(usize::MAX),
        first: true,
        position: 0,
        rotation: 0,
        rest: Vec::new(),
        mid_line: false,
        logs,
        attempt,
        query,
    };
    futures::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Bytes::from(chunk), reader))
    })
}

struct Reader {
    logs: Arc<Logs>,
    live: watch::Receiver<Live>,
    attempt: i32,
    query: LogQuery,
    left: usize,
    first: bool,
    /// How far the newest file has been read, and how often it had been set aside then.
    position: u64,
    rotation: u32,
    /// The beginning of an entry that is not complete yet.
    rest: Vec<u8>,
    /// The last entry that was shown goes on.
    mid_line: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.left == 0 {
                return None;
            }
            let live = *self.live.borrow_and_update();
            let goes_on = self.query.follow && live.open && live.attempt == Some(self.attempt);
            let entries = match std::mem::replace(&mut self.first, false) {
                true => self.begin(live),
                false => self.more(live),
            };
            let mut shown = self.show(&entries);
            shown.truncate(self.left);
            self.left -= shown.len();
            if !shown.is_empty() {
                return Some(shown);
            }
            // Looked at before the file was read: nothing can have been written since and be missed.
            if !goes_on || self.live.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Everything that there is, cut to the wanted number of lines.
    fn begin(&mut self, live: Live) -> Vec<u8> {
        let [set_aside, newest] = self.logs.files(self.attempt);
        let mut all = read_from(&set_aside, 0);
        let new = read_from(&newest, 0);
        self.position = new.len() as u64;
        self.rotation = live.rotation;
        all.extend(new);
        self.tail(all)
    }

    fn tail(&self, all: Vec<u8>) -> Vec<u8> {
        let Some(lines) = self.query.tail else {
            return all;
        };
        let mut seen = 0;
        let text = String::from_utf8_lossy(&all);
        let mut from = text.len();
        for entry in text.split_inclusive('\n').rev() {
            let parsed = Line::parse(entry);
            seen += usize::from(parsed.as_ref().is_none_or(|line| line.whole && self.wanted(line)));
            if seen > lines {
                break;
            }
            from -= entry.len();
        }
        text.as_bytes()[from..].to_vec()
    }

    /// What has been written since.
    fn more(&mut self, live: Live) -> Vec<u8> {
        let [set_aside, newest] = self.logs.files(self.attempt);
        let mut entries = Vec::new();
        if live.attempt == Some(self.attempt) && live.rotation != self.rotation {
            entries = read_from(&set_aside, self.position);
            self.position = 0;
            self.rotation = live.rotation;
        }
        let new = read_from(&newest, self.position);
        self.position += new.len() as u64;
        entries.extend(new);
        entries
    }

    fn wanted(&self, line: &Line<'_>) -> bool {
        let of_stream = self
            .query
            .stream
            .as_deref()
            .is_none_or(|stream| stream == line.stream);
        let since = self.query.since;
        of_stream && since.is_none_or(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time >= since))
    }

    fn show(&mut self, entries: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(entries);
        let complete = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let remaining = self.rest.split_off(complete);
        let complete = std::mem::replace(&mut self.rest, remaining);
        let mut shown = Vec::new();
        for entry in complete.split(|byte| *byte == b'\n') {
            let entry = String::from_utf8_lossy(entry);
            let Some(line) = Line::parse(&entry).filter(|line| self.wanted(line)) else {
                continue;
            };
            if self.query.timestamps && !self.mid_line {
                shown.extend_from_slice(line.time.as_bytes());
                shown.push(b' ');
            }
            shown.extend_from_slice(line.text.as_bytes());
            if line.whole {
                shown.push(b'\n');
            }
            self.mid_line = !line.whole;
        }
        shown
    }
}

fn read_from(path: &Path, position: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(position)).is_ok()
    {
        // What could be read is shown.
        let _ = file.read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::StreamExt;

    fn logs(folder: &Path) -> Arc<Logs> {
        let entries = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
                       2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";
        std::fs::write(folder.join("0.log"), entries).unwrap();
        Logs::open(folder.to_owned()).unwrap()
    }

    async fn shown(query: LogQuery) -> String {
        let folder = tempfile::tempdir().unwrap();
        let chunks: Vec<Bytes> = chunks(logs(folder.path()), 0, query).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_shown_whole_or_from_its_end_or_since_a_time() {
        assert_eq!(shown(LogQuery::default()).await, "one\ntwo\nthree\n");
        let tail = |lines| LogQuery {
            tail: Some(lines),
            ..LogQuery::default()
        };
        assert_eq!(shown(tail(2)).await, "two\nthree\n");
        assert_eq!(shown(tail(0)).await, "");
        let since = LogQuery {
            since: "2026-01-01T00:00:03Z".parse().ok(),
            timestamps: true,
            ..LogQuery::default()
        };
        assert_eq!(shown(since).await, "2026-01-01T00:00:03Z three\n");
        let few = LogQuery {
            limit: Some(5),
            ..LogQuery::default()
        };
        assert_eq!(shown(few).await, "one\nt");
        let errors = LogQuery {
            stream: Some("stderr".to_owned()),
            ..LogQuery::default()
        };
        assert_eq!(shown(errors).await, "two\n");
    }
}
