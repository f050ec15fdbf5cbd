//! Experiment 1: from the break of one child, seen in a watch, to its repair, seen in the same watch.
use crate::bench::{
    Stage,
    breakage::{Repairs, break_and_watch},
    fleet::Order,
    report::{Goal, Row},
    stats::Samples,
};
use anyhow::Result;

/// Breaks where there are enough children. One that is broken more than five times is left alone for a while.
const BREAKS: usize = 400;
const BREAKS_OF_ONE_CHILD: usize = 4;

/// At rest.
pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    let orders: Vec<Order> = (0..stage.fleet.len()).map(Order::number).collect();
    let breaks = BREAKS.min(orders.len() * stage.children * BREAKS_OF_ONE_CHILD);
    let mut repairs = Repairs::default();
    let requests = stage.requests_of(async {
        repairs = break_and_watch(
            &stage.site.client,
            &orders,
            stage.children,
            breaks,
            &stage.progress,
        )
        .await?;
        Ok(())
    });
    let requests = requests.await?;
    let place = format!("{} objects at rest", orders.len());
    rows(stage, 1, &place, &repairs, Goals::QUIET);
    let each = breaks as u64;
    stage.note(
        Row::new(
            1,
            format!("requests a repair, {place}"),
            requests.total() as f64 / breaks as f64,
            "requests",
        )
        .note(requests.by_column(each)),
    );
    Ok(())
}

/// What a repair may take, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goals {
    p50: Option<f64>,
    p99: f64,
}

impl Goals {
    pub(super) const QUIET: Self = Self {
        p50: Some(10.0),
        p99: 50.0,
    };
    pub(super) const NOISY: Self = Self {
        p50: None,
        p99: 100.0,
    };

    fn median(self, row: Row) -> Row {
        match self.p50 {
            Some(limit) => row.goal(Goal::AtMost(limit)),
            None => row,
        }
    }
}

/// The figures of some repairs.
pub(super) fn rows(stage: &mut Stage<'_>, experiment: u8, place: &str, repairs: &Repairs, goals: Goals) {
    let all = Samples::millis(repairs.all());
    let changed = Samples::millis(repairs.changed.iter().copied());
    let deleted = Samples::millis(repairs.deleted.iter().copied());
    let p50 = Row::new(experiment, format!("repair p50, {place}"), all.median(), "ms").note(format!(
        "{} breaks; changed {:.1}, deleted {:.1}",
        all.len(),
        changed.median(),
        deleted.median()
    ));
    stage.note(goals.median(p50));
    let p99 = |place: &str, samples: &Samples| {
        Row::new(
            experiment,
            format!("repair p99, {place}"),
            samples.percentile(99),
            "ms",
        )
        .goal(Goal::AtMost(goals.p99))
        .note(format!(
            "p90 {:.1}, max {:.1}",
            samples.percentile(90),
            samples.max()
        ))
        .samples(samples)
    };
    stage.note(p99(place, &all));
    let quiet = Samples::millis(repairs.quiet.iter().copied());
    if (1..all.len()).contains(&quiet.len()) {
        let place = format!("{place}, {} breaks of quiet rounds", quiet.len());
        let p50 = Row::new(experiment, format!("repair p50, {place}"), quiet.median(), "ms");
        stage.note(goals.median(p50));
        stage.note(p99(&place, &quiet));
    }
}
