//! Events on transitions. Publishing never fails or delays a reconcile: a bounded channel, drained by a task.
//!
//! The same note about the same object again becomes a series: counted, and written at most every half minute.
use crate::{
    Environment,
    fault::chain,
    metrics,
    text::{brief, cut},
};
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use std::{collections::HashMap, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Notes that wait for the API server; more are dropped.
const CHANNEL: usize = 512;
/// The API server's bound of a note.
const NOTE_MAX: usize = 1_024;
/// The API server's bound of reason and action.
const WORD_MAX: usize = 128;
/// A series ends when its note was not heard for this time.
const SERIES_TTL: Duration = Duration::from_secs(360);
/// A series is written at most this often.
const SERIES_PERIOD: Duration = Duration::from_secs(30);
/// Series that are remembered.
const SERIES_MAX: usize = 2_000;
/// For one write.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes Events on one cluster under one reporter name. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<(ObjectReference, Note)>,
}

/// One Event. `reason` is PascalCase; `note` says what happened to which object (≤ 1,024 bytes, cut if longer).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// Why, in PascalCase.
    pub reason: &'static str,
    /// What was done or tried, in PascalCase.
    pub action: &'static str,
    /// What happened, to which object, what to do.
    pub note: String,
}

impl Recorder {
    /// A recorder that writes Events of `reporter` (the controller's name) through `client`. Must be called within
    /// a tokio runtime; its task ends when the last clone is dropped and everything is written.
    pub fn new(client: Client, reporter: &'static str) -> Self {
        Self::within(&Environment::default(), client, reporter)
    }

    /// [`Recorder::new`] in these surroundings, whose clock names and dates the Events.
    pub fn within(environment: &Environment, client: Client, reporter: &'static str) -> Self {
        let (notes, mut received) = mpsc::channel::<(ObjectReference, Note)>(CHANNEL);
        let mut writer = Writer {
            client,
            reporter,
            instance: instance(reporter),
            environment: environment.clone(),
            series: HashMap::new(),
        };
        tokio::spawn(async move {
            while let Some((regarding, note)) = received.recv().await {
                writer.write(regarding, note).await;
            }
        });
        Self { notes }
    }

    /// Queues an Event about `regarding`; drops it, counted, when the channel is full.
    pub fn publish(&self, regarding: ObjectReference, note: Note) {
        if self.notes.try_send((regarding, note)).is_err() {
            metrics::event_dropped();
        }
    }
}

/// The pod, or whatever else tells this process from its siblings.
fn instance(reporter: &str) -> String {
    let name = std::env::var("POD_NAME").unwrap_or_else(|_| format!("{reporter}-{}", std::process::id()));
    cut(&name, WORD_MAX).to_owned()
}

struct Writer {
    client: Client,
    reporter: &'static str,
    instance: String,
    environment: Environment,
    series: HashMap<Subject, Series>,
}

/// What makes two Events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    note: Note,
}

struct Series {
    event: String,
    count: i32,
    heard: Instant,
    written: Instant,
}

impl Writer {
    async fn write(&mut self, regarding: ObjectReference, note: Note) {
        let now = Instant::now();
        self.series
            .retain(|_, series| now.duration_since(series.heard) < SERIES_TTL);
        let subject = Subject {
            kind: regarding.kind.clone(),
            namespace: regarding.namespace.clone(),
            name: regarding.name.clone(),
            uid: regarding.uid.clone(),
            note: note.clone(),
        };
        let events = Api::namespaced(
            self.client.clone(),
            regarding.namespace.as_deref().unwrap_or("default"),
        );
        if let Some(series) = self.series.get_mut(&subject) {
            series.count = series.count.saturating_add(1);
            series.heard = now;
            if now.duration_since(series.written) < SERIES_PERIOD {
                return;
            }
            series.written = now;
            let (name, count) = (series.event.clone(), series.count);
            if extend(&events, &name, count, self.environment.now()).await {
                return;
            }
        }
        let event = self.event(regarding, note, self.environment.now());
        let name = event.metadata.name.clone().unwrap_or_default();
        if bounded(events.create(&PostParams::default(), &event)).await && self.series.len() < SERIES_MAX {
            self.series.insert(
                subject,
                Series {
                    event: name,
                    count: 1,
                    heard: now,
                    written: now,
                },
            );
        }
    }

