//! Addresses are claimed by a Lease named after them: creating it is atomic, so two Clusters never get the same one,
//! even from two processes. The claim comes first, then the record in the Cluster's status, then the use.
use super::{address::Range, desired::Owner};
use crate::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGER};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use openmcp_reconcile::Fault;
use serde_json::json;
use std::{collections::HashSet, net::Ipv4Addr};

/// How many taken addresses are tried in one reconcile.
const TRIES: usize = 64;

/// Claims an address for `owner`. The same owner gets the same address again.
pub(crate) async fn claim(
    client: &Client,
    namespace: &str,
    provider: &str,
    owner: &Owner,
    range: Range,
    mut taken: HashSet<Ipv4Addr>,
) -> Result<Ipv4Addr, Fault> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    for _ in 0..TRIES {
        let Some(address) = range.choose(&owner.uid, &taken) else {
            return Err(Fault::retry(
                "NoAddressLeft",
                "every address of HOSTED_ADDRESS_RANGE is taken: delete Clusters or widen it",
            ));
        };
        if try_claim(&leases, provider, owner, address).await? {
            return Ok(address);
        }
        taken.insert(address);
    }
    Err(Fault::retry(
        "NoAddressLeft",
        format!("{TRIES} addresses in a row are claimed by others"),
    ))
}

async fn try_claim(
    leases: &Api<Lease>,
    provider: &str,
    owner: &Owner,
    address: Ipv4Addr,
) -> Result<bool, Fault> {
    let name = lease_name(address);
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {LABEL_MANAGED_BY: provider, LABEL_CLUSTER: owner.uid}},
        "spec": {"holderIdentity": owner.uid},
    }))
    .map_err(|error| Fault::bug(format!("Lease {name}: {error}")))?;
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match leases.create(&params, &lease).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let live = leases
                .get_opt(&name)
                .await
                .map_err(|error| Fault::api(format!("read Lease {name}"), &error))?;
            Ok(live.as_ref().and_then(holder) == Some(&owner.uid))
        }
        Err(error) => Err(Fault::api(format!("claim {address} by Lease {name}"), &error)),
    }
}

/// Gives back what `owner` holds. A claim may not have been recorded, and what lost its mark is found by its name.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    owner: &Owner,
    recorded: Option<Ipv4Addr>,
) -> Result<(), Fault> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let marked = ListParams::default().labels(&format!("{LABEL_CLUSTER}={}", owner.uid));
    let failed = |error| Fault::api(format!("look for the address of Cluster {}", owner.name), &error);
    let mut found = leases.list(&marked).await.map_err(failed)?.items;
    if let Some(name) = recorded.map(lease_name)
        && !found.iter().any(|lease| lease.name_any() == name)
    {
        found.extend(leases.get_opt(&name).await.map_err(failed)?);
    }
    for lease in found {
        if holder(&lease) != Some(&owner.uid) {
            continue;
        }
        let name = lease.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: lease.metadata.uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match leases.delete(&name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Fault::api(format!("release Lease {name}"), &error)),
        }
    }
    Ok(())
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref()
}

fn lease_name(address: Ipv4Addr) -> String {
    format!("hosted-{}", address.to_string().replace('.', "-"))
}
