//! Generated values: passwords and keys that a service needs and nobody chooses. Made once, kept in a Secret on the
//! platform beside the Inventory, given to the provider as inputs, removed after everything that may use them.
//!
//! The Inventory names the Secret before it is made, and its UID afterwards. Making is a create and nothing else, so of
//! two who make it one loses, and takes what is there; the Secret is immutable. A value that was made and whose Secret
//! is gone is **not** made anew: that would change a password under a running service. It is said, what uses it stays
//! as it is, and a platform owner either restores the Secret or takes the value out of the Inventory's `spec.values`.
//!
//! Values come from the operating system's randomness, are in no log, status or Event, and are read from the watch that
//! there is anyhow: a pass with nothing to do sends nothing.
use crate::{
    access::{Credentials, Owner},
    inventories::Record,
    provider::ServiceProvider,
    world::World,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use openmcp_api::{
    Inventory,
    inventory::Value as Row,
    keys::{generated, labels},
    names,
};
use openmcp_reconcile::{Fault, Key, fault::Class};
use rand::{Rng, distr::Alphanumeric};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// How a value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generate {
    /// So many letters and digits: 24 of them are as good as 142 bits.
    Password(u8),
    /// So many bytes, as hexadecimal digits.
    Key(u8),
}

impl Generate {
    fn make(self) -> Generated {
        let mut random = rand::rng();
        let text: String = match self {
            Self::Password(length) => (0..length)
                .map(|_| char::from(random.sample(Alphanumeric)))
                .collect(),
            Self::Key(bytes) => (0..bytes)
                .map(|_| format!("{:02x}", random.random::<u8>()))
                .collect(),
        };
        Generated(text.into())
    }
}

/// A value that was made. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Generated(Arc<str>);

impl Generated {
    /// The value, for an object that keeps it secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generated(<hidden>)")
    }
}

/// The provider is told of a value that was made at once, and no faster than this.
const AGAIN: Duration = Duration::from_millis(200);

/// What is known of each value that was made: itself, or why it is lost.
pub(crate) type Known = BTreeMap<String, Result<Generated, String>>;

/// A value that a provider asked for and that was not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) name: String,
    pub(crate) how: Generate,
}

/// What a Secret holds, if it was made here for the owner with this UID.
pub(crate) fn held(secret: &Secret, provider: &str) -> Option<(String, Generated)> {
    let label = |key: &str| secret.labels().get(key);
    if secret.type_.as_deref() != Some(generated::TYPE)
        || label(labels::RUNTIME_PROVIDER) != Some(&names::label_value(provider))
    {
        return None;
    }
    let bytes = &secret.data.as_ref()?.get(generated::VALUE)?.0;
    let text = std::str::from_utf8(bytes).ok()?;
    Some((label(labels::RUNTIME_OWNER)?.clone(), Generated(text.into())))
}

/// A value is lost: nothing is changed by guesswork.
pub(crate) fn lost(why: String) -> Fault {
    Fault::invalid("GeneratedValueLost", why)
}

/// What was made for a service object. Sends nothing but when a Secret is not where it should be.
pub(crate) async fn known<P: ServiceProvider>(
    world: &World<P>,
    key: &Key,
    stored: Option<&Inventory>,
) -> Result<Known, Fault> {
    let mut known = Known::new();
    let Some(stored) = stored else { return Ok(known) };
    let (namespace, uid) = (stored.namespace().unwrap_or_default(), &stored.spec.owner.uid);
    for row in stored.spec.values.iter().filter(|row| row.uid.is_some()) {
        world
            .dependents
            .add(key, Credentials::SECRET, &namespace, &row.secret);
        let seen = world.requests.connections.generated(&namespace, &row.secret);
        let found = match seen.filter(|(of, _)| of == uid) {
            Some((_, value)) => Some(value),
            // The watch may not have shown it yet.
            None => {
                let live = get(&secrets(world, &namespace), &row.secret).await?;
                let held = live.and_then(|live| held(&live, world.names.provider));
                held.filter(|(of, _)| of == uid).map(|(_, value)| value)
            }
        };
        let why = || {
            format!(
                "generated value {}: Secret {namespace}/{} that held it is gone, and what uses it stays as it is: \
                 restore the Secret; or, for a new value, take this one out of spec.values of Inventory {namespace}/{}",
                row.name,
                row.secret,
                stored.name_any()
            )
        };
        known.insert(row.name.clone(), found.ok_or_else(why));
    }
    Ok(known)
}

