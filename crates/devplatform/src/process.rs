//! Processes that outlive the command that started them: recorded, verified, ended.
//!
//! A process is known by pid **and** start time (and the boot in which both count), never by name: a recycled pid
//! is somebody else's process and is left alone. A [`Ledger`] is the file that remembers them. It knows nothing
//! of what the processes are for.
mod ledger;

pub(crate) use ledger::{Ledger, gated, reap};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{fs, time::Duration};

/// The unit of times in `/proc`: USER_HZ, which is 100 wherever this program is built.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process: a pid is only meaningful together with the time at which the process started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    /// The process id.
    pub(crate) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`: ticks of another boot mean nothing.
    pub(crate) boot: String,
}

impl Process {
    /// The process that has this pid now; `None` when there is none (a zombie has ended, it only waits to be read).
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.ended).then(|| Self {
            pid,
            start_ticks: stat.start_ticks,
            boot: boot_id(),
        })
    }

    /// True while this very process runs.
    pub(crate) fn is_running(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// True when nothing of this very process is left that could hold a port or a file. A process that is being
    /// killed no longer runs before that: its first thread ends before the others do.
    pub(crate) fn has_ended(&self) -> bool {
        Stat::read(self.pid).is_none_or(|stat| {
            stat.start_ticks != self.start_ticks
                || boot_id() != self.boot
                || (stat.ended && stat.threads <= 1)
        })
    }

    /// Sends a signal if this very process still runs; a process that is gone is not an error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if self.has_ended() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Resident memory in bytes; 0 once the process has ended.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let kib = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .ok()
            .and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            });
        kib.unwrap_or(0) * 1024
    }

    /// How long the process has been running.
    pub(crate) fn uptime(&self) -> Duration {
        let since_boot = fs::read_to_string("/proc/uptime")
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or(0.0);
        Duration::from_secs_f64((since_boot - self.start_ticks as f64 / TICKS_PER_SECOND).max(0.0))
    }
}

/// The fields of `/proc/<pid>/stat` that identity needs.
struct Stat {
    /// The first thread has ended.
    ended: bool,
    threads: u32,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name stands in parentheses and may hold blanks and parentheses itself: fields count from the
    /// last closing one.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X" | "x");
        let threads = fields.nth(16)?.parse().ok()?;
        Some(Self {
            ended,
            threads,
            start_ticks: fields.nth(1)?.parse().ok()?,
        })
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stat_is_read_past_a_command_name_with_blanks_and_parentheses() {
        let stat = Stat::parse("7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0").unwrap();
        assert_eq!((stat.ended, stat.threads, stat.start_ticks), (false, 1, 4711));
        assert!(
            Stat::parse("7 (gone) Z 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 1 0 0")
                .unwrap()
                .ended
        );
    }

    #[test]
    fn uptime_and_memory_of_this_process_are_plausible() {
        let me = Process::find(std::process::id() as i32).unwrap();
        assert!(me.is_running());
        assert!(me.resident_bytes() > 100_000);
        assert!(me.uptime() < Duration::from_secs(3600));
    }
}
