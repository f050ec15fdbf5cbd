//! The file that remembers processes: they are started behind a gate, written down, and ended from it.
use super::Process;
use nix::{errno::Errno, sys::signal::Signal};
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Waits for one line before it becomes the program: a starter that dies before it has written down the pid closes
/// the pipe, and the process ends without having done anything.
const GATE: &str = r#"read -r go && exec "$0" "$@" </dev/null"#;

/// How often a process that is being ended is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long a killed process may take to give back its memory and its ports.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A failure to keep or read a ledger, or to start a process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a process ledger: {source}")]
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot start {name}: {source}")]
    Start { name: String, source: io::Error },
    #[error("cannot end {name} (pid {pid}): {source}")]
    End { name: String, pid: i32, source: Errno },
}

/// A command for [`Ledger::start`]: add arguments, environment, working directory and outputs as to any other.
pub(crate) fn gated(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(GATE).arg(program);
    command
}

/// A file that remembers processes by name. It has one writer at a time (whoever holds the platform's lock, or the
/// node) and is replaced atomically, so that a reader never sees half of it.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    records: BTreeMap<String, Process>,
}

impl Ledger {
    /// Opens the ledger; a file that does not exist is an empty one.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Result<Self, ProcessError> {
        let path = path.into();
        let records = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| ProcessError::Malformed {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(ProcessError::Read { path, source }),
        };
        Ok(Self { path, records })
    }

    /// The process recorded under a name, whether it still runs or not.
    pub(crate) fn get(&self, name: &str) -> Option<&Process> {
        self.records.get(name)
    }

    /// The process recorded under a name, if it runs.
    pub(crate) fn running(&self, name: &str) -> Option<&Process> {
        self.get(name).filter(|process| process.is_running())
    }

    /// Waits until nothing is left of a recorded process that no longer runs. What runs is not waited for.
    pub(crate) fn settle(&self, name: &str) -> Result<(), ProcessError> {
        match self.get(name) {
            Some(process) if !process.is_running() && !wait_ended(&[(name, process)], KILL_PATIENCE) => {
                Err(ProcessError::End {
                    name: name.to_owned(),
                    pid: process.pid,
                    source: Errno::EBUSY,
                })
            }
            _ => Ok(()),
        }
    }

    /// Kills a process and waits until nothing is left of it that could hold a port.
    pub(crate) fn kill(&self, name: &str) -> Result<(), ProcessError> {
        let Some(process) = self.get(name) else {
            return Ok(());
        };
        let all = [(name, process)];
        send(&all, Signal::SIGKILL)?;
        match wait_ended(&all, KILL_PATIENCE) {
            true => Ok(()),
            false => Err(ProcessError::End {
                name: name.to_owned(),
                pid: process.pid,
                source: Errno::EBUSY,
            }),
        }
    }

    /// Every name that is recorded.
    pub(crate) fn names(&self) -> Vec<String> {
        self.records.keys().cloned().collect()
    }

    /// Writes a process down. On return it is in the file.
    pub(crate) fn record(&mut self, name: &str, process: Process) -> Result<(), ProcessError> {
        self.records.insert(name.to_owned(), process);
        self.save()
    }

    /// Strikes a name out.
    pub(crate) fn forget(&mut self, name: &str) -> Result<(), ProcessError> {
        if self.records.remove(name).is_some() {
            self.save()
        } else {
            Ok(())
        }
    }

    /// Starts a [`gated`] command in a process group of its own (a Ctrl-C in the terminal does not reach it) and
    /// records it **before** it becomes its program. Standard input is the gate's.
    pub(crate) fn start(&mut self, name: &str, mut command: Command) -> Result<Child, ProcessError> {
        let failed = |source| ProcessError::Start {
            name: name.to_owned(),
            source,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let gate = child.stdin.take();
        let process = i32::try_from(child.id())
            .ok()
            .and_then(Process::find)
            .ok_or_else(|| failed(io::Error::other("it ended at once")))?;
        self.record(name, process)?;
        gate.ok_or_else(|| failed(io::Error::other("no gate")))
            .and_then(|mut gate| gate.write_all(b"\n").map_err(failed))?;
        Ok(child)
    }

    /// Ends the named processes: SIGTERM to all at once, SIGKILL to what still runs after `grace`; waits until each
    /// is gone and strikes it out. Names without a running process are struck out too.
    pub(crate) fn end(&mut self, names: &[&str], grace: Duration) -> Result<(), ProcessError> {
        let doomed: Vec<(&str, Process)> = names
            .iter()
            .filter_map(|name| Some((*name, self.records.get(*name)?.clone())))
            .collect();
        let all: Vec<(&str, &Process)> = doomed.iter().map(|(name, process)| (*name, process)).collect();
        send(&all, Signal::SIGTERM)?;
        if !wait_ended(&all, grace) {
            send(&all, Signal::SIGKILL)?;
            wait_ended(&all, KILL_PATIENCE);
        }
        for (name, process) in all {
            if !process.has_ended() {
                return Err(ProcessError::End {
                    name: name.to_owned(),
                    pid: process.pid,
                    source: Errno::EBUSY,
                });
            }
            self.records.remove(name);
        }
        if doomed.is_empty() { Ok(()) } else { self.save() }
    }

    fn save(&self) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::Write {
            path: self.path.clone(),
            source,
        };
        let text = serde_json::to_vec_pretty(&self.records).map_err(|error| failed(error.into()))?;
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, text).map_err(failed)?;
        fs::rename(&fresh, &self.path).map_err(failed)
    }
}

