#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::sync::Mutex;
use watcher::Event;

type Seen = Arc<Mutex<Vec<String>>>;

fn object(name: &str, uid: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
        "metadata": {
            "namespace": "a", "name": name, "uid": uid, "resourceVersion": version,
            "managedFields": [{"manager": "x", "operation": "Apply"}]
        }
    })
}

fn decoded(value: Value) -> Decoded<ConfigMap> {
    serde_json::from_value(value).unwrap()
}

fn subject() -> (Watch<ConfigMap, impl FnMut(Change<ConfigMap>) + Send>, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let on_change = move |change: Change<ConfigMap>| {
        let name = change.object().metadata.name.clone().unwrap();
        assert_eq!(change.object().metadata.managed_fields, None);
        log.lock().unwrap().push(match change {
            Change::Applied { old, first, .. } => {
                format!(
                    "{name} {}{}",
                    if old.is_some() { "changed" } else { "new" },
                    if first { " first" } else { "" }
                )
            }
            Change::Deleted { .. } => format!("{name} deleted"),
        });
    };
    let watch = Watch {
        cluster: "test".to_owned(),
        kind: "ConfigMap".to_owned(),
        metrics: WatchMetrics::new("ConfigMap"),
        store: Store::new(),
        listed: HashSet::new(),
        on_change,
    };
    (watch, seen)
}

fn seen(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().unwrap())
}

fn list(watch: &mut Watch<ConfigMap, impl FnMut(Change<ConfigMap>) + Send>, objects: &[Value]) {
    watch.take(Event::Init);
    for object in objects {
        watch.take(Event::InitApply(decoded(object.clone())));
    }
    watch.take(Event::InitDone);
}

#[test]
fn a_relist_reports_only_what_moved_and_deletes_only_when_complete() {
    let (mut watch, log) = subject();
    list(&mut watch, &[object("a", "1", "10"), object("b", "2", "11")]);
    assert_eq!(seen(&log), ["a new first", "b new first"]);
    assert!(watch.store.is_synced());

    watch.take(Event::Init);
    watch.take(Event::InitApply(decoded(object("a", "1", "12"))));
    assert_eq!(seen(&log), ["a changed"]);
    assert!(
        watch.store.get("a", "b").is_some(),
        "an incomplete list says nothing of b"
    );
    list(&mut watch, &[object("a", "1", "12")]);
    assert_eq!(seen(&log), ["b deleted"]);
}

#[test]
fn another_uid_under_the_name_is_a_deletion_and_a_new_object() {
    let (mut watch, log) = subject();
    list(&mut watch, &[object("a", "1", "10")]);
    seen(&log);
    list(&mut watch, &[object("a", "2", "20")]);
    assert_eq!(seen(&log), ["a deleted", "a new"]);
}

#[test]
fn an_object_that_cannot_be_decoded_is_kept_as_it_was_and_named() {
    let (mut watch, log) = subject();
    list(&mut watch, &[object("a", "1", "10"), object("b", "2", "11")]);
    seen(&log);
    let mut broken = object("a", "1", "12");
    *broken.pointer_mut("/data").unwrap() = json!("not a map");
    watch.take(Event::Apply(decoded(broken.clone())));
    list(&mut watch, &[broken]);
    assert_eq!(seen(&log), ["b deleted"]);
    assert_eq!(
        watch
            .store
            .get("a", "a")
            .unwrap()
            .metadata
            .resource_version
            .as_deref(),
        Some("10")
    );
    assert_eq!(watch.store.undecodable()[0].name, "a");
    watch.take(Event::Apply(decoded(object("a", "1", "13"))));
    assert_eq!(seen(&log), ["a changed"]);
    assert!(watch.store.undecodable().is_empty());
}

#[test]
fn trouble_is_said_until_the_watch_works_again() {
    let (mut watch, _log) = subject();
    let wait = watch.failed(&watcher::Error::NoResourceVersion, 1);
    assert!(wait <= Duration::from_millis(400));
    assert!(watch.store.trouble().is_some());
    watch.take(Event::Init);
    assert!(
        watch.store.trouble().is_some(),
        "a list that starts proves nothing"
    );
    watch.take(Event::InitDone);
    assert_eq!(watch.store.trouble(), None);
}

#[test]
fn a_panic_of_the_observer_costs_one_change() {
    let store = Store::new();
    let mut watch = Watch {
        cluster: "test".to_owned(),
        kind: "ConfigMap".to_owned(),
        metrics: WatchMetrics::new("ConfigMap"),
        store: store.clone(),
        listed: HashSet::new(),
        on_change: |_: Change<ConfigMap>| panic!("as told"),
    };
    list(&mut watch, &[object("a", "1", "10")]);
    assert!(store.is_synced());
    assert_eq!(store.len(), 1);
}
