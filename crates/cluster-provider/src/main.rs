//! `cluster-provider-hosted`: a ClusterProvider whose Clusters are hosted control planes (profile `hosted`: a
//! kube-apiserver and a kube-controller-manager as pods of the platform cluster) or the platform cluster itself
//! (profile `host`). `init` publishes the profiles, `run` serves Clusters and AccessRequests.
mod access;
mod apply;
mod cli;
mod cluster;
mod context;
mod drift;
mod etcd;
mod finalizer;
mod init;
mod kubeconfig;
mod names;
mod run;

use clap::Parser;
use openmcp_reconcile::log::{Format, Log};
use std::process::ExitCode;

// Decoding watch events fragments glibc's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let common = cli.common();
    let log = match Log::start(common.verbosity.level(), Format::Text, &common.provider_name) {
        Ok(log) => log,
        Err(fault) => {
            eprintln!("error: {fault}");
            return ExitCode::FAILURE;
        }
    };
    tracing::debug!(
        environment = common.environment,
        provider = common.provider_name,
        "starting"
    );
    let result = execute(&cli.command);
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    log.end();
    ExitCode::from(u8::from(result.is_err()))
}

fn execute(command: &cli::Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match command {
            cli::Command::Init(common) => init::init(common).await,
            cli::Command::Run(arguments) => run::run(arguments).await,
        }
    })
}