/// Makes what was asked for. Returns when the provider is to be asked again.
pub(crate) async fn ensure<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
    asks: &[Ask],
) -> Result<Option<Duration>, Fault> {
    if asks.is_empty() {
        return Ok(None);
    }
    if !world.provider.access().generates {
        let message = "the provider asks for a generated value, but its access() does not";
        return Err(Fault::new(Class::Bug, "NoGeneratedValues", message));
    }
    let uid = record.owner_uid();
    let mut rows = record.values();
    let before = rows.len();
    for ask in asks {
        if !rows.iter().any(|row| row.name == ask.name) {
            rows.push(Row {
                name: ask.name.clone(),
                secret: format!(
                    "{}--{}",
                    names::label_value(&format!("{}--{}", world.names.provider, ask.name)),
                    names::name_hash(&[uid, &ask.name])
                ),
                uid: None,
            });
        }
    }
    if rows.len() > before {
        record.save_values(rows.clone()).await?;
    }
    let api = secrets(world, &owner.namespace);
    for row in &mut rows {
        if let Some(ask) = asks.iter().find(|ask| ask.name == row.name && row.uid.is_none()) {
            row.uid = Some(make(world, &api, &row.secret, uid, ask).await?);
        }
    }
    record.save_values(rows).await?;
    Ok(Some(AGAIN))
}

/// The UID of the Secret with the value: of a new one, or of the one that was there first.
async fn make<P: ServiceProvider>(
    world: &World<P>,
    api: &Api<Secret>,
    secret: &str,
    owner: &str,
    ask: &Ask,
) -> Result<String, Fault> {
    let doing = || format!("create Secret {secret} with the generated value {}", ask.name);
    let provider = names::label_value(world.names.provider);
    let value = ByteString(ask.how.make().as_str().as_bytes().to_vec());
    let object = Secret {
        metadata: ObjectMeta {
            name: Some(secret.to_owned()),
            labels: Some(BTreeMap::from([
                (labels::RUNTIME_OWNER.to_owned(), owner.to_owned()),
                (labels::RUNTIME_PROVIDER.to_owned(), provider),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some(generated::TYPE.to_owned()),
        immutable: Some(true),
        data: Some([(generated::VALUE.to_owned(), value)].into()),
        ..Secret::default()
    };
    let made = match api.create(&PostParams::default(), &object).await {
        Ok(made) => Some(made),
        // Somebody was first: this process before a crash, or one that leads no more.
        Err(kube::Error::Api(status)) if status.code == 409 => get(api, secret).await?,
        Err(error) => return Err(Fault::api(doing(), &error)),
    };
    let made = made.ok_or_else(|| Fault::retry("Conflict", format!("{}: it came and went", doing())))?;
    match held(&made, world.names.provider) {
        Some((of, _)) if of == owner => Ok(made.uid().unwrap_or_default()),
        _ => {
            let message = format!("{}: there is one that somebody else made", doing());
            Err(Fault::new(Class::Retry, "ForeignObject", message))
        }
    }
}

/// Removes the Secrets that an Inventory lists, and then their rows. `Ok` means gone.
pub(crate) async fn remove<P: ServiceProvider>(
    world: &World<P>,
    owner: &Owner<'_>,
    record: &Record<'_>,
) -> Result<(), Fault> {
    let (api, uid) = (secrets(world, &owner.namespace), record.owner_uid());
    for row in record.values() {
        let live = get(&api, &row.secret).await?;
        let ours = live.filter(|live| held(live, world.names.provider).is_some_and(|(of, _)| of == uid));
        let Some(live) = ours else { continue };
        let only = Preconditions {
            uid: live.uid(),
            resource_version: None,
        };
        let params = DeleteParams::background().preconditions(only);
        match api.delete(&row.secret, &params).await {
            Ok(done) if done.is_right() => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Fault::api(format_args!("delete Secret {}", row.secret), &error)),
            Ok(_) => {
                if get(&api, &row.secret).await?.is_some() {
                    let message = format!("waiting until Secret {} is gone", row.secret);
                    return Err(Fault::retry("DeletingObjects", message));
                }
            }
        }
    }
    Ok(())
}

fn secrets<P: ServiceProvider>(world: &World<P>, namespace: &str) -> Api<Secret> {
    Api::namespaced(world.requests.client.clone(), namespace)
}

async fn get(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, Fault> {
    let found = api.get_opt(name).await;
    found.map_err(|error| Fault::api(format_args!("read Secret {name}"), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_asked_for_differ_and_are_never_printed() {
        let (one, other) = (Generate::Password(24).make(), Generate::Password(24).make());
        assert_eq!(one.as_str().len(), 24);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
        assert_eq!(Generate::Key(32).make().as_str().len(), 64);
        assert_eq!(format!("{one:?}"), "Generated(<hidden>)");
    }
}
