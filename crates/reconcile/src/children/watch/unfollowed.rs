//! Objects that bear our label and that nobody follows: those whose owner has not come by yet, and those that nobody
//! made, or nobody knows of any more.
//!
//! Owns finding them: a watch keeps no names, so they are listed where there are any, and only then. Must not know what an
//! inventory is.
use super::{Children, Scope, Watch};
use crate::{
    Fault,
    children::{Address, counters},
};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{DynamicObject, PartialObjectMeta},
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A page of metadata is small.
const PAGE: u32 = 500;
/// Of each watch at a time: whoever makes more of them has nobody read all their names.
const TOLD: usize = 10;

/// An object that bears our label and that nobody follows.
pub struct Unfollowed {
    watch: Arc<Watch>,
    address: Address,
    uid: String,
}

impl Unfollowed {
    /// Which object it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on cluster {}", self.address, self.watch.cluster.name)
    }
}

impl Children {
    /// What nobody follows, and nobody has followed when this was called before: enough time is to lie between two calls
    /// for an owner to come by. Whoever keeps the inventories says in [`Children::looked_up`] whether one lists it. Costs
    /// no request while there is nothing.
    pub async fn unfollowed(&self) -> Vec<Unfollowed> {
        let mut watches: Vec<Arc<Watch>> = self.0.watches().values().cloned().collect();
        watches.retain(|watch| watch.id.scope == Scope::Marked);
        // In order: one seed of a simulation leads to one run.
        watches.sort_by_cached_key(|watch| {
            let resource = &watch.id.kind.resource;
            (
                watch.id.connection,
                resource.group.clone(),
                resource.plural.clone(),
            )
        });
        let (mut found, mut unrecorded) = (Vec::new(), BTreeMap::<String, usize>::new());
        for watch in watches {
            let look = watch.state().look();
            *unrecorded.entry(watch.id.kind.resource.kind.clone()).or_default() += look.unrecorded;
            if look.due > 0
                && let Err(fault) = watch.name_those_due(&self.0.selector, &mut found).await
            {
                tracing::warn!(cluster = &*watch.cluster.name, "{fault}");
            }
        }
        counters::unrecorded(unrecorded);
        found
    }

    /// Notes whether inventories list what was [`Children::unfollowed`]. What none lists is told in the log, once, counted,
    /// and left alone.
    pub fn looked_up(&self, found: impl IntoIterator<Item = (Unfollowed, bool)>) {
        let mut told = BTreeMap::<u64, usize>::new();
        for (object, recorded) in found {
            let Address { namespace, name, .. } = &object.address;
            let news = object.watch.state().looked_up(namespace, name, recorded);
            if recorded || !news {
                continue;
            }
            let kind = &object.address.kind.resource.kind;
            counters::one_more_unrecorded(kind);
            let (cluster, selector) = (&*object.watch.cluster.name, &self.0.selector);
            let count = told.entry(object.watch.id.connection).or_default();
            *count += 1;
            match *count {
                ..=TOLD => tracing::warn!(
                    cluster,
                    "{} bears the label {selector} and is in no inventory: it is left alone; take the label off it, or \
                     delete it if nobody needs it",
                    object.address
                ),
                count if count == TOLD + 1 => tracing::warn!(
                    cluster,
                    "more objects there bear the label {selector} and are in no inventory: sp_unrecorded_objects counts \
                     them by kind"
                ),
                _ => {}
            }
        }
    }
}

impl Watch {
    /// Those that are due, with their names. What a controller made of something else is left to that one: it has copied
    /// the labels, and removes it with its owner.
    async fn name_those_due(
        self: &Arc<Self>,
        selector: &str,
        found: &mut Vec<Unfollowed>,
    ) -> Result<(), Fault> {
        let kind = &self.id.kind;
        let api: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), &kind.resource);
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        loop {
            let page = api.list_metadata(&params).await.map_err(|error| {
                let doing = format!("list {} with the label {selector}", kind.resource.plural);
                Fault::api(doing, &error)
            })?;
            for object in page.items {
                found.extend(self.due(&object));
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(()),
            }
        }
    }

    fn due(self: &Arc<Self>, object: &PartialObjectMeta<DynamicObject>) -> Option<Unfollowed> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let uid = object.uid()?;
        let mut state = self.state();
        if !state.is_due(&namespace, &name, &uid) {
            return None;
        }
        if object
            .owner_references()
            .iter()
            .any(|it| it.controller == Some(true))
        {
            state.looked_up(&namespace, &name, true);
            return None;
        }
        Some(Unfollowed {
            watch: self.clone(),
            address: Address {
                kind: self.id.kind.clone(),
                namespace,
                name,
            },
            uid,
        })
    }
}
