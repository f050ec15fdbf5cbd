//! The lines that a person reads.
use std::{
    env, fmt,
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

/// This program as a person would type it here.
pub(crate) fn this_program() -> String {
    let typed = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let here = env::current_dir().unwrap_or_default();
    let short = typed.strip_prefix(&here).unwrap_or(&typed);
    short.display().to_string()
}

/// A line about what goes on; `println!`, but for what it does when the reader has left (`| head`): nothing, since what was
/// begun goes on.
macro_rules! say {
    () => { say!("") };
    ($($line:tt)*) => { $crate::console::tell(format_args!($($line)*)) };
}

/// See `say!`.
pub(crate) fn tell(line: fmt::Arguments<'_>) {
    let _nobody_reads = writeln!(io::stdout(), "{line}");
}

/// A list of steps, each printed when it is done, with the time that it took.
pub(crate) struct Steps {
    started: Instant,
}

impl Steps {
    /// Prints the heading.
    pub(crate) fn begin(heading: &str) -> Self {
        say!("{heading}");
        Self {
            started: Instant::now(),
        }
    }

    /// One step is done.
    pub(crate) fn done(&self, what: &str, detail: &str, since: Instant) {
        let line = format!("  ✓ {what:<26} {:>7}  {detail}", seconds(since.elapsed()));
        say!("{}", line.trim_end());
    }

    /// Time since the heading.
    pub(crate) fn elapsed(&self) -> String {
        seconds(self.started.elapsed())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
