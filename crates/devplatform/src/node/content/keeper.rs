//! Keeps the volumes of one pod as they should be, from before its first container until after its last.
use super::{
    ContentError, Facts,
    swap::replace,
    volumes::{Part, Source, TokenPart, payload, plan},
};
use crate::node::{Node, call, folders::PodFolders, objects::Subscriptions};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, api::PostParams};
use std::{
    collections::BTreeMap, fs, net::Ipv4Addr, os::unix::fs::PermissionsExt, path::Path, sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How long after a failure that no watch will tell of (a token, a disk) it is tried again: short at first, because
/// right after a pod is bound the authorizer may not know it yet.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The service account tokens are renewed after this share of their life, in per cent.
const RENEW_AT: u64 = 80;

/// What containers wait for: `None` at first, then what is missing, then `Ok` for good.
pub(in crate::node) type VolumesReady = watch::Receiver<Option<Result<(), String>>>;

/// Renders the volumes of one pod.
pub(in crate::node) struct Keeper {
    pub(in crate::node) node: Arc<Node>,
    pub(in crate::node) pod: watch::Receiver<Option<Arc<Pod>>>,
    pub(in crate::node) pod_ip: Ipv4Addr,
    pub(in crate::node) folders: PodFolders,
    pub(in crate::node) objects: Subscriptions,
    pub(in crate::node) ready: watch::Sender<Option<Result<(), String>>>,
}

/// Which volume is not complete, and why.
#[derive(Debug, thiserror::Error)]
#[error("volume {volume:?}: {source}")]
struct VolumeError {
    volume: String,
    source: ContentError,
}

struct Token {
    text: String,
    renew_at: Instant,
}

impl Keeper {
    /// Runs until it is dropped. Once every volume has been rendered, a source that vanishes leaves the last content.
    pub(in crate::node) async fn run(mut self) {
        let mut tokens = BTreeMap::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(pod) = self.pod.borrow_and_update().clone() else {
                return std::future::pending().await;
            };
            let outcome = self.render(&pod, &mut tokens).await;
            let mut wake = tokens.values().map(|token: &Token| token.renew_at).min();
            match outcome.as_ref().map_err(|error| &error.source) {
                Ok(()) => pause = FIRST_PAUSE,
                Err(ContentError::Token { .. } | ContentError::Write(_)) => {
                    wake = Some(Instant::now() + pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(_) => {}
            }
            self.tell(outcome);
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.objects.changed() => {}
                changed = self.pod.changed() => if changed.is_err() { return std::future::pending().await },
                () = timer => {}
            }
        }
    }

    fn tell(&self, outcome: Result<(), VolumeError>) {
        if matches!(&outcome, Err(error) if matches!(error.source, ContentError::Pending(_))) {
            return;
        }
        let outcome = Some(outcome.map_err(|error| error.to_string()));
        self.ready.send_if_modified(|ready| {
            let news = !matches!(ready, Some(Ok(()))) && *ready != outcome;
            if news {
                *ready = outcome;
            }
            news
        });
    }

    async fn render(&self, pod: &Pod, tokens: &mut BTreeMap<TokenPart, Token>) -> Result<(), VolumeError> {
        for (volume, source) in plan(pod) {
            let rendered = match source {
                Source::Empty { in_memory } => empty(&self.folders.empty_dir(&volume, in_memory)),
                Source::Rendered { parts, default_mode } => {
                    let folder = self.folders.rendered(&volume);
                    self.fill(pod, &folder, &parts, default_mode, tokens).await
                }
            };
            rendered.map_err(|source| VolumeError { volume, source })?;
        }
        Ok(())
    }

    async fn fill(
        &self,
        pod: &Pod,
        folder: &Path,
        parts: &[Part],
        default_mode: i32,
        tokens: &mut BTreeMap<TokenPart, Token>,
    ) -> Result<(), ContentError> {
        self.renew(pod, parts, tokens).await?;
        let facts = Facts {
            pod,
            pod_ip: self.pod_ip,
            host_ip: self.node.config.address,
        };
        let texts = tokens
            .iter()
            .map(|(part, token)| (part.clone(), token.text.clone()))
            .collect();
        let files = payload(&facts, parts, default_mode, &self.objects, &texts)?;
        replace(folder, &files).map_err(ContentError::write)?;
        Ok(())
    }

    /// Asks for the tokens that are missing or old.
    async fn renew(
        &self,
        pod: &Pod,
        parts: &[Part],
        tokens: &mut BTreeMap<TokenPart, Token>,
    ) -> Result<(), ContentError> {
        for part in parts {
            let Part::Token(part) = part else { continue };
            if tokens
                .get(part)
                .is_none_or(|token| token.renew_at <= Instant::now())
            {
                let token = self.request(pod, part).await?;
                tokens.insert(part.clone(), token);
            }
        }
        Ok(())
    }

    async fn request(&self, pod: &Pod, part: &TokenPart) -> Result<Token, ContentError> {
        let spec = pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let failed = |problem: String| ContentError::Token {
            account: account.to_owned(),
            problem,
        };
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(part.audience.iter().cloned().collect()),
                expiration_seconds: Some(part.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ServiceAccount> = Api::namespaced(self.node.client.clone(), namespace);
        let answer = call(api.create_token_request(account, &PostParams::default(), &request)).await;
        let status = answer
            .map_err(|error| failed(error.to_string()))?
            .status
            .ok_or_else(|| failed("the answer holds none".to_owned()))?;
        let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(failed("the answer holds none".to_owned()));
        };
        let life = expires
            .0
            .duration_since(k8s_openapi::jiff::Timestamp::now())
            .as_secs();
        let seconds = u64::try_from(life).unwrap_or(0) * RENEW_AT / 100;
        Ok(Token {
            text,
            renew_at: Instant::now() + Duration::from_secs(seconds.max(1)),
        })
    }
}

/// An emptyDir is anybody's to write to, as in a container.
fn empty(folder: &Path) -> Result<(), ContentError> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o777)))
        .map_err(ContentError::write)
}
