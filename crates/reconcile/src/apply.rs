//! The apply engine (runtime design §3): server-side apply with ownership decided before force is used.
//!
//! [`upsert`] is for objects that a controller makes on its own cluster under names that only it uses; children
//! of tenants go through [`crate::children`] and the inventory.
//!
//! How ownership is decided without touching what is not ours: a server-side apply creates what does not exist, so
//! a create is sent with a resourceVersion that no object can have; the API server then answers 201, or 409 for any
//! object that exists. An update is sent with the UID that was looked at, so that it cannot land on a successor.
mod compare;
pub(crate) mod target;

use crate::{
    Fault,
    children::wanted::{drop_nulls, encode_string_data},
    request::{APPLY, Answer, JSON, METADATA_ONLY, Sent, send},
};
use compare::is_current;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use target::Target;

/// What a DELETE came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// A GET answered 404 or another UID: the object is gone.
    Gone,
    /// The object still exists (finalizers, graceful deletion).
    Waiting,
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// They are collected after it.
    #[default]
    Background,
    /// They are gone before it is.
    Foreground,
    /// They stay.
    Orphan,
}

/// Who an object belongs to, as marked by a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The label's key.
    pub label: &'static str,
    /// The label's value.
    pub value: String,
}

impl Mark {
    /// The object bears this mark.
    pub fn is_on(&self, object: &Value) -> bool {
        object["metadata"]["labels"][self.label] == self.value.as_str()
    }

    /// The annotation that holds the hash of what was applied last: `applied` under the label's domain.
    fn annotation(&self) -> String {
        match self.label.split_once('/') {
            Some((domain, _)) => format!("{domain}/applied"),
            None => "applied".to_owned(),
        }
    }
}

/// Applies `object` (apiVersion, kind, metadata.name required) with `manager` and makes sure that it is ours:
/// an object that exists is ours only if it bears `mark`, or lost it and was applied by `manager`; else a `Conflict`
/// fault names the foreign object and nothing is changed. The mark is added to the object's labels. Nulls are dropped,
/// and a Secret's `stringData` becomes `data`. Returns the live object.
///
/// Reads the object first (one request), and writes only when something would change. Where a watch holds the live
/// object, [`upsert_if_changed`] saves the read.
///
/// ```no_run
/// use openmcp_reconcile::apply::{Mark, upsert};
/// # async fn example(client: kube::Client) -> Result<(), openmcp_reconcile::Fault> {
/// let mark = Mark { label: "example.com/managed-by", value: "me".to_owned() };
/// let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "project-a"}});
/// let live = upsert(&client, "me", &mark, object).await?;
/// println!("{}", live["metadata"]["uid"]);
/// # Ok(())
/// # }
/// ```
pub async fn upsert(
    client: &kube::Client,
    manager: &str,
    mark: &Mark,
    object: Value,
) -> Result<Value, Fault> {
    let mut target = Target::of(&object)?;
    let desired = Desired::new(manager, mark, object);
    let answer = target.get(client, JSON, &format!("read {target}")).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return create(client, &mut target, &desired).await;
    }
    let live = answer.into_success(format!("read {target}"))?;
    if is_current(&live, &desired.object) {
        return Ok(live);
    }
    update(client, &target, &desired, &live).await
}

/// [`upsert`] for callers who hold the live object, from a watch's [`crate::watch::Store`] (`None`: the synced
/// store has none). `Ok(None)`: it is as desired, nothing was sent. What was desired last is remembered as a hash in
/// an annotation beside the mark, so that a field that is not desired any more is a change, too.
pub async fn upsert_if_changed(
    client: &kube::Client,
    manager: &str,
    mark: &Mark,
    live: Option<&impl Serialize>,
    object: Value,
) -> Result<Option<Value>, Fault> {
    let Some(live) = live else {
        let mut target = Target::of(&object)?;
        return create(client, &mut target, &Desired::new(manager, mark, object))
            .await
            .map(Some);
    };
    let target = Target::of(&object)?;
    let live = serde_json::to_value(live).map_err(|error| Fault::bug(format!("read {target}: {error}")))?;
    let desired = Desired::new(manager, mark, object);
    if is_current(&live, &desired.object) {
        return Ok(None);
    }
    update(client, &target, &desired, &live).await.map(Some)
}

/// An object as it is sent.
struct Desired<'a> {
    manager: &'a str,
    mark: &'a Mark,
    object: Value,
}

impl<'a> Desired<'a> {
    /// Adds the mark, and the hash of what is desired.
    fn new(manager: &'a str, mark: &'a Mark, mut object: Value) -> Self {
        drop_nulls(&mut object);
        if object["kind"] == "Secret" {
            encode_string_data(&mut object);
        }
        object["metadata"]["labels"][mark.label] = mark.value.as_str().into();
        let hash = compare::hash(&object);
        object["metadata"]["annotations"][mark.annotation()] = hash.into();
        Self {
            manager,
            mark,
            object,
        }
    }

    async fn apply(
        &self,
        client: &kube::Client,
        target: &Target,
        field: &str,
        value: &str,
        force: bool,
    ) -> Result<Answer, Fault> {
        let mut object = self.object.clone();
        object["metadata"][field] = value.into();
        let path = format!("{}?fieldManager={}&force={force}", target.path(), self.manager);
        let sent = Sent {
            body: Some((APPLY, &object)),
            ..Sent::default()
        };
        send(client, Method::PATCH, &path, sent, &format!("apply {target}")).await
    }
}

