//! Which Secrets of the platform hold a kubeconfig, and when it changes: one watch for all of them, which keeps of a
//! Secret nothing but a fingerprint. The kubeconfig itself is read when a connection is made of it.
use crate::dependents::Dependents;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, runtime::watcher};
use openmcp_api::keys::secrets;
use openmcp_reconcile::{
    Fault, Lane,
    controller::Handle,
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
    /// Of each Secret the fingerprint of its kubeconfig, if it has one.
    seen: Store<Option<Digest>>,
}

impl Credentials {
    /// How [`Dependents`] call the Secrets.
    pub(crate) const SECRET: &'static str = "Secret";

    /// A change wakes those who read the Secret. `key` is unknown to those who write Secrets.
    pub(crate) fn watch(
        client: kube::Client,
        key: &str,
        handle: Handle,
        dependents: Arc<Dependents>,
        shutdown: CancellationToken,
    ) -> Self {
        let digester = Digester::new("credentials", key);
        let reduce = digester.clone();
        let seen = watch::watch_reduced(
            Api::<Secret>::all(client.clone()),
            watcher::Config::default().fields(OTHERS).page_size(100),
            shutdown,
            move |secret| kubeconfig(secret).map(|bytes| fingerprint(&reduce, &bytes)),
            move |change| {
                let at = change.place();
                for key in dependents.of(Self::SECRET, at.namespace(), at.name()) {
                    handle.wake(key, Lane::Normal);
                }
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
        *self.seen.get(namespace, secret)?
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
