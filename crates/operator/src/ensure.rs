//! Bringing the operator's own objects to what is wanted: one maker's mark, one field manager, no request for what is
//! already as it should be (the engine's [`upsert_if_changed`]).
use openmcp_reconcile::{
    Fault,
    apply::{Mark, upsert_if_changed},
    fault::Class,
};
use serde::Serialize;
use serde_json::Value;

/// The reason of a fault for an object in the way that somebody else made.
const NOT_OURS: &str = "NotOurs";

/// Applies objects as one field manager and marks them as one maker's.
#[derive(Clone)]
pub(crate) struct Applier {
    pub client: kube::Client,
    pub manager: &'static str,
    pub mark: Mark,
}

impl Applier {
    /// Applies `desired` unless `live`, the last seen object, is like it already. Returns whether a request was sent.
    pub(crate) async fn ensure<K: Serialize>(&self, live: Option<&K>, desired: Value) -> Result<bool, Fault> {
        match upsert_if_changed(&self.client, self.manager, &self.mark, live, desired).await {
            Ok(applied) => Ok(applied.is_some()),
            Err(fault) if fault.reason == "Conflict" => Err(Fault::retry(NOT_OURS, fault.message)),
            Err(fault) => Err(fault),
        }
    }

    /// Applies an object that is known to be absent.
    pub(crate) async fn create(&self, desired: Value) -> Result<(), Fault> {
        self.ensure::<()>(None, desired).await.map(drop)
    }
}

/// Whether a fault is to be told on the object. What passes by itself within moments is not.
pub(crate) fn is_news(fault: &Fault) -> bool {
    fault.class != Class::Retry || fault.reason == NOT_OURS
}
