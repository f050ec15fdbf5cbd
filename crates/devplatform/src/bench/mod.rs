//! `openmcp bench`: what the runtime costs, by the experiments of the performance plan, on the machine of whoever
//! asks. A program, not a test: it prints figures beside goals and never fails for a slow machine.
//!
//! Owns the experiments and how they are measured: times are taken from watch events, requests from the API
//! server's audit log, CPU and memory from `/proc`. Must not know how the runtime works: what is measured is a provider
//! process, looked at from outside.
mod arrivals;
mod audit;
mod bare;
mod blackhole;
mod breakage;
mod experiments;
mod fleet;
mod granter;
mod progress;
mod report;
mod site;
mod stats;
mod subject;
mod tenants;
mod usage;
mod witness;

use crate::{
    assets::{Assets, Tool},
    dev,
    prerequisites::own_program,
    state::{Home, Platform, parse_name, private_folder, write_private},
};
use anyhow::{Context, Result, bail};
use audit::Requests;
use clap::Args;
use experiments::Experiment;
use fleet::Fleet;
use granter::Granter;
use openmcp_api::clusters::purpose;
use progress::Progress;
use report::{About, Report, Row};
use site::{PROVIDER, Site};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use subject::Subject;
use usage::Cores;

/// What `openmcp bench --help` ends with.
const READING: &str = "\
How to read it: `goal` is what the project promises itself on two quiet cores. `load` is the machine's load average
when the figure was taken, `stolen` the share of a virtual machine that its host gave to others during the experiment:
with much of either, times mean little, while counted requests stay true. Repairs are given once more for the quiet
rounds among them, if there were others. Comparisons (experiment 11) are taken in turns within one run, so that a noisy
machine is noisy for both.

Examples:
  openmcp bench                                 everything, with 1,000 service objects
  openmcp bench 1 4 6 8 --objects 10000         what has goals at that size: drift, memory, restart, fan-out
  openmcp bench --objects 10000 --json b.json   everything, for machines too; what does not depend on the number of
                                                objects is taken with 1,000 of them at most
  RUST_LOG=info openmcp bench 3 --keep          leaves the servers and logs to look at; end them by
                                                `openmcp dev down --name bench`

Measure what is shipped: cargo build --profile dist --bin openmcp --bin service-provider-configmaps
                         target/dist/openmcp bench";

/// Measure what a provider costs on this machine: time, requests, memory, CPU.
///
/// Starts etcd and one kube-apiserver, which plays the platform, the onboarding cluster and the ControlPlane of every
/// tenant; a fake cluster provider grants every request. The provider beside it is a real one: each service object
/// of it is five ConfigMaps. Everything is removed at the end.
#[derive(Args)]
#[command(after_help = READING)]
pub(crate) struct Bench {
    /// Which experiments; all by default.
    #[arg(value_enum, value_name = "EXPERIMENT")]
    experiments: Vec<Experiment>,
    /// Service objects at rest in the experiments of scale.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(200..=100_000))]
    objects: u32,
    /// ConfigMaps of each service object.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    children: u32,
    /// Also writes all figures, with their samples, to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What has not begun after so many minutes is left out, what still runs is cut off.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    time_limit: u64,
    /// Leave servers, provider and logs as they are at the end.
    #[arg(long)]
    keep: bool,
    /// The name under which the servers run; whatever runs under it is replaced.
    #[arg(long, default_value = "bench", value_parser = parse_name)]
    name: String,
}

/// Measures. The servers are ended whatever happens, unless they shall be kept.
pub(crate) fn run(options: &Bench) -> Result<()> {
    let home = Home::from_env()?;
    let program = provider_program()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(&home, options, &program) => measured,
            signal = dev::interruption() => {
                signal?;
                dev::abandon(&home);
                Err(anyhow::anyhow!("interrupted; cleaning up"))
            }
        }
    });
    if !options.keep {
        runtime.block_on(dev::down(&home, &options.name))?;
    }
    runtime.shutdown_background();
    measured
}

/// The provider that is measured is built with this program.
fn provider_program() -> Result<PathBuf> {
    let program = own_program()?.with_file_name("service-provider-configmaps");
    if !program.is_file() {
        bail!(
            "{} is not there: `cargo build --workspace --bins` builds it",
            program.display()
        );
    }
    Ok(program)
}

/// Beginning and end of a message: an API server's answer may be quoted several times over, and last words come last.
fn short(message: &str) -> String {
    const HEAD: usize = 100;
    const TAIL: usize = 200;
    let count = message.chars().count();
    if count <= HEAD + TAIL {
        return message.to_owned();
    }
    let head: String = message.chars().take(HEAD).collect();
    let tail: String = message.chars().skip(count - TAIL).collect();
    format!("{head} … {tail}")
}

