//! Experiment 9: tenants' API servers come and go, and credentials are rotated: what is left of it in the provider.
use crate::bench::{
    Stage,
    audit::Column,
    fleet::Order,
    report::{Goal, Row},
    site::PROVIDER,
    subject::ALL_SETS,
    tenants::TenantServer,
    witness::Witness,
};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use openmcp_api::clusters::purpose;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// API servers that are attached at once.
const SERVERS: usize = 200;
/// How often all of them are attached and detached: a thousand cycles.
const ROUNDS: usize = 5;
const IN_FLIGHT: usize = 32;
const PATIENCE: Duration = Duration::from_secs(180);
/// Longer than watches that nobody needs linger.
const LINGER: Duration = Duration::from_secs(70);
/// Between two tokens, and for how long.
const ROTATION: Duration = Duration::from_secs(10);
const ROTATIONS: u32 = 6;
/// More than allocators and pools breathe.
const DESCRIPTORS: f64 = 5.0;
const TASKS: f64 = 2.0;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn perform(stage: &mut Stage<'_>) -> Result<()> {
    churn(stage).await?;
    rotation(stage).await
}

/// What the provider has when nothing is attached.
struct Base {
    descriptors: f64,
    tasks: f64,
    resident: f64,
}

impl Base {
    async fn of(stage: &Stage<'_>) -> Result<Self> {
        Ok(Self {
            descriptors: stage.subject.descriptors()? as f64,
            tasks: stage.subject.tasks().await? as f64,
            resident: stage.subject.memory()?.resident as f64 / MIB,
        })
    }
}

async fn churn(stage: &mut Stage<'_>) -> Result<()> {
    let servers = TenantServer::open(&stage.site, SERVERS).await?;
    let orders: Vec<Order> = (0..SERVERS).map(order).collect();
    for (order, server) in orders.iter().zip(&servers) {
        let kubeconfig = server.kubeconfig(&stage.site).await?;
        stage
            .granter
            .add_cluster(&order.name, "Exclusive", &kubeconfig)
            .await?;
        order.grant(&stage.site.client, &order.name).await?;
    }
    let mut bases = Vec::new();
    let began = Instant::now();
    stage.progress.begin("attached and detached", ROUNDS);
    for round in 0..=ROUNDS {
        stage.rest().await?;
        tokio::time::sleep(LINGER).await;
        bases.push(Base::of(stage).await?);
        if round < ROUNDS {
            attach_and_detach(stage, &orders, &servers).await?;
            stage.progress.step();
        }
    }
    let cycles = (SERVERS * ROUNDS) as f64;
    let took = began.elapsed();
    // The first round fills pools and the allocator.
    let settled = &bases[1..];
    let rows = [
        (
            "descriptors",
            "",
            Some(DESCRIPTORS),
            of(settled, |base| base.descriptors),
        ),
        ("tasks", "", Some(TASKS), of(settled, |base| base.tasks)),
        ("resident memory", "MiB", None, of(settled, |base| base.resident)),
    ];
    let first = &bases[0];
    for (what, unit, goal, values) in rows {
        let per_thousand = slope(&values) * 1000.0 / SERVERS as f64;
        let row = Row::new(
            9,
            format!("{what}, growth of 1,000 cycles of an API server"),
            per_thousand,
            unit,
        );
        let row = match goal {
            Some(goal) => row.goal(Goal::AtMost(goal)),
            None => row,
        };
        let shown: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
        let before = match what {
            "descriptors" => first.descriptors,
            "tasks" => first.tasks,
            _ => first.resident,
        };
        stage.note(row.note(format!(
            "{SERVERS} at once, {cycles} cycles in {:.0} s; {before:.1} before, then {} with none attached",
            took.as_secs_f64(),
            shown.join(", ")
        )));
    }
    Ok(())
}

fn of(bases: &[Base], what: impl Fn(&Base) -> f64) -> Vec<f64> {
    bases.iter().map(what).collect()
}

/// By least squares, a step.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        above += (x as f64 - mean_x) * (y - mean_y);
        below += (x as f64 - mean_x).powi(2);
    }
    if below == 0.0 { 0.0 } else { above / below }
}

fn order(number: usize) -> Order {
    Order {
        tenant: Order::number(number).tenant,
        name: format!("churn-{number}"),
    }
}

async fn attach_and_detach(stage: &Stage<'_>, orders: &[Order], servers: &[TenantServer]) -> Result<()> {
    let client = &stage.site.client;
    let mut witness = Witness::of(client, ALL_SETS).await?;
    let place: Vec<_> = orders.iter().map(|order| order.place(client)).collect();
    stream::iter(place)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    until_all(&mut witness, orders, |sight| {
        !sight.deleted && sight.object.is_ready()
    })
    .await
    .context("attaching")?;
    let made: usize = servers.iter().map(TenantServer::children).sum();
    if made != orders.len() * stage.children {
        bail!("{made} ConfigMaps on {} API servers", servers.len());
    }
    let delete: Vec<_> = orders.iter().map(|order| order.delete(client)).collect();
    stream::iter(delete)
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    until_all(&mut witness, orders, |sight| sight.deleted)
        .await
        .context("detaching")?;
    let left: usize = servers.iter().map(TenantServer::children).sum();
    if left > 0 {
        bail!("{left} ConfigMaps are left");
    }
    Ok(())
}

async fn until_all(
    witness: &mut Witness,
    orders: &[Order],
    is_so: impl Fn(&crate::bench::witness::Sight) -> bool,
) -> Result<()> {
    let mut missing: HashSet<&str> = orders.iter().map(|order| &*order.name).collect();
    while !missing.is_empty() {
        let sight = witness
            .next(PATIENCE)
            .await
            .with_context(|| format!("{} of {} are missing", missing.len(), orders.len()))?;
        if is_so(&sight) {
            missing.remove(&*sight.object.metadata.name);
        }
    }
    Ok(())
}

/// Tokens of the shared ControlPlane change, and nothing is listed anew.
async fn rotation(stage: &mut Stage<'_>) -> Result<()> {
    stage.rest().await?;
    stage.site.audit.clear()?;
    let mark = stage.site.audit.mark();
    let mut secrets = 0;
    for _ in 0..ROTATIONS {
        let kubeconfig = stage.site.kubeconfig(PROVIDER).await?;
        for cluster in [purpose::ONBOARDING, purpose::MCP] {
            secrets += stage.granter.rotate(cluster, &kubeconfig).await?;
        }
        tokio::time::sleep(ROTATION).await;
    }
    stage.rest().await?;
    let requests = stage.site.audit.since(mark, &PROVIDER.user())?;
    stage.note(
        Row::new(
            9,
            format!(
                "lists in {} s with a new token each {} s",
                (ROTATION * ROTATIONS).as_secs(),
                ROTATION.as_secs()
            ),
            requests.lists() as f64,
            "requests",
        )
        .goal(Goal::AtMost(0.0))
        .note(format!(
            "{secrets} Secrets written; {} requests: {}",
            requests.total(),
            requests.by_verb()
        )),
    );
    if requests.of(Column::Children) > 0 {
        bail!("children were written while credentials were rotated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_is_what_each_step_adds() {
        assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0]), 2.0);
        assert_eq!(slope(&[4.0, 4.0]), 0.0);
        assert_eq!(slope(&[4.0]), 0.0);
    }
}
