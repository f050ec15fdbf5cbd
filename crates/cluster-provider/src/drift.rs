//! Does a live object still say what we want? Pure, on JSON; costs no request.
//!
//! Fields that we do not set are left alone, whoever set them; lists that we set are ours as a whole.
use serde_json::Value;

/// Whether `live` holds everything that `desired` says. Maps may hold more; lists must have the same length and hold
/// the desired items in order. What the API server drops (null, empty) counts as absent.
pub(crate) fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, wanted) if is_nothing(wanted) => is_nothing(live),
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| covers(live.get(key).unwrap_or(&Value::Null), wanted)),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// Whether two values are the same to the last field, apart from what the API server drops. For rules, subjects and
/// role references, where an addition is as wrong as a loss.
pub(crate) fn same(live: &Value, desired: &Value) -> bool {
    covers(live, desired) && covers(desired, live)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_server_are_no_drift() {
        let desired = json!({"spec": {"replicas": 1, "containers": [{"name": "a", "env": []}]}});
        let live = json!({"spec": {"replicas": 1, "strategy": {}, "containers": [{"name": "a", "imagePullPolicy": "Always"}]}, "status": {}});
        assert!(covers(&live, &desired));
    }

    #[test]
    fn a_changed_a_lost_and_an_added_item_are_drift() {
        let desired = json!({"containers": [{"name": "a", "image": "x"}], "replicas": 1});
        assert!(!covers(
            &json!({"containers": [{"name": "a", "image": "y"}], "replicas": 1}),
            &desired
        ));
        assert!(!covers(
            &json!({"containers": [{"name": "a", "image": "x"}]}),
            &desired
        ));
        assert!(!covers(
            &json!({"containers": [{"name": "a", "image": "x"}, {"name": "b"}], "replicas": 1}),
            &desired
        ));
    }

    #[test]
    fn an_added_field_of_a_rule_is_a_difference() {
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        assert!(same(
            &json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": null}]),
            &rules
        ));
        assert!(!same(
            &json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["x"]}]),
            &rules
        ));
        assert!(same(&Value::Null, &json!([])));
    }
}