    fn event(&self, regarding: ObjectReference, note: Note, now: jiff::Timestamp) -> Event {
        let about = cut(regarding.name.as_deref().unwrap_or(self.reporter), 200);
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    about.to_ascii_lowercase(),
                    now.as_nanosecond()
                )),
                namespace: Some(
                    regarding
                        .namespace
                        .clone()
                        .unwrap_or_else(|| "default".to_owned()),
                ),
                ..ObjectMeta::default()
            },
            action: Some(cut(note.action, WORD_MAX).to_owned()),
            reason: Some(cut(note.reason, WORD_MAX).to_owned()),
            note: Some(brief(&note.note, NOTE_MAX).into_owned()),
            event_time: Some(MicroTime(now)),
            regarding: Some(regarding),
            reporting_controller: Some(self.reporter.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

/// Counts the series on in its Event. `false`: that Event is gone.
async fn extend(events: &Api<Event>, name: &str, count: i32, now: jiff::Timestamp) -> bool {
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(now),
    };
    let patch = Patch::Merge(serde_json::json!({"series": series}));
    bounded(events.patch(name, &PatchParams::default(), &patch)).await
}

/// Whether a write succeeded in time. An Event that cannot be written is counted, and nothing else.
async fn bounded(write: impl Future<Output = kube::Result<Event>>) -> bool {
    let why = match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(_event)) => return true,
        Ok(Err(error)) => chain(&error),
        Err(_elapsed) => format!("no answer within {PATIENCE:?}"),
    };
    metrics::event_dropped();
    tracing::debug!("an Event could not be written: {why}");
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kube::client::Body;
    use std::sync::{Arc, Mutex};

    type Requests = Arc<Mutex<Vec<(http::Method, serde_json::Value)>>>;

    /// An API server that stores requests and answers them with their body, or never.
    fn server(answers: bool) -> (Client, Requests) {
        let requests = Requests::default();
        let log = requests.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                log.lock().unwrap().push((parts.method, value.clone()));
                if !answers {
                    std::future::pending::<()>().await;
                }
                let mut event = serde_json::json!({"metadata": {"name": "x"}, "eventTime": null});
                event
                    .as_object_mut()
                    .unwrap()
                    .extend(value.as_object().unwrap().clone());
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(
                    event.to_string().into_bytes(),
                )))
            }
        });
        (Client::new(service, "default"), requests)
    }

    fn note(text: &str) -> Note {
        Note {
            warning: true,
            reason: "DriftRepaired",
            action: "Repair",
            note: text.to_owned(),
        }
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.to_owned()),
            namespace: Some("a".to_owned()),
            ..ObjectReference::default()
        }
    }

    #[tokio::test]
    async fn the_same_note_again_is_a_series_and_another_note_an_event_of_its_own() {
        let (client, requests) = server(true);
        let mut writer = Writer {
            client,
            reporter: "test",
            instance: "i".to_owned(),
            environment: Environment::default(),
            series: HashMap::new(),
        };
        for text in ["one", "one", "two", "one"] {
            writer.write(about("x"), note(text)).await;
        }
        assert_eq!(requests.lock().unwrap().len(), 2);
        for series in writer.series.values_mut() {
            series.written -= SERIES_PERIOD;
        }
        writer.write(about("x"), note("one")).await;
        let requests = requests.lock().unwrap();
        assert_eq!(requests[2].0, http::Method::PATCH);
        assert_eq!(requests[2].1["series"]["count"], 4);
    }

    #[tokio::test]
    async fn notes_are_cut_and_a_silent_server_delays_nobody() {
        let (client, requests) = server(false);
        let recorder = Recorder::new(client, "test");
        let start = Instant::now();
        for nth in 0..2 * CHANNEL {
            recorder.publish(about(&nth.to_string()), note(&"é".repeat(2000)));
        }
        assert!(start.elapsed() < Duration::from_secs(2));
        while requests.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let text = requests.lock().unwrap()[0].1["note"].as_str().unwrap().len();
        assert!((NOTE_MAX - 4..=NOTE_MAX).contains(&text), "{text}");
    }
}
