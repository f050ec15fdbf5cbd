#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Mutex};
use watcher::Event;

type Whole<F> = Watch<ConfigMap, ConfigMap, fn(Result<ConfigMap, Broken>) -> Option<ConfigMap>, F>;
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

fn whole<F: FnMut(Change<ConfigMap>) + Send>(store: Store<ConfigMap>, on_change: F) -> Whole<F> {
    Watch::new(
        "test".to_owned(),
        "ConfigMap".to_owned(),
        store,
        Result::ok,
        on_change,
    )
}

fn subject() -> (Whole<impl FnMut(Change<ConfigMap>) + Send>, Seen) {
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
    (whole(Store::new(), on_change), seen)
}

fn seen(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().unwrap())
}

fn list(watch: &mut Whole<impl FnMut(Change<ConfigMap>) + Send>, objects: &[Value]) {
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
    watch.failed(&watcher::Error::NoResourceVersion, 1, Duration::ZERO);
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
    let mut watch = whole(store.clone(), |_| panic!("as told"));
    list(&mut watch, &[object("a", "1", "10")]);
    assert!(store.is_synced());
    assert_eq!(store.len(), 1);
}

#[derive(Debug, Clone)]
enum Op {
    List {
        objects: Vec<(u8, u8, u8)>,
        complete: bool,
    },
    Apply {
        name: u8,
        uid: u8,
        version: u8,
        broken: bool,
    },
    Delete {
        name: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let objects = prop::collection::btree_map(0..5_u8, (0..3_u8, 0..4_u8), 0..5).prop_map(|objects| {
        objects
            .into_iter()
            .map(|(name, (uid, version))| (name, uid, version))
            .collect()
    });
    prop_oneof![
        (objects, any::<bool>()).prop_map(|(objects, complete)| Op::List { objects, complete }),
        (0..5_u8, 0..3_u8, 0..4_u8, prop::bool::weighted(0.2)).prop_map(|(name, uid, version, broken)| {
            Op::Apply {
                name,
                uid,
                version,
                broken,
            }
        }),
        (0..5_u8).prop_map(|name| Op::Delete { name }),
    ]
}

fn numbered(name: u8, uid: u8, version: u8) -> Value {
    object(&name.to_string(), &uid.to_string(), &version.to_string())
}

proptest! {
    /// Whoever replays the changes holds what the store holds; nothing leaves but by a DELETE or a complete list; an
    /// object that was replaced is reported as gone first.
    #[test]
    fn changes_tell_the_whole_truth(ops in prop::collection::vec(op(), 1..40)) {
        let replayed = Arc::new(Mutex::new(HashMap::<String, String>::new()));
        let replay = replayed.clone();
        let store = Store::<ConfigMap>::new();
        let mut watch = whole(store.clone(), move |change: Change<ConfigMap>| {
                let meta = &change.object().metadata;
                let (name, uid) = (meta.name.clone().unwrap(), meta.uid.clone().unwrap());
                let mut replay = replay.lock().unwrap();
                match change {
                    Change::Applied { old, .. } => {
                        let known = replay.insert(name, uid.clone());
                        assert_eq!(known.is_some(), old.is_some());
                        assert!(known.is_none_or(|known| known == uid), "replaced without a deletion");
                    }
                    Change::Deleted { .. } => assert_eq!(replay.remove(&name), Some(uid)),
                }
        });
        for op in ops {
            let before: HashSet<_> = store.all().iter().map(|map| map.name_any()).collect();
            let mut may_leave = HashSet::new();
            match op {
                Op::List { objects, complete } => {
                    watch.take(Event::Init);
                    for (name, uid, version) in &objects {
                        watch.take(Event::InitApply(decoded(numbered(*name, *uid, *version))));
                    }
                    if complete {
                        watch.take(Event::InitDone);
                        may_leave.extend(before.iter().cloned());
                        for (name, ..) in objects {
                            may_leave.remove(&name.to_string());
                        }
                    }
                }
                Op::Apply { name, uid, version, broken } => {
                    let mut value = numbered(name, uid, version);
                    if broken {
                        value["data"] = json!(7);
                    }
                    watch.take(Event::Apply(decoded(value)));
                }
                Op::Delete { name } => {
                    watch.take(Event::Delete(decoded(numbered(name, 0, 0))));
                    may_leave.insert(name.to_string());
                }
            }
            let held: HashMap<_, _> = store.all().iter().map(|map| (map.name_any(), map.uid().unwrap())).collect();
            prop_assert!(before.iter().all(|name| held.contains_key(name) || may_leave.contains(name)));
            prop_assert_eq!(&held, &*replayed.lock().unwrap());
        }
    }
}
