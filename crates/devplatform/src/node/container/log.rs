//! A container's output on disk: one file a start, the last two starts kept, each line with its time.
use k8s_openapi::jiff::Timestamp;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    sync::watch,
};

/// Longer lines are written in parts.
const LONGEST_LINE: u64 = 16 * 1024;

/// A file that grows beyond this is set aside once; what was set aside before is dropped.
const ROTATE_AT: u64 = 10 * 1024 * 1024;

/// The logs of one container.
pub(in crate::node) struct Logs {
    folder: PathBuf,
    live: watch::Sender<Live>,
}

/// What those who follow wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct Live {
    /// The start that is the newest: the container's restart count at that time. `None` before the first.
    pub(in crate::node) attempt: Option<i32>,
    /// How often the newest file has been set aside.
    pub(in crate::node) rotation: u32,
    pub(in crate::node) length: u64,
    /// Whether more can come.
    pub(in crate::node) open: bool,
}

/// Writes the log of one start; dropping it ends the log.
pub(super) struct LogWriter {
    logs: Arc<Logs>,
    attempt: i32,
    file: Mutex<File>,
}

impl Logs {
    /// The logs in this folder, those of an earlier node included.
    pub(in crate::node) fn open(folder: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&folder)?;
        let attempt = attempts(&folder).into_iter().max();
        let (live, _) = watch::channel(Live {
            attempt,
            rotation: 0,
            length: 0,
            open: false,
        });
        Ok(Arc::new(Self { folder, live }))
    }

    /// Begins the log of a start.
    pub(super) fn begin(self: &Arc<Self>, attempt: i32) -> io::Result<Arc<LogWriter>> {
        for old in attempts(&self.folder) {
            if old < attempt - 1 {
                let _ = fs::remove_file(self.file(old));
                let _ = fs::remove_file(self.set_aside(old));
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file(attempt))?;
        self.live.send_replace(Live {
            attempt: Some(attempt),
            rotation: 0,
            length: file.metadata()?.len(),
            open: true,
        });
        Ok(Arc::new(LogWriter {
            logs: self.clone(),
            attempt,
            file: Mutex::new(file),
        }))
    }

    /// What goes on.
    pub(in crate::node) fn live(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// The files of a start, older first.
    pub(in crate::node) fn files(&self, attempt: i32) -> [PathBuf; 2] {
        [self.set_aside(attempt), self.file(attempt)]
    }

    /// Whether there is a log of this start.
    pub(in crate::node) fn has(&self, attempt: i32) -> bool {
        self.file(attempt).exists()
    }

    /// The last lines of a start, at most `bytes` of them: what is shown of a container that left no other message.
    pub(super) fn tail(&self, attempt: i32, bytes: usize) -> String {
        let text = fs::read(self.file(attempt)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(Line::parse).map(|line| line.text);
        let mut all: Vec<&str> = lines.collect();
        all.drain(..all.len().saturating_sub(80));
        let joined = all.join("\n");
        let mut from = joined.len().saturating_sub(bytes);
        while !joined.is_char_boundary(from) {
            from += 1;
        }
        joined[from..].to_owned()
    }

    fn file(&self, attempt: i32) -> PathBuf {
        self.folder.join(format!("{attempt}.log"))
    }

    fn set_aside(&self, attempt: i32) -> PathBuf {
        self.folder.join(format!("{attempt}.log.1"))
    }
}

fn attempts(folder: &Path) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .collect()
}

impl LogWriter {
    /// Copies a stream line by line until it ends.
    pub(super) async fn copy(self: Arc<Self>, stream: &'static str, from: impl AsyncRead + Unpin) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) => self.write(stream, &line),
                Err(error) => {
                    tracing::warn!(%error, "a container's output cannot be read");
                    return;
                }
            }
        }
    }

    fn write(&self, stream: &str, line: &[u8]) {
        let (text, part) = match line.strip_suffix(b"\n") {
            Some(text) => (text, 'F'),
            None => (line, 'P'),
        };
        let mut entry = format!("{:.9} {stream} {part} ", Timestamp::now()).into_bytes();
        entry.extend_from_slice(text);
        entry.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&entry) {
            tracing::warn!(%error, "a container's output cannot be kept");
            return;
        }
        let length = self.logs.live.borrow().length + entry.len() as u64;
        let rotated = length > ROTATE_AT && self.rotate(&mut file);
        self.logs.live.send_modify(|live| {
            live.length = if rotated { 0 } else { length };
            live.rotation += u32::from(rotated);
        });
    }

    fn rotate(&self, file: &mut File) -> bool {
        let path = self.logs.file(self.attempt);
        let fresh = fs::rename(&path, self.logs.set_aside(self.attempt))
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        match fresh {
            Ok(fresh) => {
                *file = fresh;
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.logs.live.send_modify(|live| live.open = false);
    }
}

/// One line as it is kept: `<time> <stream> <F|P> <text>`; P says that the line goes on in the next entry.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::node) struct Line<'a> {
    pub(in crate::node) time: &'a str,
    pub(in crate::node) stream: &'a str,
    pub(in crate::node) whole: bool,
    pub(in crate::node) text: &'a str,
}

impl<'a> Line<'a> {
    /// `None` for an entry that was cut off by a crash.
    pub(in crate::node) fn parse(entry: &'a str) -> Option<Self> {
        let mut parts = entry.splitn(4, ' ');
        Some(Self {
            time: parts.next()?,
            stream: parts.next()?,
            whole: parts.next()? == "F",
            text: parts.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_with_their_time_and_only_the_last_two_starts_stay() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().to_owned()).unwrap();
        for attempt in 0..3 {
            let writer = logs.begin(attempt).unwrap();
            let text = format!("hello {attempt}\nlast without end");
            writer.copy("stdout", text.as_bytes()).await;
        }
        assert!(!logs.has(0) && logs.has(1) && logs.has(2));
        assert_eq!(logs.tail(2, 100), "hello 2\nlast without end");
        assert_eq!(logs.tail(2, 3), "end");
        let text = fs::read_to_string(&logs.files(2)[1]).unwrap();
        let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
        assert!(lines[0].whole && !lines[1].whole);
        assert!(lines[0].time.parse::<Timestamp>().is_ok());
        let live = *logs.live().borrow();
        assert_eq!((live.attempt, live.open), (Some(2), false));
    }

    #[tokio::test]
    async fn a_long_line_is_written_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path().to_owned()).unwrap();
        let text = format!("{}\n", "x".repeat(20_000));
        logs.begin(0).unwrap().copy("stderr", text.as_bytes()).await;
        let kept = fs::read_to_string(&logs.files(0)[1]).unwrap();
        let whole: Vec<bool> = kept
            .lines()
            .filter_map(Line::parse)
            .map(|line| line.whole)
            .collect();
        assert_eq!(whole, [false, true]);
    }
}
