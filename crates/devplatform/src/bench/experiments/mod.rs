//! The experiments, one file each, by the numbers of the performance plan.
mod churn;
mod cpu;
mod drift;
mod failover;
mod fanout;
mod memory;
mod noise;
mod orders;
mod requests;
mod restart;

use super::Stage;
use anyhow::Result;
use clap::ValueEnum;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Experiment {
    /// Drift: from the break of a child to its repair, at rest and beside noisy and dead tenants.
    #[value(name = "1", alias = "drift")]
    Drift,
    /// Requests of reconciles that have nothing to do, and of a minute in which nothing happens.
    #[value(name = "2", alias = "noop")]
    Noop,
    /// Requests of a service object's life: order, change, deletion.
    #[value(name = "3", alias = "life")]
    Life,
    /// Memory at rest, at a start, and when every watch has to list again.
    #[value(name = "4", alias = "memory")]
    Memory,
    /// CPU time of a thousand reconciles.
    #[value(name = "5", alias = "cpu")]
    Cpu,
    /// A kill and a start: requests, writes, and how long new orders wait.
    #[value(name = "6", alias = "restart")]
    Restart,
    /// Two replicas: the leader is killed, stopped, and ended; what it writes when it goes on.
    #[value(name = "7", alias = "failover")]
    FailOver,
    /// A change of the ProviderConfig that concerns everything.
    #[value(name = "8", alias = "fanout")]
    FanOut,
    /// 200 API servers of tenants that come and go, and tokens that are rotated: what is left in the provider.
    #[value(name = "9", alias = "churn")]
    Churn,
    /// Repairs beside one tenant with 500 events a second and one whose API server is dead.
    #[value(name = "10", alias = "neighbour")]
    Neighbour,
    /// Many orders at once, beside a bare client that does the same writes.
    #[value(name = "11", alias = "orders")]
    Orders,
}

impl Experiment {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Drift => 1,
            Self::Noop => 2,
            Self::Life => 3,
            Self::Memory => 4,
            Self::Cpu => 5,
            Self::Restart => 6,
            Self::FailOver => 7,
            Self::FanOut => 8,
            Self::Churn => 9,
            Self::Neighbour => 10,
            Self::Orders => 11,
        }
    }

    pub(super) fn title(self) -> String {
        let what = match self {
            Self::Drift => "repair of drift",
            Self::Noop => "requests for nothing",
            Self::Life => "requests of a life",
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Restart => "restart",
            Self::FailOver => "fail-over",
            Self::FanOut => "change of the ProviderConfig",
            Self::Churn => "cluster churn",
            Self::Neighbour => "noisy neighbour",
            Self::Orders => "orders at once",
        };
        format!("{:>2}. {what}", self.number())
    }
}

/// All experiments with the number of service objects at rest that each is taken at, the small ones first: the fleet
/// only grows.
pub(super) fn schedule(objects: usize) -> Vec<(Experiment, usize)> {
    use Experiment::{Churn, Cpu, Drift, FailOver, FanOut, Life, Memory, Neighbour, Noop, Orders, Restart};
    let thousand = objects.min(1000);
    let small = [(Memory, 1), (Life, 1), (Drift, 1)];
    let middle = [Noop, Cpu, Drift, FailOver, Neighbour, Churn].map(|it| (it, thousand));
    // It leaves many objects, so it is taken where they are needed anyway.
    let orders = (Orders, thousand);
    // The last one ends the API server, which is slow for a while after it.
    let large = [Drift, Restart, FanOut, Memory].map(|it| (it, objects));
    let large = large.into_iter().filter(|it| !middle.contains(it));
    let all = small.into_iter().chain(middle);
    if objects >= thousand + orders::PLACED {
        all.chain([orders]).chain(large).collect()
    } else {
        all.chain(large).chain([orders]).collect()
    }
}

/// Takes one experiment.
pub(super) async fn perform(stage: &mut Stage<'_>, experiment: Experiment, size: usize) -> Result<()> {
    if let Some(placed) = stage.fleet.grow_to(size, &stage.progress).await? {
        let rate = placed.latencies.len() as f64 / placed.took.as_secs_f64();
        stage.progress.say(&format!(
            "{} more objects became Ready, {rate:.0} a second; the API server has {} MiB",
            placed.latencies.len(),
            stage.site.api_server_memory() >> 20
        ));
        stage.rest().await?;
    }
    match experiment {
        Experiment::Drift => {
            drift::perform(stage).await?;
            match size {
                noise::FROM.. => noise::flapping(stage).await,
                _ => Ok(()),
            }
        }
        Experiment::Noop => requests::noop(stage).await,
        Experiment::Life => requests::life(stage).await,
        Experiment::Memory => memory::perform(stage).await,
        Experiment::Cpu => cpu::perform(stage).await,
        Experiment::Restart => restart::perform(stage).await,
        Experiment::Churn => churn::perform(stage).await,
        Experiment::FailOver => failover::perform(stage).await,
        Experiment::FanOut => fanout::perform(stage).await,
        Experiment::Neighbour => noise::neighbour(stage).await,
        Experiment::Orders => orders::perform(stage).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_only_grows_and_every_experiment_is_taken() {
        for objects in [200, 1000, 10_000] {
            let schedule = schedule(objects);
            assert!(schedule.is_sorted_by_key(|(_, size)| *size) || objects < 1000 + orders::PLACED);
            for experiment in Experiment::value_variants() {
                assert!(schedule.iter().any(|(it, _)| it == experiment), "{experiment:?}");
            }
        }
    }
}
