//! Connections to clusters: a kube client whose credentials are swapped in place, and the API server's identity.
//!
//! A kubeconfig that points at another API server than before is another connection, never a swap.
use crate::Fault;

/// A connection to one API server. Cheap to clone; its bearer token can be swapped without a new client.
#[derive(Clone)]
pub struct Connection {}

impl Connection {
    /// From the kubeconfig in a Secret's `kubeconfig` key. No request is sent. A malformed kubeconfig is
    /// [`crate::fault::Class::Invalid`] and never shows its content.
    pub async fn from_kubeconfig(_kubeconfig: &[u8], _user_agent: &str) -> Result<Self, Fault> {
        unimplemented!()
    }
    /// The client; clones share the connection pool and see swapped credentials.
    pub fn client(&self) -> kube::Client {
        unimplemented!()
    }
    /// Takes over the credentials of a newer kubeconfig for the same server and CA: `Ok(true)`. `Ok(false)` when
    /// it points elsewhere: the caller must make a new connection.
    pub async fn swap(&self, _kubeconfig: &[u8]) -> Result<bool, Fault> {
        unimplemented!()
    }
    /// The API server's identity: the UID of its kube-system namespace. `None` while that does not exist yet.
    pub async fn identity(&self) -> Result<Option<String>, Fault> {
        unimplemented!()
    }
}
