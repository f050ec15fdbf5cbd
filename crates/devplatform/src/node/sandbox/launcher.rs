//! The one thread that spawns. `--die-with-parent` follows the thread that spawned: it has to live as long as the
//! node does, and to die with it. Spawning from one thread alone also makes it safe to let a descriptor be inherited.
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::mpsc,
};
use tokio::{net::unix::pipe, process::Child, runtime::Handle, sync::oneshot};

/// Asks the spawning thread.
pub(in crate::node) struct Launcher {
    requests: mpsc::Sender<Request>,
}

struct Request {
    options: Vec<OsString>,
    argv: Vec<String>,
    reply: oneshot::Sender<io::Result<Launched>>,
}

/// A sandbox that has been spawned; its entry process may not run yet.
pub(in crate::node) struct Launched {
    /// bubblewrap, with standard output and error piped.
    pub(in crate::node) child: Child,
    /// bubblewrap's reports as lines of JSON: first the entry's pid, last its exit code.
    pub(in crate::node) reports: pipe::Receiver,
}

impl Launcher {
    /// Starts the thread. To be called inside the node's runtime.
    pub(in crate::node) fn start() -> io::Result<Self> {
        let bubblewrap = bubblewrap()?;
        let (requests, inbox) = mpsc::channel::<Request>();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                let _inside = runtime.enter();
                for request in inbox {
                    // Nobody waits any more: the dropped child is killed.
                    let _ = request
                        .reply
                        .send(spawn(&bubblewrap, &request.options, &request.argv));
                }
            })?;
        Ok(Self { requests })
    }

    /// Spawns one sandbox.
    pub(in crate::node) async fn launch(
        &self,
        options: Vec<OsString>,
        argv: Vec<String>,
    ) -> io::Result<Launched> {
        let gone = || io::Error::other("the spawning thread has ended");
        let (reply, answer) = oneshot::channel();
        let request = Request { options, argv, reply };
        self.requests.send(request).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// bubblewrap, found once where the node's own PATH has it.
fn bubblewrap() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join("bwrap"))
        .find(|program| program.is_file())
        .ok_or_else(|| io::Error::other("bubblewrap (the program bwrap) is not installed"))
}

fn spawn(bubblewrap: &Path, options: &[OsString], argv: &[String]) -> io::Result<Launched> {
    let (reports, report_to) = io::pipe()?;
    let report_to = OwnedFd::from(report_to);
    let mut list = Vec::new();
    for option in options {
        list.extend_from_slice(option.as_bytes());
        list.push(0);
    }
    let list = in_memory(&list)?;
    inherit(&report_to)?;
    inherit(&list)?;
    let child = tokio::process::Command::new(bubblewrap)
        .args(["--json-status-fd", &report_to.as_raw_fd().to_string()])
        .args(["--args", &list.as_raw_fd().to_string(), "--"])
        .args(argv)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Launched {
        child,
        reports: pipe::Receiver::from_owned_fd(reports.into())?,
    })
}

/// A file that exists in memory only: it may hold Secrets.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("options", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Lets the next spawned process have this descriptor.
fn inherit(descriptor: &impl AsFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}
