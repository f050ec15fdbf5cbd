//! A container's environment, and `$(VAR)` in command, args and values. Pure.
use super::{ContentError, Facts, downward, object};
use crate::node::objects::{ObjectKey, ObjectKind, Subscriptions};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};
use std::collections::BTreeMap;

/// Variables by name; of a name that is given twice the later one counts, as with a kubelet.
pub(in crate::node) type Environment = BTreeMap<String, String>;

/// Computes a container's environment on top of `base` (what every container gets). Order: base, envFrom, env – each
/// overrides those before it, and a value may refer to variables that were defined before it.
pub(in crate::node) fn resolve(
    facts: &Facts<'_>,
    container: &Container,
    base: Environment,
    objects: &Subscriptions,
) -> Result<Environment, ContentError> {
    let mut environment = base;
    for source in container.env_from.iter().flatten() {
        extend(&mut environment, facts, source, objects)?;
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(
                variable.value.as_deref().unwrap_or_default(),
                &environment,
            )),
            Some(source) => value_from(facts, container, source, objects)?,
        };
        if let Some(value) = value {
            environment.insert(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

fn extend(
    environment: &mut Environment,
    facts: &Facts<'_>,
    source: &EnvFromSource,
    objects: &Subscriptions,
) -> Result<(), ContentError> {
    let (kind, name, optional) = match (&source.secret_ref, &source.config_map_ref) {
        (Some(secret), _) => (ObjectKind::Secret, &secret.name, secret.optional),
        (None, Some(map)) => (ObjectKind::ConfigMap, &map.name, map.optional),
        (None, None) => return Ok(()),
    };
    let key = object_key(facts, kind, name);
    let prefix = source.prefix.as_deref().unwrap_or_default();
    for (name, bytes) in object(objects, &key, optional)?
        .iter()
        .flat_map(|data| data.iter())
    {
        let value = text(bytes, &key, name)?;
        environment.insert(format!("{prefix}{name}"), value);
    }
    Ok(())
}

/// `None`: an optional key that is not there leaves the variable unset.
fn value_from(
    facts: &Facts<'_>,
    container: &Container,
    source: &EnvVarSource,
    objects: &Subscriptions,
) -> Result<Option<String>, ContentError> {
    if let Some(field) = &source.field_ref {
        return downward::field(facts, &field.field_path).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return downward::resource(facts.pod, Some(container), selector).map(Some);
    }
    let (kind, name, key, optional) = match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(from), _) => (ObjectKind::Secret, &from.name, &from.key, from.optional),
        (None, Some(from)) => (ObjectKind::ConfigMap, &from.name, &from.key, from.optional),
        (None, None) => return Ok(Some(String::new())),
    };
    let object_key = object_key(facts, kind, name);
    let Some(data) = object(objects, &object_key, optional)? else {
        return Ok(None);
    };
    match data.get(key) {
        Some(bytes) => text(bytes, &object_key, key).map(Some),
        None if optional == Some(true) => Ok(None),
        None => Err(ContentError::NoKey {
            object: object_key,
            key: key.clone(),
        }),
    }
}

fn object_key(facts: &Facts<'_>, kind: ObjectKind, name: &str) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: facts.pod.metadata.namespace.clone().unwrap_or_default(),
        name: name.to_owned(),
    }
}

/// A variable is text without NUL: neither a process nor the sandbox's option list could carry anything else.
fn text(bytes: &[u8], object: &ObjectKey, key: &str) -> Result<String, ContentError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(ContentError::NotText {
            object: object.clone(),
            key: key.to_owned(),
        }),
    }
}

/// Replaces `$(NAME)` by the variable's value. `$$` is one `$`, so `$$(NAME)` stays `$(NAME)`; a name that is not
/// defined, and anything else after a `$`, stays as it is.
pub(in crate::node) fn expand(text: &str, environment: &Environment) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|body| body.split_once(')')) {
            match environment.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use std::net::Ipv4Addr;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn references_are_expanded_and_everything_else_stays() {
        let env = environment(&[("A", "1"), ("EMPTY", "")]);
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(NONE)", "$(NONE)"),
            ("$(EMPTY)", ""),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("--at=$(A):80", "--at=1:80"),
            ("ü$(A)ü", "ü1ü"),
        ];
        for (given, expected) in cases {
            assert_eq!(expand(given, &env), expected, "{given}");
        }
    }

    fn resolved(env: serde_json::Value) -> Result<Environment, ContentError> {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "main", "env": env}]}
        }))
        .unwrap();
        let facts = Facts {
            pod: &pod,
            pod_ip: Ipv4Addr::new(127, 1, 16, 4),
            host_ip: Ipv4Addr::new(127, 1, 0, 1),
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        resolve(
            &facts,
            container,
            environment(&[("BASE", "b")]),
            &Subscriptions::default(),
        )
    }

    #[test]
    fn values_refer_to_what_was_defined_before_and_the_last_of_a_name_counts() {
        let env = resolved(serde_json::json!([
            {"name": "LATE", "value": "$(NEXT)"},
            {"name": "NEXT", "value": "$(BASE)/$(IP)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "USE", "value": "$(IP):80"},
            {"name": "BASE", "value": "first"},
            {"name": "BASE", "value": "$(BASE)+second"},
        ]))
        .unwrap();
        assert_eq!(env["LATE"], "$(NEXT)");
        assert_eq!(env["NEXT"], "b/$(IP)");
        assert_eq!(env["USE"], "127.1.16.4:80");
        assert_eq!(env["BASE"], "first+second");
    }

    #[test]
    fn an_object_that_is_not_known_yet_is_waited_for_by_name() {
        let error = resolved(serde_json::json!([
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
        ]))
        .unwrap_err();
        assert!(error.to_string().contains("Secret n/s"), "{error}");
    }

    #[test]
    fn a_value_with_a_nul_byte_is_refused() {
        let key = ObjectKey {
            kind: ObjectKind::Secret,
            namespace: "n".into(),
            name: "s".into(),
        };
        assert!(text(b"fine", &key, "k").is_ok());
        assert!(text(b"a\0--bind", &key, "k").is_err());
        assert!(text(&[0xff], &key, "k").is_err());
    }
}
