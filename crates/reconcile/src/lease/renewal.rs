//! Keeps a lease that is held: renews it, notices its loss, gives it back.
use super::{Lease, within};
use crate::{Fault, metrics};
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::{Api, api::PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The task that renews.
pub(super) struct Renewal {
    pub(super) lease: Lease,
    pub(super) api: Api<Object>,
    pub(super) held: Object,
    /// The time before the last renewal that succeeded.
    pub(super) until: Instant,
}

impl Renewal {
    pub(super) async fn run(mut self, lost: CancellationToken, stop: CancellationToken) -> Self {
        loop {
            tokio::select! {
                () = stop.cancelled() => return self,
                () = tokio::time::sleep(self.lease.period()) => {}
            }
            let asked = Instant::now();
            let still = match self.renew().await {
                Ok(still) => still,
                Err(fault) => {
                    tracing::warn!(lease = self.lease.name, "{fault}");
                    asked < self.until + self.lease.deadline()
                }
            };
            if !still {
                tracing::error!(lease = self.lease.name, "this process does not lead any more");
                metrics::leads(&self.lease.name, false);
                self.lease.environment.gate.end();
                lost.cancel();
                return self;
            }
        }
    }

    /// `Ok(false)`: another process has it.
    async fn renew(&mut self) -> Result<bool, Fault> {
        let asked = Instant::now();
        let doing = format!("renew Lease {}/{}", self.lease.namespace, self.lease.name);
        let new = self.lease.object(Some(&self.held), self.lease.environment.now());
        let name = &self.lease.name;
        match within(
            self.lease.period(),
            &doing,
            self.api.replace(name, &PostParams::default(), &new),
        )
        .await
        {
            Ok(held) => {
                self.held = held;
                self.until = asked;
                self.lease
                    .environment
                    .gate
                    .open_until(asked + self.lease.deadline());
                Ok(true)
            }
            // Somebody wrote the object: only its holder matters. It counts as renewed when we write it again.
            Err(fault) if fault.reason == "Conflict" => {
                let live = within(self.lease.period(), &doing, self.api.get(name)).await?;
                let holder = live.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
                let ours = holder.as_deref() == Some(&self.lease.identity);
                self.held = live;
                Ok(ours && asked < self.until + self.lease.deadline())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Tells the others that they need not wait.
    pub(super) async fn release(mut self) {
        metrics::leads(&self.lease.name, false);
        if let Some(spec) = &mut self.held.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let doing = format!("give back Lease {}/{}", self.lease.namespace, self.lease.name);
        let params = PostParams::default();
        let write = self.api.replace(&self.lease.name, &params, &self.held);
        if let Err(fault) = within(self.lease.period(), &doing, write).await {
            tracing::warn!("{fault}");
        }
        self.lease.environment.gate.end();
    }
}