/// The profile that a program was built with: the folder in which cargo has put it.
fn profile(program: &Path) -> String {
    let folder = program.parent().and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

async fn measure(home: &Home, options: &Bench, program: &Path) -> Result<()> {
    dev::down(home, &options.name).await?;
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        build: profile(program),
        kubernetes: Tool::KubeApiserver.version(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_before: usage::load(),
        children: options.children as usize,
    };
    let (assets, platform) = {
        let (home, name) = (home.clone(), options.name.clone());
        tokio::task::spawn_blocking(move || prepare(&home, &name)).await??
    };
    let mut stage = Stage::set(&platform, &assets, options, program).await?;
    let end = Instant::now() + Duration::from_secs(60 * options.time_limit);
    let wanted =
        |experiment: &Experiment| options.experiments.is_empty() || options.experiments.contains(experiment);
    for (experiment, size) in experiments::schedule(options.objects as usize) {
        if wanted(&experiment) {
            stage.perform(experiment, size, end).await;
        }
    }
    stage.progress.finish();
    let report = Report {
        about,
        rows: stage.rows,
    };
    writeln!(io::stdout(), "\n{report}")?;
    if let Some(path) = &options.json {
        write_private(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

fn prepare(home: &Home, name: &str) -> Result<(Assets, Platform)> {
    let assets = Assets::from_env(home);
    private_folder(&home.state)?;
    assets.ensure(&site::TOOLS)?;
    let _lock = Platform::lock(home, name)?;
    Ok((assets, Platform::find_or_create(home, name)?))
}

/// From the end of work to the last Event of it.
const CALM: Duration = Duration::from_secs(3);

/// Everything that an experiment works with.
struct Stage<'a> {
    site: Site<'a>,
    subject: Subject,
    fleet: Fleet,
    granter: Granter,
    progress: Progress,
    children: usize,
    /// Service objects and resident bytes where memory was measured first.
    smallest: Option<(usize, u64)>,
    /// When the experiment began.
    began: Cores,
    rows: Vec<Row>,
}

impl<'a> Stage<'a> {
    async fn set(
        platform: &'a Platform,
        assets: &'a Assets,
        options: &Bench,
        program: &Path,
    ) -> Result<Self> {
        let mut site = Site::start(platform, assets).await?;
        let granter = Granter::start(site.client.clone());
        let kubeconfig = site.kubeconfig(PROVIDER).await?;
        granter
            .add_cluster(purpose::ONBOARDING, "Shared", &kubeconfig)
            .await?;
        granter.add_cluster(purpose::MCP, "Shared", &kubeconfig).await?;
        let mut subject = Subject::install(&mut site, program, options.children as usize).await?;
        let mut fleet = Fleet::found(&site.client).await?;
        subject.start(&mut site)?;
        subject.ready(&site).await?;
        let progress = Progress::new();
        // The first order opens the connection to the ControlPlane.
        fleet.grow_to(1, &progress).await?;
        Ok(Self {
            site,
            subject,
            fleet,
            granter,
            progress,
            children: options.children as usize,
            smallest: None,
            began: Cores::now(),
            rows: Vec::new(),
        })
    }

    /// One experiment. What goes wrong in it is said, and ends only it.
    async fn perform(&mut self, experiment: Experiment, size: usize, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.progress
                .say(&format!("{}: left out, the time is over", experiment.title()));
            return;
        }
        self.progress
            .say(&format!("{}, {size} objects", experiment.title()));
        self.began = Cores::now();
        let performed = tokio::time::timeout(left, experiments::perform(self, experiment, size)).await;
        let problem = match performed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => short(&format!("{error:#}")),
            Err(_elapsed) => "cut off: the time is over".to_owned(),
        };
        self.note(Row::new(experiment.number(), "not measured", f64::NAN, "").note(problem));
    }

    /// Notes a figure and shows it.
    fn note(&mut self, row: Row) {
        self.progress.say(&row.line());
        self.rows.push(row.stolen(Cores::now().stolen_since(self.began)));
    }

    /// What the provider requests while something is done, and until it has come to rest after it.
    async fn requests_of(&self, doing: impl Future<Output = Result<()>>) -> Result<Requests> {
        self.rest().await?;
        // Events are written when nothing else is waited for: those of what was done before.
        tokio::time::sleep(CALM).await;
        self.site.audit.clear()?;
        let mark = self.site.audit.mark();
        doing.await?;
        self.rest().await?;
        self.site.audit.since(mark, &PROVIDER.user())
    }

    /// Waits until the provider has nothing to do.
    async fn rest(&self) -> Result<()> {
        let (quiet, patience) = (Duration::from_millis(700), Duration::from_secs(120));
        self.subject.settled(0, quiet, patience).await.map(drop)
    }
}
