//! What a person sees meanwhile: a line for each thing that is done, and on a terminal a bar for what goes on.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Instant;

/// See the module.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("  {msg} {pos}/{len} {wide_bar} {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar,
            began: Instant::now(),
        }
    }

    /// Something with so many steps begins.
    pub(super) fn begin(&self, what: &str, steps: usize) {
        self.bar.reset();
        self.bar.set_length(steps as u64);
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() {
            self.say(&format!("{what}: {steps}"));
        }
    }

    /// One step is done.
    pub(super) fn step(&self) {
        self.bar.inc(1);
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        let line = format!("  [{:>6.1} s] {line}", self.began.elapsed().as_secs_f64());
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