fn send(processes: &[(&str, &Process)], signal: Signal) -> Result<(), ProcessError> {
    for (name, process) in processes {
        let failed = |source| ProcessError::End {
            name: (*name).to_owned(),
            pid: process.pid,
            source,
        };
        process.signal(signal).map_err(failed)?;
    }
    Ok(())
}

fn wait_ended(processes: &[(&str, &Process)], patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        if processes.iter().all(|(_, process)| process.has_ended()) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(LOOK);
    }
}

/// Reads the exit of a child that nobody waits for, so that a starter that lives on (the demo) keeps no zombies.
pub(crate) fn reap(mut child: Child) {
    thread::spawn(move || child.wait());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sleeper() -> Command {
        let mut command = gated(Path::new("/bin/sleep"));
        command.arg("60");
        command
    }

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path().join("processes.json")).unwrap();
        (folder, ledger)
    }

    #[test]
    fn a_started_process_is_found_again_by_another_reader_and_ended() {
        let (folder, mut ledger) = ledger();
        reap(ledger.start("sleeper", sleeper()).unwrap());
        let mut again = Ledger::open(folder.path().join("processes.json")).unwrap();
        assert!(again.running("sleeper").is_some());
        again.end(&["sleeper"], Duration::from_secs(5)).unwrap();
        assert!(again.names().is_empty());
        assert!(ledger.running("sleeper").is_none());
    }

    #[test]
    fn a_recycled_pid_is_somebody_elses_process_and_is_left_alone() {
        let (_folder, mut ledger) = ledger();
        let mut child = ledger.start("sleeper", sleeper()).unwrap();
        let mut stranger = ledger.get("sleeper").unwrap().clone();
        stranger.start_ticks += 1;
        ledger.record("recorded", stranger).unwrap();
        assert!(ledger.running("recorded").is_none());
        ledger.end(&["recorded"], Duration::ZERO).unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "the other process still runs"
        );
        ledger.end(&["sleeper"], Duration::from_secs(5)).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn of_what_was_killed_nothing_is_left() {
        let (_folder, mut ledger) = ledger();
        reap(ledger.start("sleeper", sleeper()).unwrap());
        ledger.kill("sleeper").unwrap();
        assert!(ledger.get("sleeper").unwrap().has_ended());
        ledger.kill("sleeper").unwrap();
        ledger.kill("nobody").unwrap();
    }

    #[test]
    fn a_starter_that_dies_before_recording_leaves_no_process() {
        let mut child = sleeper().stdin(Stdio::piped()).spawn().unwrap();
        drop(child.stdin.take());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
        let (folder, mut ledger) = ledger();
        let ready = folder.path().join("ready");
        let mut command = gated(Path::new("/bin/sh"));
        command.arg("-c").arg(format!(
            "trap '' TERM; : > {}; while :; do sleep 1; done",
            ready.display()
        ));
        reap(ledger.start("stubborn", command).unwrap());
        while !ready.exists() {
            thread::sleep(LOOK);
        }
        ledger.end(&["stubborn"], Duration::from_millis(100)).unwrap();
        assert!(ledger.names().is_empty());
    }
}
