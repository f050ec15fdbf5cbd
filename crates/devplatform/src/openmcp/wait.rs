//! Waiting for an object by a watch, with a bound; when it is reached, the object itself says what is missing.
use anyhow::{Context, bail};
use kube::{Api, Resource, runtime::wait::await_condition};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt::Debug, time::Duration};
use tokio::time::timeout;

/// A part of openMCP that is not ready after this will not be.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `ready` answers `Some`, also while the object does not exist yet.
pub(super) async fn wait_for<K>(
    api: &Api<K>,
    name: &str,
    ready: impl Fn(&K) -> Option<()>,
) -> anyhow::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let kind = K::kind(&());
    let condition = |object: Option<&K>| object.is_some_and(|object| ready(object).is_some());
    match timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(object) => object?.with_context(|| format!("{kind} {name} was deleted meanwhile")),
        Err(_) => match api.get_opt(name).await? {
            None => bail!(
                "there is no {kind} {name} after {} s; `openmcp dev logs` shows the pods",
                PATIENCE.as_secs()
            ),
            Some(object) => {
                let object = serde_json::to_value(object)?;
                bail!(
                    "{kind} {name} is not ready after {} s: {}",
                    PATIENCE.as_secs(),
                    describe(&object)
                )
            }
        },
    }
}

/// Phase, and each condition that is not True with its reason and message.
fn describe(object: &Value) -> String {
    let status = &object["status"];
    let mut parts = vec![format!("phase {}", status["phase"].as_str().unwrap_or("not set"))];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let field = |name: &str| condition[name].as_str().unwrap_or_default();
        if field("status") != "True" {
            parts.push(format!(
                "{} is {} ({}: {})",
                field("type"),
                field("status"),
                field("reason"),
                field("message")
            ));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_that_is_not_ready_is_described_by_its_phase_and_its_unmet_conditions() {
        let object = json!({"status": {"phase": "Progressing", "conditions": [
            {"type": "Initialized", "status": "True", "reason": "InitCompleted", "message": ""},
            {"type": "Ready", "status": "False", "reason": "ProviderNotReady", "message": "no pod is ready"},
        ]}});
        assert_eq!(
            describe(&object),
            "phase Progressing; Ready is False (ProviderNotReady: no pod is ready)"
        );
        assert_eq!(describe(&json!({})), "phase not set");
    }
}
