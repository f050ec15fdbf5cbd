//! Experiment 7: two replicas with a lease. The leader is killed, stopped or ended, and a child breaks at once: the time
//! until it is repaired. A stopped one goes on later, and may not write any more.
use crate::bench::{
    CALM, Stage,
    breakage::{break_one, children},
    fleet::Order,
    report::{Goal, Row},
    site::PROVIDER,
    stats::Samples,
    subject::{NAME, Subject},
    witness::{Witness, get},
};
use crate::openmcp::SYSTEM_NAMESPACE;
use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const REPEATS: usize = 5;
const COLD_SECONDS: f64 = 10.0;
const CLEAN_SECONDS: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(120);
/// Work that a leader has when it is stopped.
const CHANGES: usize = 20;
/// For what a process that goes on had in its hands.
const AFTERMATH: Duration = Duration::from_secs(2);

/// By turns, so that a noisy machine is noisy for all.
pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    stage.subject.kill(&mut stage.site)?;
    let mut pair = [
        stage.subject.replica(&format!("{NAME}-a")).await?,
        stage.subject.replica(&format!("{NAME}-b")).await?,
    ];
    let measured = measure(stage, &mut pair).await;
    for replica in &mut pair {
        replica.kill(&mut stage.site)?;
    }
    stage.subject.start(&mut stage.site)?;
    stage.subject.ready(&stage.site).await?;
    stage.rest().await?;
    measured
}

async fn measure(stage: &mut Stage<'_>, pair: &mut [Subject; 2]) -> Result<()> {
    let (mut killed, mut stopped, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let mut late = Vec::new();
    stage.progress.begin("fail-overs", 3 * REPEATS);
    for turn in 0..REPEATS {
        killed.push(fail_over(stage, pair, Signal::SIGKILL, turn).await?.seconds);
        let stop = fail_over(stage, pair, Signal::SIGSTOP, turn).await?;
        stopped.push(stop.seconds);
        late.push(resume(stage, pair, &stop).await?);
        ended.push(fail_over(stage, pair, Signal::SIGTERM, turn).await?.seconds);
    }
    for (what, seconds, goal) in [
        ("SIGKILL of the leader", killed, COLD_SECONDS),
        ("SIGSTOP of the leader", stopped, COLD_SECONDS),
        ("SIGTERM of the leader", ended, CLEAN_SECONDS),
    ] {
        let seconds = Samples::new(seconds);
        let row = Row::new(
            7,
            format!("{what} until the next repair, longest of {REPEATS}"),
            seconds.max(),
            "s",
        );
        let note = format!("median {:.1}, shortest {:.1}", seconds.median(), seconds.min());
        stage.note(row.goal(Goal::AtMost(goal)).note(note).samples(&seconds));
    }
    let writes = late.iter().map(|(writes, _)| *writes).sum::<u64>();
    let sent = late
        .into_iter()
        .map(|(_, sent)| sent)
        .filter(|sent| !sent.is_empty());
    stage.note(
        Row::new(
            7,
            "writes after a stopped leader went on",
            writes as f64,
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(format!(
            "{REPEATS} times; sent by both replicas meanwhile: {}",
            sent.collect::<Vec<_>>().join("; ")
        )),
    );
    Ok(())
}

/// How one went.
struct FailOver {
    seconds: f64,
    /// Its index among the replicas.
    old: usize,
}

async fn fail_over(
    stage: &mut Stage<'_>,
    pair: &mut [Subject; 2],
    how: Signal,
    turn: usize,
) -> Result<FailOver> {
    for replica in pair.iter_mut() {
        if !replica.is_running() {
            replica.start(&mut stage.site)?;
        }
        replica.ready(&stage.site).await?;
    }
    let old = leader(stage, pair).await?;
    pair[old].settled(0, Duration::from_secs(1), PATIENCE).await?;
    let mut witness = Witness::of(&stage.site.client, &children()).await?;
    if how == Signal::SIGSTOP {
        // So that it has something to write when it goes on.
        let patch = json!({"spec": {"first": format!("{turn}")}});
        let orders: Vec<Order> = (1..stage.fleet.len().min(CHANGES)).map(Order::number).collect();
        try_join_all(
            orders
                .iter()
                .map(|order| order.change(&stage.site.client, &patch)),
        )
        .await?;
    }
    let child = Order::number(0).child(0);
    let since = Instant::now();
    pair[old].signal(how)?;
    // A signal takes a moment.
    tokio::time::sleep(Duration::from_millis(50)).await;
    break_one(&stage.site.client, &child, true, turn).await?;
    let mut broken = false;
    let repaired = loop {
        let sight = witness
            .next(PATIENCE)
            .await
            .with_context(|| format!("nobody took over after {how}"))?;
        if sight.object.metadata.name == child {
            if broken && !sight.deleted {
                break sight.at;
            }
            broken |= sight.deleted;
        }
    };
    if leader(stage, pair).await? == old {
        bail!("{} got {how} and still leads", pair[old].name());
    }
    if how != Signal::SIGSTOP {
        pair[old].ended(PATIENCE).await?;
    }
    stage.progress.step();
    let seconds = repaired.duration_since(since).as_secs_f64();
    Ok(FailOver { seconds, old })
}

/// A stopped leader goes on. Returns what was written from then on, and all that was sent.
async fn resume(stage: &mut Stage<'_>, pair: &mut [Subject; 2], stop: &FailOver) -> Result<(u64, String)> {
    let new = 1 - stop.old;
    pair[new].settled(0, Duration::from_secs(1), PATIENCE).await?;
    tokio::time::sleep(CALM).await;
    let mark = stage.site.audit.mark();
    pair[stop.old].signal(Signal::SIGCONT)?;
    tokio::time::sleep(AFTERMATH).await;
    // It stands by now.
    pair[stop.old].ready(&stage.site).await?;
    let sent = stage.site.audit.since(mark, &PROVIDER.user())?;
    // The new leader renews its lease.
    let of_lease = sent.about("leases");
    Ok((sent.writes().saturating_sub(of_lease), sent.by_verb()))
}

/// Which of the two leads.
async fn leader(stage: &Stage<'_>, pair: &[Subject; 2]) -> Result<usize> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/sp-{NAME}");
    let end = Instant::now() + PATIENCE;
    loop {
        let lease = stage
            .site
            .client
            .request::<Value>(get(path.clone())?)
            .await
            .unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if let Some(index) = pair.iter().position(|replica| replica.name() == holder) {
            return Ok(index);
        }
        if Instant::now() > end {
            bail!("none of the replicas leads");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
