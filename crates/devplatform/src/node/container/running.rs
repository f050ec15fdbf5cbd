//! One process of a container, from its spawn to its exit code.
//!
//! Signals go to the entry process, never to bubblewrap: bubblewrap would end and the entry's handler never run.
use super::log::LogWriter;
use crate::{
    node::{
        Node,
        sandbox::{Launched, Sandbox},
    },
    process::Process,
};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::{fs, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe,
    process::Child,
    task::JoinHandle,
    time::timeout,
};

/// How long bubblewrap may take to become the entry.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How long the last output of an ended process is waited for.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);

/// A process that runs, or has just ended.
pub(super) struct Running {
    node: Arc<Node>,
    child: Child,
    reports: Lines<BufReader<pipe::Receiver>>,
    output: Vec<JoinHandle<()>>,
    entry: Option<Process>,
    /// The names in the ledger: bubblewrap's and the entry's.
    names: [String; 2],
    executed: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    /// The exit code, or 128 + the signal's number.
    pub(super) code: i32,
    /// False when the sandbox could not be made or the command not be found.
    pub(super) executed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    child_pid: Option<i32>,
    exit_code: Option<i32>,
}

impl Running {
    /// Spawns a process and waits until its program runs (or has failed to). The errors are those of this machine.
    pub(super) async fn start(
        node: &Arc<Node>,
        name: &str,
        sandbox: &Sandbox,
        log: &Arc<LogWriter>,
    ) -> anyhow::Result<Self> {
        let options = sandbox.options(&node.host)?;
        let launched = node.launcher.launch(options, sandbox.argv.clone()).await?;
        let Launched { mut child, reports } = launched;
        let names = [format!("{name} (sandbox)"), name.to_owned()];
        if let Some(process) = child.id().and_then(find) {
            node.processes.record(&names[0], process);
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            output.push(tokio::spawn(log.clone().copy("stdout", stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            output.push(tokio::spawn(log.clone().copy("stderr", stderr)));
        }
        let mut running = Self {
            node: node.clone(),
            child,
            reports: BufReader::new(reports).lines(),
            output,
            entry: None,
            names,
            executed: false,
        };
        timeout(START_DEADLINE, running.await_entry())
            .await
            .map_err(|_| {
                anyhow::anyhow!("the sandbox did not start within {} s", START_DEADLINE.as_secs())
            })?;
        Ok(running)
    }

    /// Learns the entry's pid, records it, and waits until the program has taken bubblewrap's place.
    async fn await_entry(&mut self) {
        let Some(pid) = self.report().await.and_then(|report| report.child_pid) else {
            return;
        };
        self.entry = Process::find(pid);
        if let Some(entry) = &self.entry {
            self.node.processes.record(&self.names[1], entry.clone());
        }
        while let Ok(command) = fs::read_to_string(format!("/proc/{pid}/comm")) {
            if command.trim() != "bwrap" {
                self.executed = true;
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn report(&mut self) -> Option<Report> {
        let line = self.reports.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Whether the program was seen to run.
    pub(super) fn runs(&self) -> bool {
        self.executed
    }

    /// Signals the entry; nothing happens if it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(entry) = &self.entry else { return };
        if let Err(error) = entry.signal(signal) {
            tracing::warn!(%error, %signal, process = self.names[1], "cannot signal a container");
        }
    }

    /// Waits until the process has ended. May be dropped and called again.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = self.child.wait().await {
            tracing::error!(%error, process = self.names[1], "cannot wait for a container");
        }
    }

    /// Collects the last output and the exit code of a process that has ended.
    pub(super) async fn exit(mut self) -> Exit {
        let status = self.child.wait().await.ok();
        for copy in &mut self.output {
            let _ = timeout(OUTPUT_DEADLINE, copy).await;
        }
        let reported = self.report().await.and_then(|report| report.exit_code);
        for name in &self.names {
            self.node.processes.forget(name);
        }
        Exit {
            code: reported
                .or(status.and_then(|status| status.code()))
                .unwrap_or(137),
            executed: self.executed || reported.is_some(),
        }
    }
}

fn find(pid: u32) -> Option<Process> {
    Process::find(i32::try_from(pid).ok()?)
}
