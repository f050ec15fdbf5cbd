//! How the story is told: who runs which kubectl command, what it printed, how long it took.
//!
//! Knows kubectl and the terminal; knows nothing of the story.
use anyhow::{Context, Result, bail};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// Somebody with an own kubeconfig.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) kubeconfig: PathBuf,
}

/// Where the story is told.
pub(super) struct Stage {
    kubectl: PathBuf,
    /// kubectl runs here, so that the `examples/…` paths that are printed can be typed as they stand.
    folder: PathBuf,
    color: bool,
    began: Instant,
    chapter: std::cell::Cell<u32>,
}

/// How long anything in the story may take before the demo says that it is not as told.
const PATIENCE: Duration = Duration::from_secs(120);

impl Stage {
    pub(super) fn new(kubectl: PathBuf, folder: PathBuf) -> Self {
        let color = std::io::stdout().is_terminal();
        Self {
            kubectl,
            folder,
            color,
            began: Instant::now(),
            chapter: std::cell::Cell::new(0),
        }
    }

    /// A heading.
    pub(super) fn chapter(&self, title: &str) {
        self.chapter.set(self.chapter.get() + 1);
        let heading = format!("{}. {title}", self.chapter.get());
        say!(
            "\n{}   {}",
            self.bold(&heading),
            self.dim(&format!("[{:.1} s]", self.elapsed()))
        );
    }

    /// A sentence that explains what comes.
    pub(super) fn say(&self, text: &str) {
        say!("   {text}");
    }

    /// Seconds since the story began.
    pub(super) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Runs kubectl as `who`, prints the command, its output and the time; an error is not as told.
    pub(super) async fn kubectl(&self, who: &Person, arguments: &[&str]) -> Result<String> {
        self.announce(who, arguments);
        let started = Instant::now();
        let (success, output) = self.quietly(who, arguments).await?;
        self.show(&output, started.elapsed());
        if !success {
            bail!(
                "`kubectl {}` as {} failed, which is not as told",
                arguments.join(" "),
                who.name
            );
        }
        Ok(output)
    }

    /// Runs a kubectl command that must be refused with `why` in its message.
    pub(super) async fn refused(&self, who: &Person, arguments: &[&str], why: &str) -> Result<()> {
        self.announce(who, arguments);
        let started = Instant::now();
        let (success, output) = self.quietly(who, arguments).await?;
        self.show(&output, started.elapsed());
        if success || !output.contains(why) {
            bail!(
                "`kubectl {}` as {} had to be refused ({why})",
                arguments.join(" "),
                who.name
            );
        }
        Ok(())
    }

    /// Runs kubectl and shows and returns only the lines that contain one of the words.
    pub(super) async fn grep(&self, who: &Person, arguments: &[&str], words: &[&str]) -> Result<Vec<String>> {
        let started = Instant::now();
        let (success, output) = self.quietly(who, arguments).await?;
        self.announce(who, &[arguments, &["|", "grep", "-E", &words.join("|")]].concat());
        if !success {
            bail!(
                "`kubectl {}` as {}: {}",
                arguments.join(" "),
                who.name,
                output.trim()
            );
        }
        let found: Vec<String> = output
            .lines()
            .filter(|line| words.iter().any(|word| line.contains(word)))
            .map(str::to_string)
            .collect();
        self.show(
            if found.is_empty() {
                "(nothing)".to_string()
            } else {
                found.join("\n")
            }
            .as_str(),
            started.elapsed(),
        );
        Ok(found)
    }

    /// Waits with `kubectl wait`; prints the time, and what `tell` (a jsonpath) shows afterwards.
    pub(super) async fn wait(
        &self,
        who: &Person,
        target: &[&str],
        condition: &str,
        tell: &str,
    ) -> Result<()> {
        let condition = format!("--for={condition}");
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let arguments: Vec<&str> = ["wait"]
            .iter()
            .chain(target)
            .copied()
            .chain([condition.as_str(), timeout.as_str()])
            .collect();
        self.announce(who, &arguments[..arguments.len() - 1]);
        let started = Instant::now();
        let (success, output) = self.quietly(who, &arguments).await?;
        if !success {
            let (_, now) = self
                .quietly(who, &[&["get"], target, &["-o", "yaml"]].concat())
                .await?;
            say!("{now}");
            bail!(
                "`kubectl {}` as {}: {}",
                arguments.join(" "),
                who.name,
                output.trim()
            );
        }
        let took = started.elapsed();
        let told = match tell {
            "" => output,
            jsonpath => self.read(who, target, jsonpath).await?,
        };
        self.show(&told, took);
        Ok(())
    }

    /// A value by jsonpath, without telling of it.
    pub(super) async fn read(&self, who: &Person, target: &[&str], jsonpath: &str) -> Result<String> {
        let output = format!("jsonpath={jsonpath}");
        let (success, text) = self
            .quietly(who, &[&["get"], target, &["-o", &output]].concat())
            .await?;
        if !success {
            bail!("reading {} as {}: {}", target.join(" "), who.name, text.trim());
        }
        Ok(text)
    }

    /// Runs kubectl without printing; output and errors together, as a person would see them.
    pub(super) async fn quietly(&self, who: &Person, arguments: &[&str]) -> Result<(bool, String)> {
        let run = tokio::process::Command::new(&self.kubectl)
            .args(arguments)
            .env("KUBECONFIG", &who.kubeconfig)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE + Duration::from_secs(5), run)
            .await
            .with_context(|| format!("`kubectl {}` did not end", arguments.join(" ")))??;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    /// Prints what happened and how long it took.
    pub(super) fn show(&self, output: &str, took: Duration) {
        let mut lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.len() > 14 {
            lines.truncate(14);
            lines.push("…");
        }
        let took = self.dim(&format!("({})", human(took)));
        match lines.split_last() {
            None => say!("       {took}"),
            Some((last, before)) => {
                for line in before {
                    say!("       {line}");
                }
                say!("       {last}  {took}");
            }
        }
    }

    fn announce(&self, who: &Person, arguments: &[&str]) {
        let shown: Vec<String> = arguments
            .iter()
            .map(|a| {
                if a.len() > 1 && a.contains([' ', '{', '[', '|', '\'', '"']) {
                    format!("'{a}'")
                } else {
                    (*a).to_string()
                }
            })
            .collect();
        say!(
            "   {:<17}{}",
            format!("{}:", who.name),
            self.bold(&format!("kubectl {}", shown.join(" ")))
        );
    }

    fn bold(&self, text: &str) -> String {
        if self.color {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    fn dim(&self, text: &str) -> String {
        if self.color {
            format!("\x1b[2m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// A duration as people say it: `12 ms`, `3.4 s`.
pub(super) fn human(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// Writes a kubeconfig that only its owner can read.
pub(super) fn keep_kubeconfig(path: &Path, content: &[u8]) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content)
        .with_context(|| format!("cannot write {}", path.display()))
}
