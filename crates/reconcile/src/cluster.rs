//! Connections to clusters: a kube client whose credentials are swapped in place, and the API server's identity.
//!
//! A kubeconfig that points at another API server than before is another connection, never a swap.
//!
//! kube's own stack retries 429 and 503 for minutes inside one call and has no time-out for it; here every request
//! that is not a watch has one, dead peers are found by TCP keep-alive, and retries are the queue's. What keeps one API
//! server from costing the others is in [`rails`], a bound on requests in flight and a circuit breaker, and in [`turns`], a
//! bound on the passes at a slow one.
mod breaker;
mod dial;
mod fence;
mod kubeconfig;
mod pace;
mod rails;
mod retry_after;
mod transport;
mod turns;

use crate::{
    Environment, Fault,
    fault::Class,
    request::{METADATA_ONLY, Sent, send},
};
use http::Method;
use kube::{Client, Config};
use rails::Rails;
use std::{
    fmt,
    sync::{Arc, OnceLock},
};
use tokio::sync::Mutex;
use transport::{Swappable, Transport};

pub use breaker::Breaker;
pub(crate) use breaker::Fare;
pub use dial::{Dial, Reply, Tcp, Wire};
pub(crate) use rails::Open;
pub use turns::{Turn, Turns};

/// A connection to one API server. Cheap to clone; its credentials can be swapped without a new client.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    service: Swappable,
    current: Arc<Mutex<Current>>,
    server: Arc<str>,
    /// Of the API server, once it has said so.
    identity: Arc<OnceLock<String>>,
    environment: Environment,
}

/// What the next kubeconfig is compared with.
struct Current {
    config: Config,
    transport: Transport,
}

impl fmt::Debug for Connection {
    /// The server only: nothing secret is ever printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// From the kubeconfig in a Secret's `kubeconfig` key. No request is sent. A malformed kubeconfig is
    /// [`crate::fault::Class::Invalid`] and never shows its content.
    ///
    /// The Secret's writer is not trusted with this process: a kubeconfig that runs a command, reads a file, goes
    /// through a proxy, skips verification or is not https is refused.
    pub async fn from_kubeconfig(kubeconfig: &[u8], user_agent: &str) -> Result<Self, Fault> {
        Self::within(&Environment::default(), kubeconfig, user_agent).await
    }

    /// [`Connection::from_kubeconfig`], in the surroundings of another connection or of a simulation.
    pub async fn within(
        environment: &Environment,
        kubeconfig: &[u8],
        user_agent: &str,
    ) -> Result<Self, Fault> {
        Self::from_config(environment, kubeconfig::read(kubeconfig, user_agent).await?, None)
    }

    /// [`Connection::within`], to a cluster at which passes take turns: its requests show whether it is slow.
    pub async fn taking_turns(
        environment: &Environment,
        kubeconfig: &[u8],
        user_agent: &str,
        turns: &Turns,
    ) -> Result<Self, Fault> {
        let config = kubeconfig::read(kubeconfig, user_agent).await?;
        Self::from_config(environment, config, Some(turns.clone()))
    }

    /// To the cluster that this process is configured for: `KUBECONFIG`, else the service account of its pod, whose
    /// token and CA are read again when they are renewed.
    pub async fn infer(user_agent: &str) -> Result<Self, Fault> {
        Self::infer_within(&Environment::default(), user_agent).await
    }

    /// [`Connection::infer`], in other surroundings.
    pub async fn infer_within(environment: &Environment, user_agent: &str) -> Result<Self, Fault> {
        let config = Config::infer().await.map_err(|error| {
            Fault::invalid("InvalidKubeconfig", format!("find the platform cluster: {error}"))
        })?;
        Self::from_config(
            environment,
            kubeconfig::with_user_agent(config, user_agent)?,
            None,
        )
    }

    fn from_config(environment: &Environment, config: Config, turns: Option<Turns>) -> Result<Self, Fault> {
        let transport = Transport::new(environment.dial.dial(&config)?);
        let server: Arc<str> = config.cluster_url.to_string().into();
        let rails = Rails::new(server.clone(), turns);
        let service = Swappable::new(transport.stack(&config)?, rails, environment.gate.clone());
        let client =
            kube::client::ClientBuilder::new(service.clone(), config.default_namespace.clone()).build();
        Ok(Self {
            client,
            service,
            server,
            identity: Arc::default(),
            environment: environment.clone(),
            current: Arc::new(Mutex::new(Current { config, transport })),
        })
    }

    /// The client; clones share the connection pool and see swapped credentials.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What it was made in: connections beside it are made in the same.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Takes over the credentials of a newer kubeconfig for the same server: `Ok(true)`. Running watches go on; new
    /// requests use the new credentials. `Ok(false)` when it points elsewhere: the caller must make a new connection.
    ///
    /// Who trusts another CA may be led to another server by the same address: that one has to prove first that it is
    /// the one whose [`Connection::identity`] was asked for before.
    pub async fn swap(&self, kubeconfig: &[u8]) -> Result<bool, Fault> {
        let mut current = self.current.lock().await;
        let mut config = kubeconfig::read(kubeconfig, "").await?;
        config.headers.clone_from(&current.config.headers);
        let old = &current.config;
        if config.cluster_url != old.cluster_url {
            return Ok(false);
        }
        let trusts_another =
            config.root_cert != old.root_cert || config.tls_server_name != old.tls_server_name;
        // Client certificates and trust belong to the connections themselves: they need new ones.
        let transport =
            if trusts_another || kubeconfig::has_certificate(&config) || kubeconfig::has_certificate(old) {
                Transport::new(self.environment.dial.dial(&config)?)
            } else {
                current.transport.clone()
            };
        let stack = transport.stack(&config)?;
        if trusts_another {
            let there = Client::new(stack.clone(), config.default_namespace.clone());
            let identity = identity(&there, &self.server).await?;
            if identity.is_none() || identity.as_ref() != self.identity.get() {
                return Ok(false);
            }
        }
        self.service.swap(stack);
        *current = Current { config, transport };
        Ok(true)
    }

    /// Whether its API server answers, as far as requests have shown: costs nothing while it does. While it does not,
    /// the fault says so, and now and then a request tries.
    pub async fn answers(&self) -> Result<(), Fault> {
        match self.service.fare() {
            Fare::Degraded => self.identity().await.map(drop),
            Fare::Connecting | Fare::Synced => Ok(()),
        }
    }

    /// The API server's identity: the UID of its kube-system namespace. `None` while that does not exist yet.
    pub async fn identity(&self) -> Result<Option<String>, Fault> {
        let identity = identity(&self.client, &self.server).await?;
        if let Some(identity) = &identity {
            self.identity.get_or_init(|| identity.clone());
        }
        Ok(identity)
    }
}

async fn identity(client: &Client, server: &str) -> Result<Option<String>, Fault> {
    let doing = format!("identify the cluster at {server}");
    let sent = Sent {
        accept: Some(METADATA_ONLY),
        ..Sent::default()
    };
    let path = "/api/v1/namespaces/kube-system";
    let answer = send(client, Method::GET, path, sent, &doing).await?;
    if answer.is_absent("kube-system") {
        return Ok(None);
    }
    let namespace = answer.into_success(&doing)?;
    match namespace["metadata"]["uid"].as_str() {
        Some(uid) => Ok(Some(uid.to_owned())),
        None => Err(Fault::new(
            Class::Bug,
            "Undecodable",
            format!("{doing}: kube-system has no UID"),
        )),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
