//! Reads: one object, lists with their pages, and watches.
use super::{
    Server,
    answer::Refusal,
    kinds::Kind,
    route::Query,
    select::Selector,
    state::{Change, Entry, Pages, Place, State},
};
use data_encoding::BASE64URL_NOPAD;
use futures::{Stream, stream};
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between two bookmarks of a silent watch.
const BOOKMARK: Duration = Duration::from_secs(60);
/// A watch that asks for no end gets this one.
const WATCH: Duration = Duration::from_secs(1800);

/// Whether whole objects or their metadata are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Metadata,
}

impl View {
    pub(crate) fn of(accept: &str) -> Result<Self, Refusal> {
        let first = accept.split(',').next().unwrap_or_default();
        if first.contains("as=PartialObjectMetadata") {
            return Ok(Self::Metadata);
        }
        if first.contains("as=Table") || first.contains("protobuf") {
            return Err(Refusal::unsupported(format!("the representation {first}")));
        }
        Ok(Self::Whole)
    }

    pub(crate) fn show(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            }),
        }
    }
}

/// GET of one object.
pub(crate) fn get(state: &State, place: &Place, view: View) -> Result<Value, Refusal> {
    let found = match state.stale_at {
        None => state.get(place).cloned(),
        Some(_) => state.shown().1.get(place).cloned(),
    };
    let found = found.ok_or_else(|| Refusal::absent(place.named()))?;
    Ok(view.show(&found))
}

fn selector(
    namespace: &str,
    query: &Query,
) -> Result<impl Fn(&Place, &Value) -> bool + Send + use<>, Refusal> {
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
    let namespace = namespace.to_owned();
    Ok(move |place: &Place, object: &Value| {
        (namespace.is_empty() || place.namespace == namespace) && selector.matches(object)
    })
}

/// GET of a collection.
pub(crate) fn list(
    state: &mut State,
    kind: &Kind,
    namespace: &str,
    query: &Query,
    view: View,
) -> Result<Value, Refusal> {
    let limit: usize = query.get("limit").parse().unwrap_or(0);
    let (pages, offset, session) = match query.get("continue") {
        "" => {
            let wanted = selector(namespace, query)?;
            let (version, objects) = state.shown();
            if let Ok(asked) = query.get("resourceVersion").parse::<u64>()
                && asked > version
            {
                let message = format!("Too large resource version: {asked}, current: {version}");
                return Err(Refusal::new(
                    504,
                    "Timeout",
                    message,
                    json!({"retryAfterSeconds": 1}),
                ));
            }
            let items = objects
                .into_iter()
                .filter(|(place, object)| kind.is(&place.group, &place.plural) && wanted(place, object))
                .map(|(_, object)| object)
                .collect();
            let items = Arc::new(items);
            (Pages { version, items }, 0, None)
        }
        token => {
            let (session, offset) = read_token(token)?;
            let pages = state.pages(session).ok_or_else(|| {
                Refusal::expired(
                    "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
                )
            })?;
            (pages, offset, Some(session))
        }
    };
    let end = match limit {
        0 => pages.items.len(),
        limit => pages.items.len().min(offset.saturating_add(limit)),
    };
    let page = pages.items.get(offset..end).unwrap_or_default();
    let items: Vec<Value> = page.iter().map(|object| item(kind, view, object)).collect();
    let mut metadata = json!({"resourceVersion": pages.version.to_string()});
    let left = pages.items.len() - end;
    if left > 0 {
        let session = match session {
            Some(session) => session,
            None => state.keep_pages(pages),
        };
        metadata["continue"] = BASE64URL_NOPAD
            .encode(format!("{session}.{end}").as_bytes())
            .into();
        if query.get("labelSelector").is_empty() && query.get("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = left.into();
        }
    }
    let (list_kind, api_version) = match view {
        View::Whole => (kind.list_kind.as_str(), kind.api_version()),
        View::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned()),
    };
    Ok(json!({"kind": list_kind, "apiVersion": api_version, "metadata": metadata, "items": items}))
}

/// Built-in kinds do not repeat themselves in lists.
fn item(kind: &Kind, view: View, object: &Value) -> Value {
    let mut shown = view.show(object);
    if view == View::Whole
        && !kind.custom
        && let Some(fields) = shown.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    shown
}

fn read_token(token: &str) -> Result<(u64, usize), Refusal> {
    let parsed = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| {
        let text = String::from_utf8(bytes).ok()?;
        let (session, offset) = text.split_once('.')?;
        Some((session.parse().ok()?, offset.parse().ok()?))
    });
    parsed.ok_or_else(|| Refusal::bad_request("continue key is not valid"))
}

