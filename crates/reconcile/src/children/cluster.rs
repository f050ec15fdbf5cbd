//! A cluster that children are on, and how it serves their kinds.
use super::kinds::{Kind, Kinds};
use crate::Fault;
use std::sync::Arc;

/// A cluster that children are on.
#[derive(Clone)]
pub struct Cluster {
    /// Over this connection.
    pub client: kube::Client,
    /// How people call it: namespace and name of its object.
    pub name: Arc<str>,
    /// The identity of its API server.
    pub identity: String,
    /// Tells connections apart: a watch lives as long as the connection that it was started on. Swapped
    /// credentials leave the connection what it is.
    pub connection: u64,
    /// How kinds are served there: known as long as the connection is.
    kinds: Arc<Kinds>,
}

impl Cluster {
    /// Over a connection to the API server with this identity. Clones are the same.
    pub fn new(
        client: kube::Client,
        name: impl Into<Arc<str>>,
        identity: impl Into<String>,
        connection: u64,
    ) -> Self {
        Self {
            client,
            name: name.into(),
            identity: identity.into(),
            connection,
            kinds: Arc::default(),
        }
    }

    /// How `kind` of `api_version` is served there; `None` when it is not.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Fault> {
        self.kinds.resolve(&self.client, api_version, kind).await
    }
}
