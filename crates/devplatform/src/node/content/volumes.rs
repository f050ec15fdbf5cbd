//! A pod's volumes as plans, and the files that a plan comes to now. Pure.
use super::{
    ContentError, Facts, downward, object,
    swap::{File, Payload},
};
use crate::node::{
    folders::PodFolders,
    objects::{ObjectKey, ObjectKind, Subscriptions},
};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Volume, VolumeProjection,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

const DEFAULT_MODE: i32 = 0o644;
const DEFAULT_TOKEN_SECONDS: i64 = 3_600;

/// Where a volume's content comes from. What is not here is refused before a pod gets this far.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Empty { in_memory: bool },
    Rendered { parts: Vec<Part>, default_mode: i32 },
}

/// One part of a rendered volume. Secret, ConfigMap and downward API volumes have one, projected ones have many.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Object {
        key: ObjectKey,
        items: Option<Vec<KeyToPath>>,
        optional: Option<bool>,
    },
    Downward(Vec<DownwardAPIVolumeFile>),
    Token(TokenPart),
}

/// A service account token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenPart {
    pub(super) path: String,
    pub(super) audience: Option<String>,
    pub(super) seconds: i64,
}

/// The pod's volumes by name.
pub(super) fn plan(pod: &Pod) -> BTreeMap<String, Source> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| Some((volume.name.clone(), source(volume, &namespace)?)))
        .collect()
}

fn source(volume: &Volume, namespace: &str) -> Option<Source> {
    let object = |kind, name: &str| ObjectKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let (parts, mode) = if let Some(secret) = &volume.secret {
        let part = Part::Object {
            key: object(
                ObjectKind::Secret,
                secret.secret_name.as_deref().unwrap_or_default(),
            ),
            items: secret.items.clone(),
            optional: secret.optional,
        };
        (vec![part], secret.default_mode)
    } else if let Some(map) = &volume.config_map {
        let part = Part::Object {
            key: object(ObjectKind::ConfigMap, &map.name),
            items: map.items.clone(),
            optional: map.optional,
        };
        (vec![part], map.default_mode)
    } else if let Some(downward) = &volume.downward_api {
        let part = Part::Downward(downward.items.clone().unwrap_or_default());
        (vec![part], downward.default_mode)
    } else if let Some(projected) = &volume.projected {
        let sources = projected.sources.iter().flatten();
        let parts = sources.filter_map(|source| part(source, &object)).collect();
        (parts, projected.default_mode)
    } else {
        // A volume without any source is an emptyDir.
        let medium = volume.empty_dir.as_ref().and_then(|dir| dir.medium.as_deref());
        return Some(Source::Empty {
            in_memory: medium == Some("Memory"),
        });
    };
    Some(Source::Rendered {
        parts,
        default_mode: mode.unwrap_or(DEFAULT_MODE),
    })
}

fn part(source: &VolumeProjection, object: &dyn Fn(ObjectKind, &str) -> ObjectKey) -> Option<Part> {
    if let Some(secret) = &source.secret {
        return Some(Part::Object {
            key: object(ObjectKind::Secret, &secret.name),
            items: secret.items.clone(),
            optional: secret.optional,
        });
    }
    if let Some(map) = &source.config_map {
        return Some(Part::Object {
            key: object(ObjectKind::ConfigMap, &map.name),
            items: map.items.clone(),
            optional: map.optional,
        });
    }
    if let Some(downward) = &source.downward_api {
        return Some(Part::Downward(downward.items.clone().unwrap_or_default()));
    }
    source.service_account_token.as_ref().map(|token| {
        Part::Token(TokenPart {
            path: token.path.clone(),
            audience: token.audience.clone().filter(|audience| !audience.is_empty()),
            seconds: token.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
        })
    })
}

/// A folder and its place in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::node) struct Mount {
    pub(in crate::node) folder: PathBuf,
    pub(in crate::node) place: String,
    pub(in crate::node) read_only: bool,
}

