//! Platforms whose processes are killed, that run side by side, and that are interrupted while they start: what belongs
//! to a platform is found and ended, and nothing else is.
//!
//! `cargo verify` runs it: it needs the programs of a control plane, and for the demo this repository's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config, config::Kubeconfig};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The longest that anything may take; machines are shared.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A process as the platform records it: its pid may be another's one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: i32,
    start_ticks: u64,
}

impl Process {
    fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let Some((_, fields)) = stat.rsplit_once(") ") else {
            return false;
        };
        let fields: Vec<&str> = fields.split(' ').collect();
        fields[0] != "Z" && fields[19] == self.start_ticks.to_string()
    }

    /// kill -9, and what is killed is gone on return.
    fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).unwrap();
        until("what was killed is gone", || !self.runs());
    }
}

/// A platform of this test's own, by name. Taken down at the end, also when the test fails.
struct Platform {
    name: String,
    folder: PathBuf,
    /// Everything that was ever recorded of it.
    seen: BTreeSet<Process>,
}

impl Platform {
    /// None of this name runs. Names follow the platform that the suites run on, so that those of two runs differ.
    fn new(name: &str) -> Self {
        let run = env::var("OPENMCP_PLATFORM_NAME").unwrap_or_else(|_| "test".into());
        let name = format!("{run}-{name}");
        let variable = |name| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let state = variable("OPENMCP_HOME")
            .or_else(|| Some(variable("XDG_STATE_HOME")?.join("openmcp")))
            .or_else(|| Some(variable("HOME")?.join(".local/state/openmcp")));
        let it = Self {
            folder: state.unwrap().join(&name),
            name,
            seen: BTreeSet::new(),
        };
        it.succeeds("down");
        it
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openmcp"));
        command.args(words).args(["--name", &self.name]);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        command
    }

    fn dev(&self, subcommand: &str) -> Command {
        let mut command = self.command(&["dev", subcommand]);
        if subcommand == "up" {
            command.arg("--kubernetes-only");
        }
        command
    }

    fn succeeds(&self, subcommand: &str) {
        let output = output(self.dev(subcommand)).unwrap();
        assert!(output.status.success(), "dev {subcommand}: {}", said(&output));
    }

    fn up(&mut self) {
        self.succeeds("up");
        self.succeeds("status");
        self.recorded();
    }

    /// What is recorded of it and runs: its own processes, and those of its pods.
    fn recorded(&mut self) -> BTreeMap<String, Process> {
        let mut all = BTreeMap::new();
        for ledger in ["processes.json", "node/processes.json"] {
            let text = fs::read(self.folder.join(ledger)).unwrap_or_else(|_| b"{}".into());
            let recorded: BTreeMap<String, Process> = serde_json::from_slice(&text).unwrap();
            all.extend(recorded.into_iter().filter(|(_, process)| process.runs()));
        }
        self.seen.extend(all.values().cloned());
        all
    }

    /// Waits until a process whose name contains `text` runs.
    fn runs(&mut self, text: &str) -> Process {
        let mut found = None;
        until(&format!("{text} of {} runs", self.name), || {
            let recorded = self.recorded();
            found = recorded
                .into_iter()
                .find(|(name, _)| name.contains(text))
                .map(|(_, it)| it);
            found.is_some()
        });
        found.unwrap()
    }

    fn kill(&mut self, names: &[&str]) {
        let recorded = self.recorded();
        for name in names {
            recorded[*name].kill();
        }
    }

    /// Nothing that was recorded runs, nothing that runs names its folder, and the folder is gone.
    #[track_caller]
    fn nothing_is_left(&self) {
        assert!(!self.folder.exists(), "{} is still there", self.folder.display());
        let running: Vec<_> = self.seen.iter().filter(|process| process.runs()).collect();
        assert!(running.is_empty(), "still running of {}: {running:?}", self.name);
        let folder = format!("{}/", self.folder.display());
        let unrecorded: Vec<_> = command_lines()
            .filter(|(_, line)| line.contains(&folder))
            .collect();
        assert!(unrecorded.is_empty(), "still running: {unrecorded:?}");
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // A panic in a panic would end the process.
        if let Err(error) = output(self.dev("down")) {
            eprintln!("{error}");
        }
    }
}

