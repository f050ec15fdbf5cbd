//! Connections by the Secret that holds their kubeconfig. Credentials are swapped in place; a kubeconfig that leads
//! to another API server than before is refused: than the one that is connected, or that was recorded before a start.
use super::{ClusterName, Credentials, Identities, Requests};
use crate::{
    dependents::{Dependents, Source},
    stop::Stop,
    values::Generated,
};
use kube::config::Kubeconfig;
use openmcp_reconcile::{
    Environment, Fault, Key,
    children::Cluster,
    cluster::{Connection, Turn, Turns},
    controller::Handle,
    digest::Digest,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A cluster that is connected.
#[derive(Clone)]
pub(crate) struct Reached {
    pub(crate) name: ClusterName,
    pub(crate) cluster: Cluster,
    pub(crate) endpoint: Arc<Endpoint>,
    /// UID of the Cluster object.
    pub(crate) of: String,
    /// The Secret with the kubeconfig.
    pub(crate) secret: Source,
    /// Held for the whole pass.
    _turn: Arc<Turn>,
}

/// Where an API server is, for kubeconfigs that are made for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) server: String,
    /// Base64 of PEM.
    pub(crate) ca: String,
}

/// The Cluster object that a kubeconfig is for: another one under its name is another cluster.
pub(crate) struct Incarnation {
    pub(crate) uid: String,
    /// As its provider says; until then the kubeconfig may still be that of the one before.
    pub(crate) ready: bool,
}

#[derive(Clone)]
struct Slot {
    turns: Turns,
    /// One at a time connects.
    open: Arc<tokio::sync::Mutex<Option<Open>>>,
    /// What is read on the way to the Secret.
    way: Way,
}

/// A Cluster, and the AccessRequest that leads to it.
type Way = [Source; 2];

struct Open {
    /// UID of the Cluster object.
    of: String,
    connection: Connection,
    cluster: Cluster,
    kubeconfig: Digest,
    endpoint: Arc<Endpoint>,
}

/// All connections, by the Secret with their kubeconfig.
pub(crate) struct Connections {
    credentials: Credentials,
    dependents: Arc<Dependents>,
    handle: Handle,
    user_agent: String,
    environment: Environment,
    open: Mutex<HashMap<Source, Slot>>,
    next_id: AtomicU64,
}

