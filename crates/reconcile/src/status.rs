//! Status by server-side apply, written only when it differs; conditions whose lastTransitionTime moves only
//! when their status value does.
use crate::Fault;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// A condition as computed, before it is merged with the live one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// PascalCase type, positive polarity.
    pub type_: String,
    /// `Some(true)` True, `Some(false)` False, `None` Unknown.
    pub status: Option<bool>,
    /// PascalCase; if empty it becomes `<Type>_<Status>` (contract §11.3).
    pub reason: String,
    /// What happened, to which object, what to do.
    pub message: String,
}

/// The next conditions list: `observed` in its order, then nothing else; lastTransitionTime is kept where the
/// status value is unchanged, `now` otherwise.
pub fn merge_conditions(
    _live: &[Condition],
    _observed: &[Observed],
    _generation: i64,
    _now: jiff::Timestamp,
) -> Vec<Condition> {
    unimplemented!()
}

/// Writes `desired` (the whole `status` that `manager` owns) to the status subresource by a forced server-side
/// apply, if it differs from `live` (the current `status`). Returns whether a request was sent. A 404 is not an
/// error: the object is gone.
pub async fn apply_status<K>(
    _api: &Api<K>,
    _object: &K,
    _live: &serde_json::Value,
    _desired: &impl Serialize,
    _manager: &str,
) -> Result<bool, Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    unimplemented!()
}
