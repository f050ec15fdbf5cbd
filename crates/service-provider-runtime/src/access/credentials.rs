//! Which Secrets of the platform hold a kubeconfig, and when it changes: one watch for all of them, which keeps of a
//! Secret nothing but a fingerprint. The kubeconfig itself is read when a connection is made of it. What this provider
//! generated is kept as it is, for it is asked for in every pass.
use crate::{
    dependents::Dependents,
    fanout::FanOut,
    values::{self, Generated},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, runtime::watcher};
use openmcp_api::keys::secrets;
use openmcp_reconcile::{
    Fault,
    digest::{Digest, Digester},
    watch::{self, Store},
};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Of the Secrets that a platform is full of, the biggest and the most numerous: no cluster provider makes such ones.
const OTHERS: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";

/// The kubeconfigs in the platform's Secrets.
pub(crate) struct Credentials {
    client: kube::Client,
    digester: Digester,
    seen: Store<Kept>,
}

/// What is kept of a Secret.
enum Kept {
    Nothing,
    /// The fingerprint of its kubeconfig.
    Kubeconfig(Digest),
    /// A value that was generated for an owner of ours.
    Generated(Box<(String, Generated)>),
}

impl Credentials {
    /// How [`Dependents`] call the Secrets.
    pub(crate) const SECRET: &'static str = "Secret";

    /// A change wakes those who read the Secret. `key` is unknown to those who write Secrets.
    pub(crate) fn watch(
        client: kube::Client,
        key: &str,
        provider: &'static str,
        fan_out: FanOut,
        dependents: Arc<Dependents>,
        shutdown: CancellationToken,
    ) -> Self {
        let digester = Digester::new("credentials", key);
        let reduce = digester.clone();
        let seen = watch::watch_reduced(
            Api::<Secret>::all(client.clone()),
            watcher::Config::default().fields(OTHERS).page_size(100),
            shutdown,
            move |secret: Result<Secret, _>| {
                let secret = secret.ok()?;
                Some(match values::held(&secret, provider) {
                    Some(held) => Kept::Generated(Box::new(held)),
                    None => kubeconfig(secret).map_or(Kept::Nothing, |bytes| {
                        Kept::Kubeconfig(fingerprint(&reduce, &bytes))
                    }),
                })
            },
            move |change| {
                let at = change.place();
                fan_out.readers(dependents.of(Self::SECRET, at.namespace(), at.name()));
            },
        );
        Self {
            client,
            digester,
            seen,
        }
    }

    /// Waits for the first complete list.
    pub(crate) async fn synced(&self) {
        self.seen.synced().await;
    }

    /// The fingerprint of the kubeconfig in a Secret; `None` where there is no such Secret, or no kubeconfig in it.
    pub(super) fn fingerprint(&self, namespace: &str, secret: &str) -> Option<Digest> {
        match *self.seen.get(namespace, secret)? {
            Kept::Kubeconfig(digest) => Some(digest),
            Kept::Nothing | Kept::Generated(_) => None,
        }
    }

    /// The value in a Secret that was generated here, and the UID of its owner.
    pub(super) fn generated(&self, namespace: &str, secret: &str) -> Option<(String, Generated)> {
        match &*self.seen.get(namespace, secret)? {
            Kept::Generated(held) => Some((**held).clone()),
            Kept::Nothing | Kept::Kubeconfig(_) => None,
        }
    }

    /// The kubeconfig in a Secret as it is now, with its fingerprint.
    pub(super) async fn read(
        &self,
        namespace: &str,
        secret: &str,
    ) -> Result<Option<(Digest, Vec<u8>)>, Fault> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(secret).await;
        let found =
            found.map_err(|error| Fault::api(format_args!("read Secret {namespace}/{secret}"), &error))?;
        Ok(found
            .and_then(kubeconfig)
            .map(|bytes| (fingerprint(&self.digester, &bytes), bytes)))
    }
}

fn kubeconfig(secret: Secret) -> Option<Vec<u8>> {
    Some(secret.data?.remove(secrets::KUBECONFIG)?.0)
}

fn fingerprint(digester: &Digester, kubeconfig: &[u8]) -> Digest {
    digester.of_value(&json!(String::from_utf8_lossy(kubeconfig)))
}
