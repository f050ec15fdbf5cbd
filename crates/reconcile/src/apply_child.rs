//! Applying one child: whose it is is decided before force is used (runtime design §3).
//!
//! | recorded UID | live object | what is sent | outcome |
//! |---|---|---|---|
//! | no | absent | apply, force=false, resourceVersion 1 | 201: ours |
//! | no | bears our mark | apply, its UID, force=true | ours again, after a crash before its UID was written |
//! | no | foreign | the same; it answers 409 and changes nothing | `ForeignObject`, unless adoption is allowed |
//! | yes | same UID | apply, UID, force=true | 200 |
//! | yes | absent or another UID | the same; it answers 409 or 422 | as without a UID |
//!
//! Objects are never made by POST: that would leave a second owner of each field that never lets go.
use crate::{
    Fault,
    apply::Mark,
    children::{Address, Adoption, RENEW_ANNOTATION},
    digest::{EXACT_ANNOTATION, IGNORE_ANNOTATION, is_apply_entry, is_named, managed_fields, segments},
    raw,
    request::Answer,
};
use http::StatusCode;
use serde_json::{Value, json};

/// One child to be applied, and by whom.
pub(crate) struct Target<'a> {
    pub(crate) client: &'a kube::Client,
    pub(crate) address: &'a Address,
    pub(crate) manager: &'a str,
    /// Who it belongs to. The object to be applied bears it.
    pub(crate) mark: &'a Mark,
}

/// How an object that is already there is dealt with.
pub(crate) struct Terms<'a> {
    pub(crate) adoption: Adoption,
    /// Paths whose live value is kept.
    pub(crate) ignored: Vec<&'a str>,
}

