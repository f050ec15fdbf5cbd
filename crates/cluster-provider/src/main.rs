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
use std::process::ExitCode;

// Decoding watch events fragments glibc's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli.common().init_logging();
    let result = match &cli.command {
        cli::Command::Init(common) => init::init(common).await,
        cli::Command::Run(arguments) => run::run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
