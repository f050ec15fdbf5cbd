//! What `cargo demo` and `cargo verify` run first. It has no dependencies, so that on a fresh clone it compiles
//! in a second and says what is going to happen before minutes of building begin.
//!
//! Owns: the order build → platform → suites, and the announcement. Must not know how a platform is made: that
//! is the `openmcp` command's.
mod plan;
mod verify;

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

const HELP: &str = "\
Usage: cargo demo [--keep]         watch the product do its main job on a local platform
       cargo verify [--quick]      run every test; --quick leaves out the suites that need a platform

Both build what they need first and say what and how long. Options after the name go to `openmcp demo`,
see `target/debug/openmcp demo --help`.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_deref() {
        Some("demo") => demo(&rest),
        Some("verify") => verify::run_verify(&rest),
        Some("--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("unknown command `{other}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &[String]) -> Result<(), String> {
    if !options.iter().any(|o| o == "--help" || o == "-h") {
        plan::announce("demo", true)?;
    }
    build()?;
    // In place of this program, so that a shell, or whatever began it, waits until Ctrl-C has cleaned up.
    let failed = Command::new(openmcp()).arg("demo").args(options).exec();
    Err(format!("{} did not start: {failed}", openmcp().display()))
}

/// Builds every binary that the platform runs.
fn build() -> Result<(), String> {
    run(cargo().args(["build", "--workspace", "--bins"]))
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace folder.
fn root() -> PathBuf {
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.pop();
    folder
}

/// The folder in which cargo puts this workspace's binaries: that of this program itself.
fn target() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(PathBuf::from))
        .unwrap_or_else(|| root().join("target/debug"))
}

fn openmcp() -> PathBuf {
    target().join("openmcp")
}

/// Runs a command with this terminal, whose Ctrl-C ends both.
fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command
        .status()
        .map_err(|error| format!("`{shown}` did not start: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}