impl Target<'_> {
    /// Applies `object`, which is recorded under `uid` if it was made before. Returns the live object as it is now.
    pub(crate) async fn apply(
        &self,
        object: &Value,
        uid: Option<&str>,
        terms: &Terms<'_>,
    ) -> Result<Value, Fault> {
        if let Some(uid) = uid
            && let Some(live) = self.apply_known(object, uid, terms).await?
        {
            return Ok(live);
        }
        if let Some(created) = self.create(object).await? {
            return Ok(created);
        }
        let Some(meta) = raw::get_metadata(self.client, self.address).await? else {
            return Err(self.changed_meanwhile());
        };
        let uid = self.claim(&meta, terms.adoption)?;
        match self.apply_known(object, uid, terms).await? {
            Some(live) => Ok(live),
            None => Err(self.changed_meanwhile()),
        }
    }

    /// `None`: there is no such object under that UID.
    async fn apply_known(
        &self,
        object: &Value,
        uid: &str,
        terms: &Terms<'_>,
    ) -> Result<Option<Value>, Fault> {
        let mut object = object.clone();
        object["metadata"]["uid"] = Value::from(uid);
        if !terms.ignored.is_empty() {
            let live = raw::get(self.client, self.address).await?;
            let Some(live) = live.filter(|live| live["metadata"]["uid"] == uid) else {
                return Ok(None);
            };
            terms
                .ignored
                .iter()
                .for_each(|path| keep_live(&mut object, &live, &segments(path)));
            object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        let answer = self.send(true, &object).await?;
        if answer.status.is_success() {
            return answer.into_success(self.doing()).map(Some);
        }
        // 409 where the object is absent, 422 about metadata.uid where another one has its name: both are this.
        let fault = answer.fault(self.doing());
        if fault.reason != "Conflict" {
            return Err(fault);
        }
        match raw::get_metadata(self.client, self.address).await? {
            Some(meta) if meta["metadata"]["uid"] == uid => Err(fault),
            _ => Ok(None),
        }
    }

    /// Makes the object if there is none, and never touches one that is there: no object has resourceVersion 1, so
    /// the API server answers 409 for any that exists. `None`: there is one.
    async fn create(&self, object: &Value) -> Result<Option<Value>, Fault> {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = Value::from("1");
        let answer = self.send(false, &object).await?;
        match answer.status {
            StatusCode::CREATED => answer.into_success(self.doing()).map(Some),
            StatusCode::CONFLICT => Ok(None),
            _ => Err(answer.fault(self.doing())),
        }
    }

    /// The UID of an object that was found under our name, if it is ours or may be taken.
    fn claim<'m>(&self, meta: &'m Value, adoption: Adoption) -> Result<&'m str, Fault> {
        if !meta["metadata"]["deletionTimestamp"].is_null() {
            return Err(Fault::retry(
                "Terminating",
                format!("{} is being deleted; it is made again after", self.address),
            ));
        }
        if !self.is_marked(meta) && adoption == Adoption::Refuse {
            let owners: Vec<&str> = managed_fields(meta)
                .filter_map(|entry| entry["manager"].as_str())
                .collect();
            let owners = if owners.is_empty() {
                "unknown".to_owned()
            } else {
                owners.join(", ")
            };
            let message = format!(
                "{} already exists and is not ours (managed by {owners}): remove or rename it, it is left as it is",
                self.address
            );
            return Err(Fault::retry("ForeignObject", message));
        }
        meta["metadata"]["uid"]
            .as_str()
            .ok_or_else(|| self.changed_meanwhile())
    }

    /// Removes what others added at exact paths of the live object `body`. Returns what is live then.
    pub(crate) async fn trim(&self, body: &Value, removals: Vec<Value>) -> Result<Value, Fault> {
        let version = &body["metadata"]["resourceVersion"];
        let mut patch = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        patch.extend(removals);
        let answer = raw::patch(self.client, self.address, self.manager, &Value::Array(patch)).await?;
        match answer.status {
            // It changed since it was read: what it is now will be compared anew.
            StatusCode::UNPROCESSABLE_ENTITY => Err(self.changed_meanwhile()),
            _ => answer.into_success(format!("patch {}", self.address)),
        }
    }

    /// Gives up the live object `body`: it stays what it is, without our marks and without our manager among the
    /// owners of its fields. (An apply of nothing would take the fields along.) `selected` is the label that watches
    /// select by.
    pub(crate) async fn release(&self, body: &Value, selected: &str) -> Result<(), Fault> {
        let patch = given_up(body, self.manager, &[self.mark.label, selected]);
        match self.trim(body, patch).await {
            Err(fault) if fault.reason == "NotFound" => Ok(()),
            released => released.map(drop),
        }
    }

    /// Whether a live object bears the mark of our owner.
    pub(crate) fn is_marked(&self, meta: &Value) -> bool {
        meta["metadata"]["labels"][self.mark.label] == self.mark.value.as_str()
    }

    /// Whether a live object bears the mark of another owner whose objects our manager applies, too: it was taken over
    /// since. A mark that somebody else wrote says nothing.
    pub(crate) fn is_marked_for_another(&self, meta: &Value) -> bool {
        let label = format!("f:{}", self.mark.label);
        let applied = |entry: &Value| {
            is_apply_entry(entry, self.manager)
                && !entry["fieldsV1"]["f:metadata"]["f:labels"][&label].is_null()
        };
        !meta["metadata"]["labels"][self.mark.label].is_null()
            && !self.is_marked(meta)
            && managed_fields(meta).any(applied)
    }

    /// Whether our manager applied anything to a live object.
    pub(crate) fn has_applied(&self, meta: &Value) -> bool {
        managed_fields(meta).any(|entry| is_apply_entry(entry, self.manager))
    }

    async fn send(&self, force: bool, object: &Value) -> Result<Answer, Fault> {
        raw::apply(self.client, self.address, self.manager, force, object).await
    }

    fn doing(&self) -> String {
        format!("apply {}", self.address)
    }

    fn changed_meanwhile(&self) -> Fault {
        Fault::retry(
            "Conflict",
            format!("{} changed while it was being applied", self.address),
        )
    }
}

