//! The scheduling decision (contract §6): pure, from one request, all clusters and the configuration.
//!
//! Decision table, first line that fits:
//!
//! | the request | the clusters | decision |
//! |---|---|---|
//! | has a cluster | it exists | [`Decision::Keep`] |
//! | has a cluster | it is gone | [`Decision::Create`] again under its name |
//! | its purpose is unknown | – | [`Decision::Deny`] |
//! | – | one that is not being deleted bears its finalizer | [`Decision::Grant`] (lost status, or a crash in between) |
//! | – | one that is being deleted bears its finalizer | [`Decision::Release`] |
//! | purpose is shared | one fits and has a free slot | [`Decision::Claim`] |
//! | – | the name that the new cluster would get is taken | [`Decision::Wait`] |
//! | – | – | [`Decision::Create`] |
use crate::config::{Purpose, Scheduler, Scope, Strategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use openmcp_api::{
    clusters::{Cluster, ClusterRequest},
    common::ObjectReference,
    keys::labels,
    names::{self, PrefixTooLong},
};
use std::{collections::BTreeMap, sync::Arc};

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// It is granted, and its cluster exists: see that the cluster bears its finalizer and metadata.
    Keep(Arc<Cluster>),
    /// The cluster bears its finalizer already: write it into the status.
    Grant(Arc<Cluster>),
    /// Take a slot of this cluster, if nobody changed it meanwhile.
    Claim(Arc<Cluster>),
    /// Make this cluster; it bears the request's finalizer from its first moment.
    Create(Box<Cluster>),
    /// Let go of a cluster that is being deleted before it served the request.
    Release(Arc<Cluster>),
    /// Nothing can be done until a cluster changes.
    Wait(String),
    /// The configuration cannot serve the request.
    Deny(String),
}

/// A request as the decision sees it.
pub(crate) struct Asked<'a> {
    pub request: &'a ClusterRequest,
    /// The finalizer by which it holds a cluster.
    pub finalizer: &'a str,
    /// A random number, for the strategy `Random`.
    pub dice: u64,
}

/// Decides about a request that is not being deleted.
pub(crate) fn decide(asked: &Asked<'_>, clusters: &[Arc<Cluster>], config: &Scheduler) -> Decision {
    let request = asked.request;
    let purpose_name = &request.spec.purpose;
    let purpose = config.purposes.get(purpose_name);
    if let Some(at) = request.status.as_ref().and_then(|s| s.cluster.as_ref()) {
        return match (find(clusters, at), purpose) {
            (Some(cluster), _) => Decision::Keep(cluster.clone()),
            (None, Some(purpose)) => create(asked, purpose, Some(at)),
            (None, None) => Decision::Wait(format!(
                "its Cluster {at} is gone, and the scheduler's configuration has no mapping for the purpose {purpose_name:?} to make it again"
            )),
        };
    }
    let Some(purpose) = purpose else {
        return Decision::Deny(unknown_purpose(purpose_name, config));
    };
    let mut held: Vec<_> = clusters
        .iter()
        .filter(|c| crate::meta::has_finalizer(c.as_ref(), asked.finalizer))
        .collect();
    held.sort_by_key(|c| (crate::meta::is_deleting(c.as_ref()), reference(c)));
    match held.first() {
        Some(cluster) if crate::meta::is_deleting(cluster.as_ref()) => {
            return Decision::Release((*cluster).clone());
        }
        Some(cluster) => return Decision::Grant((*cluster).clone()),
        None => {}
    }
    if !purpose.is_exclusive()
        && let Some(cluster) = choose(asked, purpose, clusters, config)
    {
        return Decision::Claim(cluster);
    }
    let create = create(asked, purpose, None);
    match taken(&create, clusters) {
        Some(why) => Decision::Wait(why),
        None => create,
    }
}

fn unknown_purpose(name: &str, config: &Scheduler) -> String {
    let known: Vec<_> = config.purposes.keys().map(String::as_str).collect();
    format!(
        "no cluster can be given for the purpose {name:?}: the scheduler's configuration has mappings for {}",
        if known.is_empty() {
            "no purpose".to_owned()
        } else {
            known.join(", ")
        }
    )
}

fn find<'a>(clusters: &'a [Arc<Cluster>], at: &ObjectReference) -> Option<&'a Arc<Cluster>> {
    clusters
        .iter()
        .find(|c| c.name_any() == at.name && c.namespace().as_deref() == Some(&at.namespace))
}