/// A container's volume mounts. Rendered volumes are always read-only.
pub(in crate::node) fn mounts(pod: &Pod, container: &Container, folders: &PodFolders) -> Vec<Mount> {
    let plan = plan(pod);
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .filter_map(|mount| {
            let (folder, rendered) = match plan.get(&mount.name)? {
                Source::Empty { in_memory } => (folders.empty_dir(&mount.name, *in_memory), false),
                Source::Rendered { .. } => (folders.rendered(&mount.name), true),
            };
            Some(Mount {
                folder,
                place: mount.mount_path.clone(),
                read_only: rendered || mount.read_only == Some(true),
            })
        })
        .collect()
}

/// Every object that the pod's volumes and environments refer to.
pub(in crate::node) fn references(pod: &Pod) -> BTreeSet<ObjectKey> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut keys: BTreeSet<ObjectKey> = plan(pod)
        .into_values()
        .flat_map(|source| match source {
            Source::Rendered { parts, .. } => parts,
            Source::Empty { .. } => Vec::new(),
        })
        .filter_map(|part| match part {
            Part::Object { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    for (kind, name) in pod.spec.iter().flat_map(environment_references) {
        keys.insert(ObjectKey {
            kind,
            namespace: namespace.clone(),
            name,
        });
    }
    keys
}

fn environment_references(spec: &PodSpec) -> Vec<(ObjectKind, String)> {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut found = Vec::new();
    for container in containers {
        for source in container.env_from.iter().flatten() {
            found.extend(
                source
                    .secret_ref
                    .iter()
                    .map(|from| (ObjectKind::Secret, from.name.clone())),
            );
            found.extend(
                source
                    .config_map_ref
                    .iter()
                    .map(|from| (ObjectKind::ConfigMap, from.name.clone())),
            );
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|env| env.value_from.as_ref())
        {
            found.extend(
                source
                    .secret_key_ref
                    .iter()
                    .map(|from| (ObjectKind::Secret, from.name.clone())),
            );
            found.extend(
                source
                    .config_map_key_ref
                    .iter()
                    .map(|from| (ObjectKind::ConfigMap, from.name.clone())),
            );
        }
    }
    found
}

/// The files of a rendered volume. `tokens` holds one token for each [`TokenPart`].
pub(super) fn payload(
    facts: &Facts<'_>,
    parts: &[Part],
    default_mode: i32,
    objects: &Subscriptions,
    tokens: &BTreeMap<TokenPart, String>,
) -> Result<Payload, ContentError> {
    let mut payload = Payload::new();
    let mut put = |path: &str, bytes: Vec<u8>, mode: Option<i32>| {
        let mode = u32::try_from(mode.unwrap_or(default_mode)).unwrap_or(0o644);
        payload.insert(path.to_owned(), File { bytes, mode });
    };
    for part in parts {
        match part {
            Part::Object { key, items, optional } => {
                let Some(data) = object(objects, key, *optional)? else {
                    continue;
                };
                let Some(items) = items else {
                    data.iter()
                        .for_each(|(name, bytes)| put(name, bytes.clone(), None));
                    continue;
                };
                for item in items {
                    match data.get(&item.key) {
                        Some(bytes) => put(&item.path, bytes.clone(), item.mode),
                        None if *optional == Some(true) => {}
                        None => {
                            return Err(ContentError::NoKey {
                                object: key.clone(),
                                key: item.key.clone(),
                            });
                        }
                    }
                }
            }
            Part::Downward(files) => {
                for file in files {
                    put(&file.path, downward_file(facts, file)?.into_bytes(), file.mode);
                }
            }
            Part::Token(token) => {
                let text = tokens.get(token).cloned().unwrap_or_default();
                put(&token.path, text.into_bytes(), None);
            }
        }
    }
    Ok(payload)
}

fn downward_file(facts: &Facts<'_>, file: &DownwardAPIVolumeFile) -> Result<String, ContentError> {
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), _) => downward::field(facts, &field.field_path),
        (None, Some(selector)) => downward::resource(facts.pod, None, selector),
        (None, None) => Ok(String::new()),
    }
}