/// The operations that take our labels, our annotations and our manager off an object.
fn given_up(body: &Value, manager: &str, labels: &[&str]) -> Vec<Value> {
    let remove = |field: &str, keys: &[&str]| {
        let held = &body["metadata"][field];
        let held = keys.iter().filter(|key| !held[**key].is_null());
        let path = |key: &&&str| format!("/metadata/{field}/{}", key.replace('~', "~0").replace('/', "~1"));
        let operations = held.map(|key| json!({"op": "remove", "path": path(&key)}));
        operations.collect::<Vec<_>>()
    };
    let others: Vec<&Value> = managed_fields(body)
        .filter(|entry| !is_apply_entry(entry, manager))
        .collect();
    // An empty list would be ignored; a list with an empty entry means none.
    let others = if others.is_empty() {
        json!([{}])
    } else {
        json!(others)
    };
    let mut patch = remove("labels", labels);
    patch.extend(remove(
        "annotations",
        &[IGNORE_ANNOTATION, EXACT_ANNOTATION, RENEW_ANNOTATION],
    ));
    patch.push(json!({"op": "add", "path": "/metadata/managedFields", "value": others}));
    patch
}

/// Puts the live value at `path` in place of ours. A list item is named by the value of its key.
fn keep_live(ours: &mut Value, live: &Value, path: &[&str]) {
    let Some((segment, rest)) = path.split_first() else {
        return;
    };
    match (ours, live) {
        (Value::Object(ours), Value::Object(live)) => match (ours.get_mut(*segment), live.get(*segment)) {
            (Some(ours), Some(live)) if rest.is_empty() => *ours = live.clone(),
            (Some(ours), Some(live)) => keep_live(ours, live, rest),
            (Some(_), None) if rest.is_empty() => drop(ours.remove(*segment)),
            _ => {}
        },
        (Value::Array(ours), Value::Array(live)) => {
            if let (Some(ours), Some(live)) = (
                ours.iter_mut().find(|item| is_named(item, segment)),
                live.iter().find(|item| is_named(item, segment)),
            ) {
                keep_live(ours, live, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_keeps_its_fields_and_loses_our_marks_only() {
        let ours = json!({"manager": "us", "operation": "Apply", "fieldsV1": {}});
        let theirs = json!({"manager": "them", "operation": "Update", "fieldsV1": {}});
        let mut body = json!({"metadata": {
            "labels": {"a/owner": "1", "app": "x"}, "annotations": {"note": "stays"},
            "managedFields": [ours, theirs],
        }});
        let patch = given_up(&body, "us", &["a/owner", "a/provider"]);
        assert_eq!(
            json!(patch),
            json!([
                {"op": "remove", "path": "/metadata/labels/a~1owner"},
                {"op": "add", "path": "/metadata/managedFields", "value": [theirs]},
            ])
        );
        body["metadata"]["managedFields"] = json!([ours]);
        assert_eq!(given_up(&body, "us", &[])[0]["value"], json!([{}]));
    }

    #[test]
    fn an_ignored_path_keeps_its_live_value() {
        let mut ours = json!({"spec": {"replicas": 1, "containers": [{"name": "kro", "image": "a"}]}});
        let live =
            json!({"spec": {"replicas": 3, "containers": [{"name": "side"}, {"name": "kro", "image": "b"}]}});
        keep_live(&mut ours, &live, &["spec", "replicas"]);
        keep_live(&mut ours, &live, &["spec", "containers", "kro", "image"]);
        assert_eq!(
            ours,
            json!({"spec": {"replicas": 3, "containers": [{"name": "kro", "image": "b"}]}})
        );
    }

    #[test]
    fn an_ignored_path_that_somebody_removed_is_not_put_back() {
        let mut ours = json!({"spec": {"replicas": 1}});
        keep_live(&mut ours, &json!({"spec": {}}), &["spec", "replicas"]);
        assert_eq!(ours, json!({"spec": {}}));
    }
}
