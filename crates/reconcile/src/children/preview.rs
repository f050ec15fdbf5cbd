//! What a convergence would do, decided by the same plan and not done: for people who ask.
use super::{
    converge::{Convergence, Engine, Scene},
    observe::Child,
    plan::{self, Action},
    step::Step,
};
use crate::{
    Fault,
    apply_child::Target,
    inventory::{Id, Inventory, Store},
};

/// One object, as it stands and what would be done about it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preview {
    /// Which object it is.
    pub id: Id,
    /// The recorded UID; `None`: never seen as ours.
    pub recorded: Option<String>,
    /// `None`: absent, or without our label.
    pub live: Option<Child>,
    /// "nothing", "create", "repair: .spec.template image changed by kubectl-edit".
    pub action: String,
}

impl Engine {
    /// Decides and tells. `None` while the first lists are being read: ask again. Sends reads only.
    pub async fn preview<S: Store>(
        &self,
        order: &Convergence<'_>,
        inventory: &Inventory<'_, S>,
    ) -> Result<Option<Vec<Preview>>, Fault> {
        let scene = Scene {
            order,
            kinds: self.resolve(order).await?,
            maker: &(),
        };
        if !self.watches_ready(&scene, inventory, &mut Default::default())? {
            return Ok(None);
        }
        let candidates = self.candidates(&scene)?;
        let mut previews = Vec::new();
        for candidate in &candidates {
            let hash = self.hash(candidate.wanted, inventory);
            let entry = inventory.entries().get(&candidate.id);
            let action = plan::decide(candidate, hash, entry, order.now);
            let mut told = words(&action).to_owned();
            if let (Action::Repair | Action::Report, Some(entry), Some(cluster), Some(kind)) = (
                &action,
                entry,
                order.clusters.get(&candidate.id.cluster),
                scene.kind(candidate.wanted),
            ) {
                let address = candidate.id.at(kind);
                let target = Target {
                    client: &cluster.client,
                    address: &address,
                    manager: self.manager(),
                    mark: order.mark,
                };
                let step = Step {
                    candidate,
                    entry: entry.clone(),
                    hash,
                    action,
                };
                told = match self.drift(&target, &step).await? {
                    Some(drift) => format!("{told}: {drift}"),
                    None => words(&Action::Nothing).to_owned(),
                };
            }
            previews.push(Preview {
                id: candidate.id.clone(),
                recorded: entry.and_then(|entry| entry.uid.clone()),
                live: candidate.live.clone(),
                action: told,
            });
        }
        let mut next = match order.waiting {
            true => "remove, when nothing is waited for".to_owned(),
            false => "remove: it is not desired any more".to_owned(),
        };
        for group in plan::prunes(&candidates, inventory.entries()) {
            let kept = self.kept(order, &group, inventory.entries()).await;
            let kept = kept.map_err(|failure| failure.fault)?;
            if !kept.is_empty() {
                next = format!("keep: {}", kept.join("; "));
            }
            previews.extend(group.into_iter().map(|id| Preview {
                recorded: inventory.entries().get(&id).and_then(|entry| entry.uid.clone()),
                live: None,
                action: next.clone(),
                id,
            }));
        }
        Ok(Some(previews))
    }
}

fn words(action: &Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Create => "create",
        Action::Change => "change: what is desired differs from what was applied",
        Action::Repair => "repair",
        Action::Renew => "renew: its time has come",
        Action::Report => "leave alone, it is only watched",
        Action::Await => "wait until it is gone, then create",
    }
}
