//! The openMCP operator. The rooms:
//!
//! | room | owns |
//! |---|---|
//! | `config` | the configuration file |
//! | `platform` | what was last seen on the platform cluster, and whom a change wakes |
//! | `install` | installing and uninstalling providers |
//! | `schedule` | ClusterRequest → Cluster |
//! | `access` | AccessRequest → its ClusterProvider |
//! | `onboarding` | the operator's own way to a usable onboarding cluster |
//! | `controlplane` | ControlPlane → cluster, accesses, users' kubeconfigs |
//!
//! `init` and `run` are the two parts that a pod is started as; `run` wires the rooms together.
mod access;
mod cli;
mod config;
mod controlplane;
mod crds;
mod ensure;
mod init;
mod install;
mod meta;
mod onboarding;
mod platform;
mod report;
#[cfg(test)]
mod rig;
mod run;
mod schedule;

use clap::Parser;
use cli::{Cli, Command, Verbosity};
use std::process::ExitCode;

// Watches decode and drop many objects: glibc's allocator fragments under that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Init(common) => {
            log(common.verbosity);
            init::init(&common).await
        }
        Command::Run(run) => {
            log(run.common.verbosity);
            run::run(run).await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr, as text. `RUST_LOG` overrides the verbosity.
fn log(verbosity: Verbosity) {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| verbosity.filter().into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