/// Creates, and never touches what exists. A lost race is decided by looking once more.
async fn create(client: &kube::Client, target: &mut Target, desired: &Desired<'_>) -> Result<Value, Fault> {
    let mut answer = desired
        .apply(client, target, "resourceVersion", "1", false)
        .await?;
    if answer.status == StatusCode::NOT_FOUND && target.correct(client).await? {
        answer = desired
            .apply(client, target, "resourceVersion", "1", false)
            .await?;
    }
    if answer.status != StatusCode::CONFLICT {
        return answer.into_success(format!("create {target}"));
    }
    let live = target
        .get(client, JSON, &format!("read {target}"))
        .await?
        .into_success(format!("read {target}"))?;
    if is_current(&live, &desired.object) {
        return Ok(live);
    }
    update(client, target, desired, &live).await
}

/// Takes over the fields of an object that is ours.
async fn update(
    client: &kube::Client,
    target: &Target,
    desired: &Desired<'_>,
    live: &Value,
) -> Result<Value, Fault> {
    if !desired.mark.is_on(live) && !has_lost_mark(client, target, desired, live).await? {
        return Err(Fault::retry(
            "Conflict",
            format!(
                "{target} exists and is not ours (it lacks the label {}={}): delete or rename it, or add the label",
                desired.mark.label, desired.mark.value
            ),
        ));
    }
    let Some(uid) = live["metadata"]["uid"].as_str() else {
        return Err(Fault::bug(format!("apply {target}: the live object has no UID")));
    };
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return Err(Fault::retry(
            "Terminating",
            format!("{target} is being deleted: it is made again afterwards"),
        ));
    }
    desired
        .apply(client, target, "uid", uid, true)
        .await?
        .into_success(format!("apply {target}"))
}

/// Somebody removed the mark from an object that we applied: it bears no other value of the label, and our manager's
/// apply entry. Stores hold no managedFields, so the object is read.
async fn has_lost_mark(
    client: &kube::Client,
    target: &Target,
    desired: &Desired<'_>,
    live: &Value,
) -> Result<bool, Fault> {
    if !live["metadata"]["labels"][desired.mark.label].is_null() {
        return Ok(false);
    }
    let doing = format!("read who applied {target}");
    let sent = Sent {
        accept: Some(METADATA_ONLY),
        ..Sent::default()
    };
    let answer = send(client, Method::GET, &target.path(), sent, &doing).await?;
    let now = answer.into_success(&doing)?;
    let entries = now["metadata"]["managedFields"].as_array();
    let applied = entries.into_iter().flatten().any(|entry| {
        entry["manager"] == desired.manager && entry["operation"] == "Apply" && entry["subresource"].is_null()
    });
    Ok(applied && now["metadata"]["uid"] == live["metadata"]["uid"])
}

/// Deletes by UID precondition, Background propagation, and tells by a GET whether it is gone. Another UID under
/// the name, or no object, is `Gone`. Whatever else the API server answers (401, 403, nothing) is an error.
pub async fn delete(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> Result<Deletion, Fault> {
    delete_with(
        client,
        api_version,
        kind,
        namespace,
        name,
        uid,
        Propagation::Background,
    )
    .await
}

/// [`delete`] with another propagation: Foreground where the dependents must be gone first (a Job's pods).
pub async fn delete_with(
    client: &kube::Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
    propagation: Propagation,
) -> Result<Deletion, Fault> {
    let mut target = Target::new(api_version, kind, namespace, name)?;
    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": uid},
        "propagationPolicy": format!("{propagation:?}"),
    });
    let mut corrected = false;
    loop {
        let sent = Sent {
            body: Some((JSON, &options)),
            ..Sent::default()
        };
        let doing = format!("delete {target}");
        let answer = send(client, Method::DELETE, &target.path(), sent, &doing).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::CONFLICT => break,
            StatusCode::NOT_FOUND if answer.is_absent(name) => return Ok(Deletion::Gone),
            StatusCode::NOT_FOUND if !corrected && target.correct(client).await? => corrected = true,
            StatusCode::NOT_FOUND if target.kind_is_gone(client).await? => return Ok(Deletion::Gone),
            _ => return Err(answer.fault(doing)),
        }
    }
    let doing = format!("confirm that {target} is gone");
    let answer = target.get(client, METADATA_ONLY, &doing).await?;
    if answer.is_absent(name) {
        return Ok(Deletion::Gone);
    }
    let live = answer.into_success(&doing)?;
    Ok(if live["metadata"]["uid"] == uid {
        Deletion::Waiting
    } else {
        Deletion::Gone
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: &T) {}

    /// Reconcilers' futures must be Send; they hold these.
    #[tokio::test]
    async fn futures_can_be_sent_between_threads() {
        let client = kube::Client::new(
            tower::service_fn(async |_: http::Request<kube::client::Body>| {
                Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
            }),
            "default",
        );
        let mark = Mark {
            label: "a/b",
            value: "c".to_owned(),
        };
        is_send(&upsert(&client, "m", &mark, json!({})));
        is_send(&upsert_if_changed(&client, "m", &mark, None::<&Value>, json!({})));
        is_send(&delete(&client, "v1", "Secret", None, "x", "uid"));
    }

    #[test]
    fn what_is_sent_is_what_the_api_server_stores() {
        let mark = Mark {
            label: "example.com/owner",
            value: "us".to_owned(),
        };
        let secret =
            json!({"kind": "Secret", "metadata": {"name": "x", "labels": null}, "stringData": {"k": "v"}});
        let desired = Desired::new("m", &mark, secret).object;
        assert_eq!(desired["data"], json!({"k": "dg=="}));
        assert_eq!(desired.get("stringData"), None);
        assert_eq!(desired["metadata"]["labels"], json!({"example.com/owner": "us"}));
        assert!(desired["metadata"]["annotations"]["example.com/applied"].is_string());
    }
}