/// `namespace/name` of a cluster.
pub(crate) fn reference(cluster: &Cluster) -> (String, String) {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// The namespace in which a purpose's clusters live: the template's, else the request's.
fn namespace(request: &ClusterRequest, purpose: &Purpose) -> String {
    purpose
        .template
        .metadata
        .namespace
        .clone()
        .or_else(|| request.namespace())
        .unwrap_or_default()
}

/// The shared cluster that the request gets a slot of.
fn choose(
    asked: &Asked<'_>,
    purpose: &Purpose,
    clusters: &[Arc<Cluster>],
    config: &Scheduler,
) -> Option<Arc<Cluster>> {
    let namespace = namespace(asked.request, purpose);
    let mut fitting: Vec<_> = clusters
        .iter()
        .filter(|c| {
            !crate::meta::is_deleting(c.as_ref())
                && c.spec.tenancy == purpose.template.spec.tenancy
                && c.spec.purposes.contains(&asked.request.spec.purpose)
                && purpose.selects(c.labels())
                && (config.scope == Scope::Cluster || c.namespace().as_deref() == Some(namespace.as_str()))
                && (purpose.tenancy_count == 0 || c.tenancy_count() < purpose.tenancy_count)
        })
        .collect();
    fitting.sort_by_cached_key(|c| reference(c));
    let chosen = match config.strategy {
        Strategy::Simple => fitting.first(),
        Strategy::Balanced => fitting.iter().min_by_key(|c| c.tenancy_count()),
        Strategy::Random => {
            let at = usize::try_from(asked.dice)
                .unwrap_or_default()
                .checked_rem(fitting.len())?;
            fitting.get(at)
        }
    };
    chosen.map(|c| (*c).clone())
}

/// The cluster made for a request; `again` is the name under which it was granted before.
fn create(asked: &Asked<'_>, purpose: &Purpose, again: Option<&ObjectReference>) -> Decision {
    let request = asked.request;
    let template = &purpose.template;
    let mut labels = template.metadata.labels.clone();
    let mut annotations = template.metadata.annotations.clone();
    labels
        .entry(labels::DELETE_WITHOUT_REQUESTS.to_owned())
        .or_insert_with(|| "true".to_owned());
    if purpose.is_exclusive() {
        labels.extend(handed_on(request.labels()));
        annotations.extend(handed_on(request.annotations()));
    }
    let mut spec = template.spec.clone();
    if !spec.purposes.contains(&request.spec.purpose) {
        spec.purposes.push(request.spec.purpose.clone());
    }
    let mut metadata = ObjectMeta {
        namespace: Some(namespace(request, purpose)),
        labels: Some(labels),
        annotations: Some(annotations).filter(|a| !a.is_empty()),
        finalizers: Some(vec![asked.finalizer.to_owned()]),
        ..ObjectMeta::default()
    };
    match again {
        Some(at) => {
            metadata.namespace = Some(at.namespace.clone());
            metadata.name = Some(at.name.clone());
        }
        None => {
            if let Err(error) = name(&mut metadata, request, purpose) {
                return Decision::Deny(error.to_string());
            }
        }
    }
    Decision::Create(Box::new(Cluster {
        metadata,
        spec,
        status: None,
    }))
}

/// Names a new cluster (contract §11.5): all requests of one shared cluster must come to the same name, others are
/// told apart by a hash of the request.
fn name(metadata: &mut ObjectMeta, request: &ClusterRequest, purpose: &Purpose) -> Result<(), PrefixTooLong> {
    let template = &purpose.template.metadata;
    let asked_for = &request.spec.purpose;
    if purpose.is_singleton() && template.generate_name.is_none() {
        metadata.name = Some(template.name.clone().unwrap_or_else(|| asked_for.clone()));
        return Ok(());
    }
    let prefix = names::cluster_prefix(template.generate_name.as_deref(), asked_for);
    if request
        .labels()
        .get(labels::RANDOMIZE_CLUSTER_NAME)
        .is_some_and(|v| v == labels::TRUE)
    {
        metadata.generate_name = Some(prefix);
    } else {
        metadata.name = Some(names::cluster(
            &prefix,
            &request.namespace().unwrap_or_default(),
            &request.name_any(),
        )?);
    }
    Ok(())
}

/// Why the name of the cluster that would be made cannot be used now.
fn taken(create: &Decision, clusters: &[Arc<Cluster>]) -> Option<String> {
    let Decision::Create(wanted) = create else {
        return None;
    };
    let at = ObjectReference {
        name: wanted.metadata.name.clone()?,
        namespace: wanted.namespace().unwrap_or_default(),
    };
    let existing = find(clusters, &at)?;
    Some(if crate::meta::is_deleting(existing.as_ref()) {
        format!("Cluster {at} has the name that the new cluster is to get, and is still being deleted")
    } else {
        format!(
            "Cluster {at} has the name that the new cluster is to get, and does not serve this request; label the ClusterRequest {}=true to get another name",
            labels::RANDOMIZE_CLUSTER_NAME
        )
    })
}

/// The labels or annotations that an exclusive cluster takes over from its request.
pub(crate) fn handed_on(from: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    from.iter()
        .filter(|(key, _)| key.starts_with(labels::METADATA_PREFIX))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}
