//! Entries as the engine has them and as the object stores them.
use openmcp_api::inventory::{DeletionPolicy, Entry as Row};
use openmcp_reconcile::{
    children::Wave,
    digest::Digest,
    inventory::{Entry, Id},
};

const WAVES: [Wave; 5] = Wave::ALL;

pub(super) fn to_entry(row: &Row) -> Option<Entry> {
    let parse = |text: &Option<String>| text.as_deref().and_then(Digest::parse);
    Some(Entry {
        id: Id {
            cluster: row.cluster.clone(),
            group: row.group.clone(),
            kind: row.kind.clone(),
            namespace: row.namespace.clone().unwrap_or_default(),
            name: row.name.clone(),
        },
        version: row.version.clone(),
        uid: row.uid.clone(),
        wave: *WAVES
            .get(usize::try_from(row.wave).ok()?)
            .unwrap_or(&Wave::Config),
        desired: parse(&row.desired_hash),
        live: parse(&row.live_digest),
        orphan: row.policy == DeletionPolicy::Orphan,
    })
}

pub(super) fn to_row(entry: &Entry) -> Row {
    let wave = WAVES
        .iter()
        .position(|wave| *wave == entry.wave)
        .unwrap_or_default();
    Row {
        cluster: entry.id.cluster.clone(),
        group: entry.id.group.clone(),
        version: entry.version.clone(),
        kind: entry.id.kind.clone(),
        namespace: Some(entry.id.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: entry.id.name.clone(),
        uid: entry.uid.clone(),
        wave: i32::try_from(wave).unwrap_or_default(),
        desired_hash: entry.desired.map(|digest| digest.to_string()),
        live_digest: entry.live.map(|digest| digest.to_string()),
        policy: if entry.orphan {
            DeletionPolicy::Orphan
        } else {
            DeletionPolicy::Delete
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_storage() {
        let row = Row {
            cluster: "mcp/mcp--x/mcp-y".into(),
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            namespace: Some("a".into()),
            name: "kro".into(),
            uid: Some("1".into()),
            wave: 3,
            desired_hash: Some(format!("x1:{:032x}", 7)),
            live_digest: None,
            policy: DeletionPolicy::Orphan,
        };
        assert_eq!(to_entry(&row).map(|entry| to_row(&entry)), Some(row));
    }
}
