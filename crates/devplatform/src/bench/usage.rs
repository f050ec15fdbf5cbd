//! What a process costs, read from `/proc`.
use anyhow::{Context, Result};
use std::{fs, time::Duration};

/// USER_HZ, which is 100 wherever this program is built.
const TICK: Duration = Duration::from_millis(10);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// Resident, shared pages divided among those who share them.
    pub(super) proportional: u64,
    /// The highest that `resident` has been since [`forget_peak`].
    pub(super) peak: u64,
}

/// Memory now.
pub(super) fn memory(pid: i32) -> Result<Memory> {
    let rollup = read(pid, "smaps_rollup")?;
    let status = read(pid, "status")?;
    Ok(Memory {
        resident: kib(&rollup, "Rss:")?,
        proportional: kib(&rollup, "Pss:")?,
        peak: kib(&status, "VmHWM:")?,
    })
}

/// Open file descriptors: connections, mostly.
pub(super) fn descriptors(pid: i32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path);
    Ok(entries
        .with_context(|| format!("cannot read {path}: has the process ended?"))?
        .count())
}

/// Lets the peak begin at what is resident now.
pub(super) fn forget_peak(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// User and system time so far, at a resolution of 10 ms.
pub(super) fn cpu(pid: i32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    let field = |index: usize| after_name.split_whitespace().nth(index)?.parse::<u32>().ok();
    // Fields 14 and 15; the state, which is the first after the name, is field 3.
    match (field(11), field(12)) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => anyhow::bail!("/proc/{pid}/stat is not as expected"),
    }
}

/// What else runs on this machine: the load average of the last minute.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or_default()
}

/// Time of all cores since the machine started, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cores {
    all: u64,
    /// The machine is virtual, and its host gave this time to somebody else.
    stolen: u64,
}

impl Cores {
    /// Until now.
    pub(super) fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let fields = line.split_whitespace().skip(1);
        // User, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice.
        let fields: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        Self {
            all: fields.iter().sum(),
            stolen: fields.get(7).copied().unwrap_or_default(),
        }
    }

    /// The share that the host has taken away since `earlier`, 0 to 1.
    pub(super) fn stolen_since(self, earlier: Self) -> f64 {
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        stolen as f64 / self.all.saturating_sub(earlier.all).max(1) as f64
    }
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the process ended?"))
}

fn kib(text: &str, field: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("no field {field}"))? * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_host_took_is_a_share_of_all_cores() {
        let earlier = Cores::parse("cpu  100 0 50 800 10 0 0 40 7 0\ncpu0 1 1\n");
        let later = Cores::parse("cpu  150 0 60 830 10 0 0 50 9 0\n");
        assert_eq!(later.stolen_since(earlier), 0.1);
        assert_eq!(Cores::parse("").stolen_since(earlier), 0.0);
        assert!(Cores::now().all > 0);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let me = i32::try_from(std::process::id()).unwrap();
        let memory = memory(me).unwrap();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident / 2);
        assert!(memory.proportional <= memory.resident);
        assert!(descriptors(me).unwrap() > 2);
        assert!(cpu(me).unwrap() < Duration::from_secs(3600));
    }
}