fn command_lines() -> impl Iterator<Item = (String, String)> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some((entry.file_name().to_string_lossy().into_owned(), line))
    })
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: did not come true");
        thread::sleep(LOOK_EVERY);
    }
}

/// What a command says until it ends; one that does not end in time is killed.
fn output(mut command: Command) -> Result<Output, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|error| format!("{command:?} did not start: {error}"))?;
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    match told.recv_timeout(PATIENCE) {
        Ok(ended) => ended.map_err(|error| format!("{command:?}: {error}")),
        Err(_) => {
            // It may have ended in this moment.
            let _ended = kill(pid, Signal::SIGKILL);
            Err(format!("{command:?} did not end within {} s", PATIENCE.as_secs()))
        }
    }
}

fn ended(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    until("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// A pod that waits, on a platform that is up.
fn add_pod(platform: &Platform) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut last = "no answer".to_owned();
    let added = async {
        let kubeconfig = Kubeconfig::read_from(platform.folder.join("kubeconfigs/admin.yaml")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "default");
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "sleeper"},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": "openmcp/shell:dev", "args": ["-c", "sleep 100000"]},
            ]},
        }))
        .unwrap();
        // Refused until a controller has made the namespace's service account.
        while let Err(refused) = pods.create(&Default::default(), &pod).await {
            last = refused.to_string();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let added = runtime.block_on(async { tokio::time::timeout(PATIENCE, added).await });
    assert!(added.is_ok(), "the pod cannot be added: {last}");
}

#[test]
#[ignore = "needs the programs of a control plane; `cargo verify` runs it"]
fn whatever_was_killed_the_next_up_mends_it_and_the_next_down_ends_the_rest() {
    let mut platform = Platform::new("killed");
    // The command itself, in the middle of its work.
    let mut starting = platform.dev("up").stdout(Stdio::null()).spawn().unwrap();
    platform.runs("etcd");
    starting.kill().unwrap();
    starting.wait().unwrap();
    platform.up();
    add_pod(&platform);
    let pod = platform.runs("sleeper");
    let before = platform.recorded();

    // Kubernetes, and the node, whose pods nobody looks after then.
    let killed = ["etcd", "kube-apiserver", "kube-controller-manager", "node"];
    platform.kill(&killed);
    let status = output(platform.dev("status")).unwrap();
    assert!(!status.status.success());
    for name in killed {
        assert!(said(&status).contains(name), "{name}: {}", said(&status));
    }
    platform.up();
    let after = platform.recorded();
    for (name, process) in before.iter().filter(|(name, _)| !name.contains("sleeper")) {
        let kept = after.get(name) == Some(process);
        assert_eq!(kept, !killed.contains(&name.as_str()), "{name}");
    }
    assert!(!pod.runs(), "the pod's process outlived its node");
    // Kubernetes kept what it knew.
    assert_ne!(platform.runs("sleeper"), pod);

    platform.kill(&["etcd", "hosted-etcd", "kube-scheduler", "node"]);
    platform.succeeds("down");
    platform.nothing_is_left();
}

#[test]
#[ignore = "needs the programs of a control plane; `cargo verify` runs it"]
fn of_two_platforms_side_by_side_one_dies_and_is_taken_down_and_the_other_does_not_notice() {
    let (mut one, mut other) = (Platform::new("one"), Platform::new("other"));
    let starting = [&one, &other].map(|it| it.dev("up").stdout(Stdio::null()).spawn().unwrap());
    for mut up in starting {
        assert!(ended(&mut up).success());
    }
    one.recorded();
    let before = other.recorded();
    let unharmed = |other: &mut Platform| {
        assert_eq!(other.recorded(), before);
        other.succeeds("status");
    };
    unharmed(&mut other);

    one.kill(&["etcd", "kube-apiserver", "node"]);
    unharmed(&mut other);
    one.succeeds("down");
    one.nothing_is_left();
    unharmed(&mut other);
    other.succeeds("down");
    other.nothing_is_left();
}

#[test]
#[ignore = "needs the programs of a control plane and of this repository; `cargo verify` runs it"]
fn ctrl_c_in_the_demo_takes_everything_down_and_is_a_failure() {
    let mut platform = Platform::new("demo");
    // A group of its own is what a terminal sends Ctrl-C to.
    let mut demo = platform
        .command(&["demo"])
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    platform.runs("node");
    killpg(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(!ended(&mut demo).success());
    platform.nothing_is_left();
}
