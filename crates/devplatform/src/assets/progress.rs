//! What a person sees while a program is built: a bar on a terminal, plain lines elsewhere.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// How often a log without a terminal gets a line.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// One program's build.
pub(super) struct Progress {
    name: &'static str,
    estimate: Duration,
    started: Instant,
    bar: Option<ProgressBar>,
    next_line: Duration,
}

impl Progress {
    pub(super) fn start(name: &'static str, estimate: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(estimate.as_secs()), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("    {prefix:24} [{bar:30}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.with_prefix(name)
        });
        let progress = Self {
            name,
            estimate,
            started: Instant::now(),
            bar,
            next_line: LINE_EVERY,
        };
        if progress.bar.is_none() {
            say!("    {name}: building, about {}", words(estimate));
        }
        progress
    }

    /// Renews the picture.
    pub(super) fn tick(&mut self) {
        let elapsed = self.started.elapsed();
        match &self.bar {
            Some(bar) => {
                // The estimate is no promise: the bar waits before its end.
                bar.set_position(elapsed.as_secs().min(self.estimate.as_secs().saturating_sub(1)));
                bar.set_message(format!("{} of about {}", words(elapsed), words(self.estimate)));
            }
            None if elapsed >= self.next_line => {
                self.next_line += LINE_EVERY;
                say!(
                    "    {}: {} of about {}",
                    self.name,
                    words(elapsed),
                    words(self.estimate)
                );
            }
            None => {}
        }
    }

    pub(super) fn done(&self) {
        self.end("built");
    }

    pub(super) fn failed(&self) {
        self.end("failed");
    }

    fn end(&self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        say!(
            "    {}: {outcome} after {}",
            self.name,
            words(self.started.elapsed())
        );
    }
}

/// A duration as a person says it.
pub(super) fn words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_minutes_and_seconds() {
        assert_eq!(words(Duration::from_secs(7)), "7 s");
        assert_eq!(words(Duration::from_secs(545)), "9 min 05 s");
    }
}