struct Watch<F> {
    server: Server,
    kind: Arc<Kind>,
    wanted: F,
    view: View,
    /// Changes up to this version were sent.
    seen: u64,
    pending: VecDeque<Value>,
    bookmarks: bool,
    bookmark_at: Instant,
    end: Instant,
    over: bool,
}

/// GET of a collection with `watch`: a stream of events.
pub(crate) fn watch(
    server: &Server,
    state: &State,
    kind: &Arc<Kind>,
    namespace: &str,
    query: &Query,
    view: View,
) -> Result<impl Stream<Item = Value> + Send + use<>, Refusal> {
    if !query.get("sendInitialEvents").is_empty() {
        return Err(Refusal::unsupported("streaming lists (sendInitialEvents)"));
    }
    let wanted = selector(namespace, query)?;
    let (now, objects) = state.shown();
    let mut pending = VecDeque::new();
    let seen = match query.get("resourceVersion") {
        "" | "0" => {
            let shown = objects
                .iter()
                .filter(|(place, object)| kind.is(&place.group, &place.plural) && wanted(place, object));
            pending.extend(shown.map(|(_, object)| json!({"type": "ADDED", "object": view.show(object)})));
            now
        }
        version => version
            .parse()
            .map_err(|_| Refusal::bad_request(format!("Invalid value: {version:?}: resourceVersion")))?,
    };
    let lasts = query
        .get("timeoutSeconds")
        .parse::<u32>()
        .map_or(WATCH, |seconds| Duration::from_secs(seconds.into()));
    let watch = Watch {
        server: server.clone(),
        kind: kind.clone(),
        wanted,
        view,
        seen,
        pending,
        bookmarks: query.is("allowWatchBookmarks"),
        bookmark_at: Instant::now() + BOOKMARK,
        end: Instant::now() + lasts,
        over: false,
    };
    let open = OpenWatch::new(server);
    Ok(stream::unfold((watch, open), async |(mut watch, open)| {
        let event = watch.next().await?;
        Some((event, (watch, open)))
    }))
}

/// Counts itself.
struct OpenWatch(Server);

impl OpenWatch {
    fn new(server: &Server) -> Self {
        server.watch_opened();
        Self(server.clone())
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.watch_closed();
    }
}

impl<F: Fn(&Place, &Value) -> bool> Watch<F> {
    async fn next(&mut self) -> Option<Value> {
        let server = self.server.clone();
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            // Before it is looked at what there is, so that nothing is missed.
            let changed = server.changed();
            self.take_changes();
            if !self.pending.is_empty() {
                continue;
            }
            let next = self.end.min(if self.bookmarks {
                self.bookmark_at
            } else {
                self.end
            });
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= self.end {
                        self.over = true;
                    }
                    if self.bookmarks {
                        self.bookmark_at = Instant::now() + BOOKMARK;
                        self.pending.push_back(self.bookmark());
                    }
                }
            }
        }
    }

    fn take_changes(&mut self) {
        let changes = self.server.changes_after(self.seen);
        let changes = match changes {
            Ok(changes) => changes,
            Err(gone) => {
                self.pending
                    .push_back(json!({"type": "ERROR", "object": gone.status()}));
                self.over = true;
                return;
            }
        };
        for entry in changes {
            self.seen = entry.version;
            if self.kind.is(&entry.place.group, &entry.place.plural)
                && let Some((type_, object)) = self.event(&entry)
            {
                self.pending
                    .push_back(json!({"type": type_, "object": self.view.show(&object)}));
            }
        }
    }

    /// How a change looks through the selector.
    fn event(&self, entry: &Entry) -> Option<(&'static str, Value)> {
        let is = entry.change != Change::Deleted && (self.wanted)(&entry.place, &entry.object);
        let was = entry
            .previous
            .as_ref()
            .filter(|previous| (self.wanted)(&entry.place, previous));
        match (was, is) {
            (None, true) => Some(("ADDED", (*entry.object).clone())),
            (Some(_), true) => Some(("MODIFIED", (*entry.object).clone())),
            (Some(previous), false) => {
                let last = if entry.change == Change::Deleted {
                    &entry.object
                } else {
                    previous
                };
                let mut last = (**last).clone();
                last["metadata"]["resourceVersion"] = entry.version.to_string().into();
                Some(("DELETED", last))
            }
            (None, false) => None,
        }
    }

    fn bookmark(&self) -> Value {
        let kind = match self.view {
            View::Whole => (self.kind.kind.clone(), self.kind.api_version()),
            View::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        json!({"type": "BOOKMARK", "object": {
            "kind": kind.0, "apiVersion": kind.1,
            "metadata": {"resourceVersion": self.server.shown_version().max(self.seen).to_string(), "creationTimestamp": null},
        }})
    }
}
