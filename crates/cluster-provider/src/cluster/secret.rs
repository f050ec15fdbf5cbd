//! The Secret with a control plane's identity: read if it is intact, completed if it is damaged, made if it is absent.
use super::{
    desired::{self, Owner},
    pki::{self, Identity},
};
use crate::{
    apply,
    context::{Context, texts},
    etcd::Access,
    names::{LABEL_CLUSTER, MANAGER},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use openmcp_reconcile::{Fault, apply::Mark};
use std::{collections::BTreeMap, net::Ipv4Addr};
use time::OffsetDateTime;

/// The identity and all files of the Secret.
pub(crate) struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) files: BTreeMap<String, String>,
}

/// Reads the identity from the store; only what looks wrong there is read from the API server and repaired.
pub(crate) async fn ensure(
    cx: &Context,
    owner: &Owner,
    etcd: &Access,
    address: Ipv4Addr,
) -> Result<Credentials, Fault> {
    let name = owner.control_plane();
    let stored = cx.stores.control_plane_secrets.get(&owner.namespace, &name);
    if let Some(credentials) = stored.and_then(|secret| intact(&secret, owner, etcd, address)) {
        return Ok(credentials);
    }
    let api: Api<Secret> = Api::namespaced(cx.client.clone(), &owner.namespace);
    let live = api
        .get_opt(&name)
        .await
        .map_err(|error| Fault::api(format!("read Secret {name}"), &error))?;
    if let Some(credentials) = live
        .as_ref()
        .and_then(|secret| intact(secret, owner, etcd, address))
    {
        return Ok(credentials);
    }
    let existing = Identity::from_files(live.as_ref().map(texts).unwrap_or_default());
    let (identity, repair) =
        pki::complete(existing, address, OffsetDateTime::now_utc()).map_err(|error| internal(&error))?;
    let files = desired::files(&identity, etcd, address).map_err(|error| internal(&error))?;
    let secret = desired::secret(owner, &cx.provider, &files);
    if live.is_some() {
        let mark = Mark {
            label: LABEL_CLUSTER,
            value: owner.uid.clone(),
        };
        apply::ensure(&cx.client, &mark, secret).await?;
        tracing::info!(
            cluster = owner.name,
            ?repair,
            "repaired Secret {}/{name}",
            owner.namespace
        );
    } else {
        // Created, not applied: of two creations one must fail, or an identity in use would be overwritten.
        let secret =
            serde_json::from_value(secret).map_err(|error| Fault::bug(format!("Secret {name}: {error}")))?;
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        api.create(&params, &secret)
            .await
            .map_err(|error| Fault::api(format!("create Secret {name}"), &error))?;
        tracing::info!(
            cluster = owner.name,
            "made Secret {}/{name} with a new identity",
            owner.namespace
        );
    }
    Ok(Credentials { identity, files })
}

fn intact(secret: &Secret, owner: &Owner, etcd: &Access, address: Ipv4Addr) -> Option<Credentials> {
    let marked = secret.metadata.labels.as_ref()?.get(LABEL_CLUSTER)? == &owner.uid;
    let files = texts(secret);
    let identity = Identity::from_files(files.clone());
    if !marked || secret.metadata.deletion_timestamp.is_some() || !identity.is_intact(address) {
        return None;
    }
    let wanted = desired::files(&identity, etcd, address).ok()?;
    // Files that somebody added are nobody's harm.
    let complete = wanted.iter().all(|(name, text)| files.get(name) == Some(text));
    complete.then_some(Credentials {
        identity,
        files: wanted,
    })
}

fn internal(error: &dyn std::error::Error) -> Fault {
    Fault::bug(format!("make the identity: {error}"))
}
