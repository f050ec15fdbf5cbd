//! The kubeconfig Secret of an AccessRequest: whether what it holds is still right, and how it is written. Pure but
//! for [`issue`], which asks the target for a token.
use super::plan::account_name;
use crate::{
    context::{HostEndpoint, texts},
    kubeconfig::{self, Credentials},
    names::{
        ANNOTATION_ACCESS_REQUEST, ANNOTATION_ACCOUNT, LABEL_ACCESS_REQUEST, LABEL_MANAGED_BY,
        TARGET_NAMESPACE,
    },
};
use data_encoding::BASE64;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
};
use kube::{Api, Client, Resource, ResourceExt, api::PostParams};
use openmcp_api::{
    AccessRequest,
    keys::secrets::{CA, CREATION_TIMESTAMP, EXPIRATION_TIMESTAMP, HOST, KUBECONFIG, TOKEN},
    names::secret_of_access_request,
};
use openmcp_reconcile::Fault;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// How long a token is asked for.
const LIFETIME_SECONDS: i64 = 24 * 3600;
/// The part of a token's life after which it is renewed.
const RENEW_AT_PERCENT: i64 = 80;

/// A token as the target issued it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) token: String,
    /// Unix seconds.
    pub(crate) created: i64,
    /// Unix seconds.
    pub(crate) expires: i64,
    /// UID of the ServiceAccount: the token of an account that was made again is refused.
    pub(crate) account_uid: String,
}

impl Issued {
    /// When it is to be renewed, in unix seconds.
    pub(crate) fn renewal(&self) -> i64 {
        self.created + (self.expires - self.created) * RENEW_AT_PERCENT / 100
    }
    /// How long from `now` until it is to be renewed.
    pub(crate) fn renewal_in(&self, now: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.renewal() - now).unwrap_or_default().max(1))
    }
}

/// What the Secret holds, if it is in every part what we wrote for this endpoint, and not yet due.
pub(crate) fn current(
    secret: &Secret,
    endpoint: &HostEndpoint,
    account: &str,
    account_uid: &str,
    now: i64,
) -> Option<Issued> {
    let texts = texts(secret);
    let number = |key: &str| texts.get(key).and_then(|text| text.parse::<i64>().ok());
    let issued = Issued {
        token: texts.get(TOKEN)?.clone(),
        created: number(CREATION_TIMESTAMP)?,
        expires: number(EXPIRATION_TIMESTAMP)?,
        account_uid: secret.annotations().get(ANNOTATION_ACCOUNT)?.clone(),
    };
    let intact = data(&issued, endpoint, account)
        .iter()
        .all(|(key, text)| texts.get(*key) == Some(text));
    (intact
        && issued.account_uid == account_uid
        && now < issued.renewal()
        && secret.metadata.deletion_timestamp.is_none())
    .then_some(issued)
}

/// The Secret to write.
pub(crate) fn secret(
    request: &AccessRequest,
    provider: &str,
    issued: &Issued,
    endpoint: &HostEndpoint,
) -> Value {
    let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
    let account = account_name(&namespace, &name);
    let data: BTreeMap<&str, String> = data(issued, endpoint, &account)
        .into_iter()
        .map(|(key, text)| (key, BASE64.encode(text.as_bytes())))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": secret_of_access_request(&name),
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: provider, LABEL_ACCESS_REQUEST: request.uid()},
            "annotations": {ANNOTATION_ACCESS_REQUEST: format!("{namespace}/{name}"), ANNOTATION_ACCOUNT: issued.account_uid},
            "ownerReferences": [{
                "apiVersion": AccessRequest::api_version(&()),
                "kind": AccessRequest::kind(&()),
                "name": name,
                "uid": request.uid(),
                "controller": true,
                "blockOwnerDeletion": false,
            }],
        },
        "data": data,
    })
}

fn data(issued: &Issued, endpoint: &HostEndpoint, account: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (
            KUBECONFIG,
            kubeconfig::render(
                &endpoint.server,
                &endpoint.ca,
                account,
                &Credentials::Token(&issued.token),
            ),
        ),
        (TOKEN, issued.token.clone()),
        (HOST, endpoint.server.clone()),
        (CA, endpoint.ca.clone()),
        (CREATION_TIMESTAMP, issued.created.to_string()),
        (EXPIRATION_TIMESTAMP, issued.expires.to_string()),
    ])
}

/// Asks the target for a token of the account.
pub(crate) async fn issue(
    client: &Client,
    account: &str,
    account_uid: &str,
    now: i64,
) -> Result<Issued, Fault> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), TARGET_NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(LIFETIME_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let doing = format!("request a token of ServiceAccount {TARGET_NAMESPACE}/{account}");
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|error| Fault::api(&doing, &error))?;
    let issued = answer
        .status
        .and_then(|status| Some((status.token?, status.expiration_timestamp?.0.as_second())));
    let (token, expires) =
        issued.ok_or_else(|| Fault::retry("NoToken", format!("{doing}: the answer holds none")))?;
    Ok(Issued {
        token,
        created: now,
        expires,
        account_uid: account_uid.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn endpoint() -> HostEndpoint {
        HostEndpoint {
            server: "https://127.0.0.9:6443".into(),
            ca: "CA".into(),
        }
    }
    fn issued() -> Issued {
        Issued {
            token: "t".into(),
            created: 1_000,
            expires: 2_000,
            account_uid: "sa-1".into(),
        }
    }
    fn written() -> Secret {
        let request = serde_json::from_value(
            json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": {}}),
        )
        .unwrap();
        serde_json::from_value(secret(&request, "hosted", &issued(), &endpoint())).unwrap()
    }
    fn is_current(secret: &Secret, endpoint: &HostEndpoint, account_uid: &str, now: i64) -> bool {
        current(secret, endpoint, &account_name("n", "a"), account_uid, now).is_some()
    }

    #[test]
    fn a_token_is_kept_until_four_fifths_of_its_life() {
        assert!(is_current(&written(), &endpoint(), "sa-1", 1_799));
        assert!(!is_current(&written(), &endpoint(), "sa-1", 1_800));
        assert_eq!(issued().renewal_in(1_500), Duration::from_secs(300));
    }

    #[test]
    fn a_new_account_a_new_ca_and_an_edited_secret_need_a_new_token() {
        assert!(!is_current(&written(), &endpoint(), "sa-2", 1_100));
        assert!(!is_current(
            &written(),
            &HostEndpoint {
                ca: "other".into(),
                ..endpoint()
            },
            "sa-1",
            1_100
        ));
        let mut edited = written();
        edited.data.as_mut().unwrap().remove(KUBECONFIG);
        assert!(!is_current(&edited, &endpoint(), "sa-1", 1_100));
    }

    #[test]
    fn the_secret_has_the_keys_of_the_contract() {
        let keys: Vec<String> = written().data.unwrap().into_keys().collect();
        assert_eq!(
            keys,
            [
                "ca.crt",
                "creationTimestamp",
                "expirationTimestamp",
                "host",
                "kubeconfig",
                "token"
            ]
        );
    }
}
