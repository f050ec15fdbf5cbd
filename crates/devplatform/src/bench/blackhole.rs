//! A tenant whose API server accepts connections and never answers.
use super::{fleet::Order, granter::Granter, site::Site, subject::ALL_SETS, witness::Witness};
use anyhow::Result;
use serde_json::json;
use std::{net::Ipv4Addr, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};

/// The name of its Cluster and of its service object.
const NAME: &str = "black-hole";

/// The tenant that it belongs to.
const TENANT: &str = "tenant-01";
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes connections as long as it lives.
pub(super) struct BlackHole {
    hole: JoinHandle<()>,
    order: Order,
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.hole.abort();
    }
}

impl BlackHole {
    /// Opens it, and orders a service on it. Its Cluster stays: each needs a `label` of its own.
    pub(super) async fn open(site: &Site<'_>, granter: &Granter, label: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let hole = tokio::spawn(async move {
            let mut swallowed = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                swallowed.push(stream);
            }
        });
        let mut kubeconfig = site.kubeconfig(super::site::PROVIDER).await?;
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://{address}"));
        let name = format!("{NAME}-{label}");
        granter.add_cluster(&name, "Exclusive", &kubeconfig).await?;
        let order = Order {
            tenant: TENANT.to_owned(),
            name: name.clone(),
        };
        order.grant(&site.client, &name).await?;
        order.place(&site.client).await?;
        Ok(Self { hole, order })
    }

    /// Takes the order back, so that the provider can come to rest.
    pub(super) async fn close(self, site: &Site<'_>) -> Result<()> {
        let mut witness = Witness::of(&site.client, ALL_SETS).await?;
        self.order.delete(&site.client).await?;
        loop {
            let sight = witness.next(PATIENCE).await?;
            if sight.deleted && sight.object.metadata.name == self.order.name {
                return Ok(());
            }
        }
    }
}
