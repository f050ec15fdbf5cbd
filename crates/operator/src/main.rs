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
use cli::{Cli, Command};
use openmcp_reconcile::log::{Format, Log};
use std::process::ExitCode;

// Watches decode and drop many objects: glibc's allocator fragments under that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbosity = match &cli.command {
        Command::Init(common) => common.verbosity,
        Command::Run(run) => run.common.verbosity,
    };
    let log = match Log::start(verbosity.filter(), Format::Text, "openmcp-operator") {
        Ok(log) => log,
        Err(fault) => {
            eprintln!("error: {fault}");
            return ExitCode::FAILURE;
        }
    };
    let result = execute(cli.command);
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    log.end();
    ExitCode::from(u8::from(result.is_err()))
}

fn execute(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match command {
            Command::Init(common) => init::init(&common).await,
            Command::Run(run) => run::run(run).await,
        }
    })
}