impl Connections {
    pub(crate) fn new(
        credentials: Credentials,
        dependents: Arc<Dependents>,
        handle: Handle,
        user_agent: String,
        environment: Environment,
    ) -> Self {
        Self {
            credentials,
            dependents,
            handle,
            user_agent,
            environment,
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Waits until it is known which Secrets there are.
    pub(crate) async fn synced(&self) {
        self.credentials.synced().await;
    }

    /// The value in a Secret that was generated here, and the UID of its owner.
    pub(crate) fn generated(&self, namespace: &str, secret: &str) -> Option<(String, Generated)> {
        self.credentials.generated(namespace, secret)
    }

    /// The cluster that the kubeconfig in a Secret leads to.
    pub(crate) async fn reach(
        &self,
        key: &Key,
        of: ClusterName,
        incarnation: &Incarnation,
        recorded: &Identities,
        (namespace, access, secret): (&str, &str, &str),
    ) -> Result<Reached, Stop> {
        self.dependents.add(key, Credentials::SECRET, namespace, secret);
        let way = [
            self.dependents.source(Requests::CLUSTER, &of.namespace, &of.name),
            self.dependents
                .source(Requests::ACCESS_REQUEST, namespace, access),
        ];
        let slot = self.slot(namespace, secret, way);
        let turn = slot.turns.take(key).ok_or_else(|| Stop::Turn {
            message: format!(
                "{} answers late: other objects are worked on there first",
                of.title()
            ),
        })?;
        let mut held = slot.open.lock().await;
        if held.as_ref().is_some_and(|open| open.of != incarnation.uid) {
            if !incarnation.ready {
                let message = format!("{} was made anew and is not ready yet", of.title());
                return Err(Stop::wait("ClusterPending", message));
            }
            *held = None;
        }
        let seen = self.credentials.fingerprint(namespace, secret);
        let current = match (seen, held.as_ref()) {
            (Some(seen), Some(open)) => open.kubeconfig == seen,
            _ => false,
        };
        if !current {
            let found = match seen {
                Some(_) => self.credentials.read(namespace, secret).await?,
                None => None,
            };
            let (fingerprint, kubeconfig) = found.ok_or_else(|| {
                Stop::wait("AccessPending", format!("Secret {secret} has no kubeconfig yet"))
            })?;
            self.refresh(
                &mut held,
                &slot.turns,
                (&of, &incarnation.uid),
                (fingerprint, &kubeconfig),
                secret,
            )
            .await?;
        }
        let Some(open) = held.as_ref() else {
            return Err(Stop::wait(
                "AccessPending",
                format!("Secret {secret} leads nowhere yet"),
            ));
        };
        let source = format!("Secret {secret}");
        if let Err(changed) = recorded.admit(&of, &open.of, &open.cluster.identity, &source) {
            // Where it leads next is looked at anew.
            *held = None;
            return Err(changed.into());
        }
        let (connection, cluster, endpoint) = (
            open.connection.clone(),
            open.cluster.clone(),
            open.endpoint.clone(),
        );
        // Others are not to wait for a server that does not answer.
        drop(held);
        // Where nothing has to be sent, nothing else would tell that nobody can see what is there.
        connection.answers().await?;
        Ok(Reached {
            name: of,
            cluster,
            endpoint,
            of: incarnation.uid.clone(),
            secret: self.dependents.source(Credentials::SECRET, namespace, secret),
            _turn: Arc::new(turn),
        })
    }

    fn slot(&self, namespace: &str, secret: &str, way: Way) -> Slot {
        let source = self.dependents.source(Credentials::SECRET, namespace, secret);
        let mut open = self.slots();
        let fresh = || Slot {
            turns: Turns::new(
                &self.environment,
                format!("that of Secret {namespace}/{secret}"),
                self.handle.clone(),
            ),
            open: Arc::default(),
            way,
        };
        open.entry(source).or_insert_with(fresh).clone()
    }

    async fn refresh(
        &self,
        open: &mut Option<Open>,
        turns: &Turns,
        (name, uid): (&ClusterName, &str),
        (fingerprint, kubeconfig): (Digest, &[u8]),
        secret: &str,
    ) -> Result<(), Fault> {
        if open.as_ref().is_some_and(|held| held.kubeconfig == fingerprint) {
            return Ok(());
        }
        let endpoint = endpoint(kubeconfig).ok_or_else(|| {
            Fault::invalid(
                "InvalidKubeconfig",
                format!("Secret {secret}: no server with a CA in its kubeconfig"),
            )
        })?;
        if let Some(held) = open.as_mut()
            && held.connection.swap(kubeconfig).await?
        {
            (held.kubeconfig, held.endpoint) = (fingerprint, Arc::new(endpoint));
            return Ok(());
        }
        let connection =
            Connection::taking_turns(&self.environment, kubeconfig, &self.user_agent, turns).await?;
        let identity = connection.identity().await?.ok_or_else(|| {
            Fault::retry(
                "ClusterStarting",
                format!("the cluster of Secret {secret} has no kube-system yet"),
            )
        })?;
        if let Some(held) = open.as_ref()
            && held.cluster.identity != identity
        {
            let message = format!("Secret {secret} leads to another cluster than before: refused");
            return Err(Fault::invalid("ClusterChanged", message));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        *open = Some(Open {
            of: uid.to_owned(),
            cluster: Cluster::new(
                connection.client(),
                format!("{}/{}", name.namespace, name.name),
                identity,
                id,
            ),
            connection,
            kubeconfig: fingerprint,
            endpoint: Arc::new(endpoint),
        });
        Ok(())
    }

    /// Ends the connections that `key` has and does not need any more, as far as nobody else needs them. What is on the
    /// way there wakes it no more.
    pub(crate) fn keep_only(&self, key: &Key, secrets: &[Source]) {
        let way = |secret: &Source| self.slots().get(secret).map(|slot| slot.way);
        let former = former(self.dependents.read_by(key), secrets, way);
        for source in self.dependents.drop_some(key, former) {
            self.close(source);
        }
    }

    /// Nobody needs the connection of this Secret any more, if it is one, and unless somebody has begun to meanwhile: its
    /// watches end with their leases, this ends the rest.
    pub(crate) fn close(&self, secret: Source) {
        let mut open = self.slots();
        // Who needs it says so before asking for it.
        if !self.dependents.is_read(secret) {
            open.remove(&secret);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Source, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of what is read: Secrets with connections that are not among these, and what leads to those only.
fn former(read: Vec<Source>, secrets: &[Source], way: impl Fn(&Source) -> Option<Way>) -> Vec<Source> {
    let needed: Vec<Source> = secrets.iter().filter_map(&way).flatten().collect();
    let unused = read.into_iter().filter(|source| !secrets.contains(source));
    let unused = unused.filter_map(|secret| Some((secret, way(&secret)?)));
    let unused = unused.flat_map(|(secret, way)| [secret, way[0], way[1]]);
    unused.filter(|source| !needed.contains(source)).collect()
}

/// Server and CA of the current context. Only what was made by a cluster provider gets here.
fn endpoint(kubeconfig: &[u8]) -> Option<Endpoint> {
    let parsed: Kubeconfig = serde_yaml::from_slice(kubeconfig).ok()?;
    let context = parsed
        .contexts
        .iter()
        .find(|named| Some(&named.name) == parsed.current_context.as_ref())?;
    let of = &context.context.as_ref()?.cluster;
    let cluster = parsed
        .clusters
        .iter()
        .find(|named| &named.name == of)?
        .cluster
        .as_ref()?;
    Some(Endpoint {
        server: cluster.server.clone()?,
        ca: cluster.certificate_authority_data.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_secret_of_a_former_cluster_goes_what_led_there_and_nothing_that_leads_elsewhere() {
        let dependents = Dependents::default();
        let source = |name| dependents.source("X", "n", name);
        let [old, new, other, shared] = ["old", "new", "other", "shared"].map(source);
        let ways = HashMap::from([
            (old, [source("cluster"), source("old-access")]),
            (new, [source("cluster"), source("new-access")]),
            (other, [source("other-cluster"), shared]),
        ]);
        let way = |secret: &Source| ways.get(secret).copied();
        let read = vec![
            old,
            new,
            source("cluster"),
            source("old-access"),
            source("config"),
        ];
        assert_eq!(former(read, &[new], way), [old, source("old-access")]);
        let found = former(vec![other, new, shared], &[new], way);
        assert_eq!(found, [other, source("other-cluster"), shared]);
    }

    #[test]
    fn server_and_ca_are_read_from_the_current_context() {
        let text = b"apiVersion: v1\nkind: Config\ncurrent-context: b\nclusters:\n- name: x\n  cluster: {server: https://a, certificate-authority-data: QQ==}\n- name: y\n  cluster: {server: https://b, certificate-authority-data: Qg==}\ncontexts:\n- name: b\n  context: {cluster: y, user: u}\nusers:\n- name: u\n  user: {token: t}\n";
        let found = endpoint(text);
        assert_eq!(
            found,
            Some(Endpoint {
                server: "https://b".into(),
                ca: "Qg==".into()
            })
        );
    }
}
