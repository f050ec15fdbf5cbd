//! Addresses are claimed by a Lease named after them: creating it is atomic, so two Clusters never get the same one,
//! even from two processes. The claim comes first, then the record in the Cluster's status, then the use.
use super::{address::Range, desired::Owner};
use crate::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGER};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
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

/// Gives the address back, if `owner` holds it.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    owner: &Owner,
    address: Ipv4Addr,
) -> Result<(), Fault> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let name = lease_name(address);
    let live = leases
        .get_opt(&name)
        .await
        .map_err(|error| Fault::api(format!("read Lease {name}"), &error))?;
    let Some(lease) = live.filter(|lease| holder(lease) == Some(&owner.uid)) else {
        return Ok(());
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: lease.metadata.uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match leases.delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Fault::api(format!("release Lease {name}"), &error)),
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref()
}

fn lease_name(address: Ipv4Addr) -> String {
    format!("hosted-{}", address.to_string().replace('.', "-"))
}
