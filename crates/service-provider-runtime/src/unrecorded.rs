//! Objects on clusters that bear our label and that no Inventory lists: somebody's copy of a child, or what a lost
//! Inventory left. They are told and never touched (runtime design §4).
//!
//! Owns when it is looked for them and what counts as listed. That nobody follows an object is not enough: the service
//! object may be paused, its wish be wrong, or its pass not have come yet.
use crate::{inventories::Inventories, provider::ServiceProvider, world::World};
use kube::Resource;
use openmcp_api::Inventory;
use openmcp_reconcile::{Fault, children::Unfollowed};
use std::{collections::HashMap, convert::Infallible, time::Duration};

/// Between two looks. What two of them find is looked up.
const BETWEEN: Duration = Duration::from_secs(300);
/// As long as what is found cannot be looked up, the looks become this rare.
const RARE: Duration = Duration::from_secs(4 * 3600);

/// Looks now and then, for ever.
pub(crate) async fn look_out<P: ServiceProvider>(world: &World<P>) -> Infallible {
    let definitions = [
        definition::<P::Api>(),
        definition::<P::Config>(),
        definition::<Inventory>(),
    ];
    let mut pause = BETWEEN;
    loop {
        tokio::time::sleep(pause).await;
        let found = world.engine.children().unfollowed().await;
        if found.is_empty() {
            continue;
        }
        match listed(&world.inventories, &found).await {
            Ok(listed) => {
                pause = BETWEEN;
                let installed = |it: &Unfollowed| {
                    let address = it.address();
                    address.kind.resource.kind == "CustomResourceDefinition"
                        && definitions.contains(&address.name)
                };
                let found = found.into_iter().zip(listed);
                let known = found.map(|(it, listed)| {
                    let known = listed || installed(&it);
                    (it, known)
                });
                world.engine.children().looked_up(known);
            }
            // It may list any of them: all of them are looked up again, and it is told once.
            Err(fault) => {
                if pause == BETWEEN {
                    tracing::warn!(
                        "objects that bear our label and that nobody follows are not reported, for an Inventory may \
                         list them: {fault}"
                    );
                }
                pause = (pause * 2).min(RARE);
            }
        }
    }
}

/// What `init` installs bears our label, too.
fn definition<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

/// Which of them an Inventory lists. A UID says which object it is; without one, its kind and name do.
async fn listed(inventories: &Inventories, found: &[Unfollowed]) -> Result<Vec<bool>, Fault> {
    let by_uid: HashMap<&str, usize> = found.iter().enumerate().map(|(n, it)| (it.uid(), n)).collect();
    let mut listed = vec![false; found.len()];
    let mut note = |uid: Option<&str>, kind: &str, name: &str| match uid {
        Some(uid) => {
            if let Some(&nth) = by_uid.get(uid) {
                listed[nth] = true;
            }
        }
        None => {
            for (nth, it) in found.iter().enumerate() {
                let address = it.address();
                listed[nth] |= address.name == name && address.kind.resource.kind == kind;
            }
        }
    };
    inventories
        .each(|inventory| {
            for entry in &inventory.spec.entries {
                note(entry.uid.as_deref(), &entry.kind, &entry.name);
            }
            for value in &inventory.spec.values {
                note(value.uid.as_deref(), "Secret", &value.secret);
            }
        })
        .await?;
    Ok(listed)
}
