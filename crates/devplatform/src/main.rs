//! `openmcp`: what a person runs. The command line only; each subcommand is a room of its own.
#[macro_use]
mod console;

mod assets;
mod bench;
mod control_plane;
mod demo;
mod dev;
mod images;
mod kubeconfig;
mod node;
mod openmcp;
mod pki;
mod prerequisites;
mod process;
mod state;

use clap::{Parser, Subcommand};
use std::{io, path::PathBuf, process::ExitCode};

/// openMCP on your machine: a local platform of real processes.
#[derive(Parser)]
#[command(name = "openmcp", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Dev(dev::Dev),
    /// Watch the product do its main job on a local platform, step by step.
    ///
    /// A platform owner offers a service, a tenant orders and uses it, somebody breaks it and it is repaired, all is
    /// deleted. Each step shows the kubectl command, as whom, what came of it and how long it took; one that is not
    /// as told ends the demo with an error.
    Demo(demo::Demo),
    Bench(bench::Bench),
    /// Run the process node of a local platform (`dev up` starts it).
    #[command(hide = true)]
    Node {
        /// The platform's state folder, which holds node.json.
        #[arg(long)]
        state: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Dev(command) => dev::run(command),
        Command::Demo(demo) => demo::run(&demo),
        Command::Bench(bench) => bench::run(&bench),
        Command::Node { state } => dev::node_config(&state).and_then(node::run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_reader_gone) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Of what was printed: `openmcp dev status | head -1`.
fn is_reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
