//! The downward API: fields of the pod as text. Pure.
use super::{ContentError, Facts, quantity};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// The value of a `fieldRef`. Labels and annotations as a whole are for volumes; the API server refuses them in env.
pub(super) fn field(facts: &Facts<'_>, path: &str) -> Result<String, ContentError> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => Ok(lines(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(lines(metadata.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" | "status.podIPs" => Ok(facts.pod_ip.to_string()),
        "status.hostIP" | "status.hostIPs" => Ok(facts.host_ip.to_string()),
        _ => subscript(&facts.pod.metadata, path).ok_or_else(|| ContentError::NoField(path.to_owned())),
    }
}

/// `metadata.labels['key']` and `metadata.annotations['key']`; a key that is not there is an empty text.
fn subscript(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    path: &str,
) -> Option<String> {
    let (map, rest) = match path.strip_prefix("metadata.labels['") {
        Some(rest) => (metadata.labels.as_ref(), rest),
        None => (
            metadata.annotations.as_ref(),
            path.strip_prefix("metadata.annotations['")?,
        ),
    };
    let key = rest.strip_suffix("']")?;
    Some(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
}

/// One `key="value"` a line, sorted, quoted as the kubelet does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; a limit that is not set is what the machine has.
pub(super) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, ContentError> {
    let unknown = || ContentError::NoResource(selector.resource.clone());
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let spec = pod.spec.as_ref().ok_or_else(unknown)?;
            let inits = spec.init_containers.iter().flatten();
            spec.containers
                .iter()
                .chain(inits)
                .find(|container| container.name == name)
        }
        None => own,
    };
    let resources = container.ok_or_else(unknown)?.resources.as_ref();
    let (set, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let quantities = resources.and_then(|resources| match set {
        "limits" => resources.limits.as_ref(),
        _ => resources.requests.as_ref(),
    });
    let set_value = quantities
        .and_then(|set| set.get(name))
        .map(|quantity| quantity.0.clone());
    let value = match (set_value, set, name) {
        (Some(value), _, _) => value,
        (None, "limits", "cpu") => crate::node::registration::machine_cpus().to_string(),
        (None, "limits", "memory") => crate::node::registration::machine_memory(),
        (None, _, _) => "0".to_owned(),
    };
    let divisor = selector.divisor.as_ref().map(|divisor| divisor.0.as_str());
    quantity::divide(&value, divisor)
        .map(|value| value.to_string())
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", "tier": "a \"quoted\" one"}, "annotations": {"example.org/x": "y"}},
            "spec": {"nodeName": "here", "serviceAccountName": "robot", "containers": [
                {"name": "main", "resources": {"limits": {"cpu": "1500m"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_read_from_the_pod_and_its_address() {
        let pod = pod();
        let facts = Facts {
            pod: &pod,
            pod_ip: Ipv4Addr::new(127, 1, 16, 4),
            host_ip: Ipv4Addr::new(127, 1, 0, 1),
        };
        let read = |path: &str| field(&facts, path).unwrap();
        assert_eq!(read("metadata.name"), "web");
        assert_eq!(read("metadata.uid"), "u1");
        assert_eq!(read("spec.serviceAccountName"), "robot");
        assert_eq!(read("status.podIP"), "127.1.16.4");
        assert_eq!(read("metadata.annotations['example.org/x']"), "y");
        assert_eq!(read("metadata.labels['none']"), "");
        assert_eq!(
            read("metadata.labels"),
            "app=\"web\"\ntier=\"a \\\"quoted\\\" one\""
        );
        assert!(field(&facts, "spec.hostname").is_err());
    }

    #[test]
    fn resources_are_those_of_the_named_or_the_own_container() {
        let pod = pod();
        let selector = |resource: &str, name: Option<&str>| ResourceFieldSelector {
            container_name: name.map(str::to_owned),
            divisor: None,
            resource: resource.to_owned(),
        };
        let main = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(
            resource(&pod, Some(main), &selector("limits.cpu", None)).unwrap(),
            "2"
        );
        assert_eq!(
            resource(&pod, None, &selector("limits.cpu", Some("main"))).unwrap(),
            "2"
        );
        assert_eq!(
            resource(&pod, Some(main), &selector("requests.cpu", None)).unwrap(),
            "0"
        );
        assert!(resource(&pod, None, &selector("limits.cpu", Some("other"))).is_err());
    }
}
