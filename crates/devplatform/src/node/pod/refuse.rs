//! What a process node cannot do, it does not pretend to do: such a pod fails at once, by the name of the field. Pure.
//!
//! Not in this list, because a development node may ignore it: users and groups, capabilities, seccomp and their like
//! (the process runs as this user, without capabilities), resource limits, DNS settings, service links.
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, Volume, VolumeProjection};

/// The reason in the pod's status.
pub(super) const REASON: &str = "UnsupportedByProcessNode";

/// The first thing in the pod that this node cannot do, as a sentence that names the field.
pub(super) fn unsupported(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let field = pod_field(spec)
        .or_else(|| spec.volumes.iter().flatten().find_map(volume_field))
        .or_else(|| {
            let inits = spec.init_containers.iter().flatten();
            inits.map(|c| ("initContainers", c)).find_map(container_field)
        })
        .or_else(|| {
            let mains = spec.containers.iter();
            mains.map(|c| ("containers", c)).find_map(container_field)
        })?;
    Some(format!(
        "{field} is not supported by the process node, a development node; use a cluster with a kubelet (kind) for it"
    ))
}

fn set(flag: Option<bool>) -> bool {
    flag == Some(true)
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn first(fields: &[(bool, &str)]) -> Option<String> {
    let found = fields.iter().find(|(present, _)| *present);
    found.map(|(_, field)| (*field).to_owned())
}

fn pod_field(spec: &PodSpec) -> Option<String> {
    let security = spec.security_context.as_ref();
    first(&[
        (set(spec.host_pid), "spec.hostPID"),
        (set(spec.host_ipc), "spec.hostIPC"),
        (set(spec.share_process_namespace), "spec.shareProcessNamespace"),
        (
            some(spec.ephemeral_containers.as_ref()),
            "spec.ephemeralContainers",
        ),
        (some(spec.resource_claims.as_ref()), "spec.resourceClaims"),
        (spec.runtime_class_name.is_some(), "spec.runtimeClassName"),
        (
            spec.os.as_ref().is_some_and(|os| os.name != "linux"),
            "spec.os (other than linux)",
        ),
        (
            security.is_some_and(|context| some(context.sysctls.as_ref())),
            "spec.securityContext.sysctls",
        ),
    ])
}

fn volume_field(volume: &Volume) -> Option<String> {
    let supported = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.projected.is_some();
    let at = format!("spec.volumes[{}]", volume.name);
    if !supported {
        return Some(format!("{at}{}", volume_kind(volume)));
    }
    let mut sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let field = sources.find_map(projection_field)?;
    Some(format!("{at}.projected.{field}"))
}

fn volume_kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut fields = value.as_object().into_iter().flat_map(|object| object.keys());
    let kind = fields.find(|field| *field != "name");
    kind.map(|kind| format!(".{kind}")).unwrap_or_default()
}

fn projection_field(source: &VolumeProjection) -> Option<String> {
    first(&[
        (source.cluster_trust_bundle.is_some(), "clusterTrustBundle"),
        (source.pod_certificate.is_some(), "podCertificate"),
    ])
}

fn container_field((list, container): (&str, &Container)) -> Option<String> {
    let security = container.security_context.as_ref();
    let lifecycle = container.lifecycle.as_ref();
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    let probe = |which: usize| {
        probes
            .get(which)
            .and_then(|(name, probe)| probe_field(name, probe.as_ref()))
    };
    let mut env = container.env.iter().flatten();
    let mut mounts = container.volume_mounts.iter().flatten();
    let field = first(&[
        (
            security.is_some_and(|context| set(context.privileged)),
            "securityContext.privileged",
        ),
        (container.restart_policy.is_some(), "restartPolicy"),
        (
            some(container.restart_policy_rules.as_ref()),
            "restartPolicyRules",
        ),
        (set(container.stdin), "stdin"),
        (set(container.tty), "tty"),
        (some(container.volume_devices.as_ref()), "volumeDevices"),
        (
            lifecycle.is_some_and(|l| l.pre_stop.is_some()),
            "lifecycle.preStop",
        ),
        (
            lifecycle.is_some_and(|l| l.post_start.is_some()),
            "lifecycle.postStart",
        ),
        (
            lifecycle.is_some_and(|l| l.stop_signal.is_some()),
            "lifecycle.stopSignal",
        ),
        (
            env.any(|env| {
                env.value_from
                    .as_ref()
                    .is_some_and(|from| from.file_key_ref.is_some())
            }),
            "env.valueFrom.fileKeyRef",
        ),
        (
            mounts.any(|m| m.sub_path.is_some() || m.sub_path_expr.is_some()),
            "volumeMounts.subPath",
        ),
    ]);
    let field = field.or_else(|| (0..probes.len()).find_map(probe))?;
    Some(format!("spec.{list}[{}].{field}", container.name))
}

fn probe_field(name: &str, probe: Option<&Probe>) -> Option<String> {
    let probe = probe?;
    let handler = first(&[(probe.exec.is_some(), "exec"), (probe.grpc.is_some(), "grpc")])?;
    Some(format!("{name}.{handler}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn refused(spec: Value) -> Option<String> {
        unsupported(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    #[test]
    fn each_field_that_cannot_be_done_is_named() {
        let main = |extra: Value| {
            let mut container = json!({"name": "main", "image": "i"});
            let fields = extra.as_object().unwrap().clone();
            container.as_object_mut().unwrap().extend(fields);
            json!({"containers": [container]})
        };
        let volume = |source: Value| {
            let mut volume = json!({"name": "v"});
            let fields = source.as_object().unwrap().clone();
            volume.as_object_mut().unwrap().extend(fields);
            json!({"containers": [], "volumes": [volume]})
        };
        let cases = [
            (json!({"containers": [], "hostPID": true}), "spec.hostPID"),
            (
                volume(json!({"hostPath": {"path": "/"}})),
                "spec.volumes[v].hostPath",
            ),
            (
                volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
                "spec.volumes[v].persistentVolumeClaim",
            ),
            (volume(json!({"csi": {"driver": "d"}})), "spec.volumes[v].csi"),
            (
                main(json!({"securityContext": {"privileged": true}})),
                "spec.containers[main].securityContext.privileged",
            ),
            (
                main(json!({"livenessProbe": {"exec": {"command": ["true"]}}})),
                "spec.containers[main].livenessProbe.exec",
            ),
            (
                main(json!({"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "y"}]})),
                "spec.containers[main].volumeMounts.subPath",
            ),
            (
                json!({"containers": [], "initContainers": [{"name": "side", "restartPolicy": "Always"}]}),
                "spec.initContainers[side].restartPolicy",
            ),
        ];
        for (spec, field) in cases {
            let message = refused(spec).unwrap();
            assert!(message.starts_with(&format!("{field} ")), "{message}");
        }
    }

    #[test]
    fn what_a_development_node_may_ignore_is_accepted() {
        let spec = json!({
            "hostNetwork": true,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "resources": {"limits": {"cpu": "1"}},
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false},
                "readinessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"downwardAPI": {"items": []}}]}}]
        });
        assert_eq!(refused(spec), None);
    }
}
