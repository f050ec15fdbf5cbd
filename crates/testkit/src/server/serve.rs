//! HTTP: from a request to an answer.
use super::{
    Server,
    answer::{Named, Refusal},
    delete::Options,
    kinds::Kind,
    lock,
    managed::Writer,
    read::{self, View},
    route::{Query, Route, Subresource, route},
    state::{Place, State},
    write::Write,
};
use futures::{StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Bytes, Frame};
use openmcp_reconcile::cluster::Reply;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};
use tower::BoxError;

/// A request's answer, before it is bytes.
pub(super) enum Said {
    Once(StatusCode, Value),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl<B> tower::Service<Request<B>> for Server
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = Reply;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Reply, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_cut) => Bytes::new(),
            };
            Ok(reply(server.answer(&parts, &body)))
        })
    }
}

fn reply(said: Result<Said, Refusal>) -> Reply {
    let (status, body, content_type) = match said {
        Ok(Said::Stream(body)) => (StatusCode::OK, body, "application/json"),
        Ok(Said::Once(status, value)) => (status, whole(value.to_string()), "application/json"),
        Err(refusal) if refusal.reason.is_none() => (refusal.code, whole(refusal.message), "text/plain"),
        Err(refusal) => (
            refusal.code,
            whole(refusal.status().to_string()),
            "application/json",
        ),
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// Status and body of an answer that is not streamed.
pub(super) fn said(answer: Result<Said, Refusal>) -> (StatusCode, Value) {
    match answer {
        Ok(Said::Once(status, value)) => (status, value),
        Ok(Said::Stream(_)) => (StatusCode::OK, Value::Null),
        Err(refusal) => (refusal.code, refusal.status()),
    }
}

pub(crate) fn whole(text: String) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn header_text(parts: &Parts, name: header::HeaderName) -> &str {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

impl Server {
    /// Serves HTTP on a loopback port until the runtime ends. Returns its address.
    pub async fn serve(&self) -> std::io::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper_util::service::TowerToHyperService::new(server.clone());
                tokio::spawn(async move {
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
                    // A client that goes away is no failure of the server.
                    let _ended = connection.await;
                });
            }
        });
        Ok(address)
    }

    fn answer(&self, parts: &Parts, body: &Bytes) -> Result<Said, Refusal> {
        let bearer = header_text(parts, header::AUTHORIZATION).strip_prefix("Bearer ");
        if !self.accepts(bearer) {
            return Err(Refusal::new(401, "Unauthorized", "Unauthorized", Value::Null));
        }
        self.answer_anyone(parts, body)
    }

    pub(super) fn answer_anyone(&self, parts: &Parts, body: &Bytes) -> Result<Said, Refusal> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        if !query.get("dryRun").is_empty() {
            return Err(Refusal::unsupported("dry runs"));
        }
        let view = View::of(header_text(parts, header::ACCEPT))?;
        let route = route(parts.uri.path(), &lock(&self.0.state).kinds)?;
        let once = |value| Ok(Said::Once(StatusCode::OK, value));
        match (&parts.method, route) {
            (&Method::GET, Route::Says(value)) => once(value),
            (&Method::GET, Route::Collection { kind, namespace }) if query.is("watch") => {
                let state = lock(&self.0.state);
                let events = read::watch(self, &state, &kind, &namespace, &query, view)?;
                let frames = events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
                Ok(Said::Stream(StreamBody::new(frames).boxed_unsync()))
            }
            (&Method::GET, Route::Collection { kind, namespace }) => once(read::list(
                &mut lock(&self.0.state),
                &kind,
                &namespace,
                &query,
                view,
            )?),
            (
                &Method::GET,
                Route::Object {
                    kind,
                    namespace,
                    name,
                    ..
                },
            ) => once(read::get(
                &lock(&self.0.state),
                &Place::new(&kind, &namespace, &name),
                view,
            )?),
            (&Method::POST, Route::Collection { kind, namespace }) => {
                let mut object = read_body(body)?;
                let made = self.with_state(|state| {
                    let name = name_of(state, &mut object);
                    let write = write(state, &kind, &namespace, &name, None, parts, &query);
                    state.create(&write, object)
                })?;
                Ok(Said::Once(StatusCode::CREATED, view.show(&made)))
            }
            (
                method,
                Route::Object {
                    kind,
                    namespace,
                    name,
                    subresource,
                },
            ) => {
                let request = ObjectRequest {
                    method,
                    kind,
                    namespace,
                    name,
                    subresource,
                    parts,
                    query: &query,
                };
                self.write(&request, body, view)
            }
            (method, _) => Err(Refusal::unsupported(format!("{method} {}", parts.uri.path()))),
        }
    }

    fn write(&self, request: &ObjectRequest<'_>, body: &Bytes, view: View) -> Result<Said, Refusal> {
        let ObjectRequest {
            kind, parts, query, ..
        } = request;
        let subresource = match request.subresource {
            Some(Subresource::Token) => return self.token(request, body),
            Some(Subresource::Status) => Some("status"),
            None => None,
        };
        let (object, made) = self.with_state(|state| {
            let write = write(
                state,
                kind,
                &request.namespace,
                &request.name,
                subresource,
                parts,
                query,
            );
            match *request.method {
                Method::PUT => state.replace(&write, read_body(body)?),
                Method::PATCH => patch(state, &write, parts, query, body),
                Method::DELETE if subresource.is_none() => {
                    let mut options = match body.is_empty() {
                        true => Options::default(),
                        false => Options::of(&read_body(body)?),
                    };
                    if options.policy.is_none() && !query.get("propagationPolicy").is_empty() {
                        options.policy = Some(query.get("propagationPolicy").to_owned());
                    }
                    state
                        .delete(kind, &write.place, &options)
                        .map(|answer| (answer, false))
                }
                _ => Err(Refusal::unsupported(format!(
                    "{} {}",
                    request.method,
                    parts.uri.path()
                ))),
            }
        })?;
        let status = if made { StatusCode::CREATED } else { StatusCode::OK };
        let shown = match object["kind"] == "Status" {
            true => (*object).clone(),
            false => view.show(&object),
        };
        Ok(Said::Once(status, shown))
    }

    /// A token of a service account: accepted from now on.
    fn token(&self, request: &ObjectRequest<'_>, body: &Bytes) -> Result<Said, Refusal> {
        let mut answer = read_body(body)?;
        if !answer.is_object() {
            return Err(Refusal::bad_request("the body is no TokenRequest"));
        }
        let place = Place::new(&request.kind, &request.namespace, &request.name);
        let seconds = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        let (uid, number, expires) = self.with_state(|state| {
            let found = state.get(&place).ok_or_else(|| Refusal::absent(place.named()))?;
            let uid = found["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let now = (state.clock)().as_second();
            let expires = jiff::Timestamp::from_second(now.saturating_add(seconds)).unwrap_or_default();
            Ok::<_, Refusal>((uid, state.number(), expires))
        })?;
        let token = format!("token-{uid}-{number}");
        self.accept(&token);
        answer["kind"] = "TokenRequest".into();
        answer["apiVersion"] = "authentication.k8s.io/v1".into();
        answer["metadata"] = json!({"name": request.name, "namespace": request.namespace});
        answer["status"] = json!({"token": token, "expirationTimestamp": expires.to_string()});
        Ok(Said::Once(StatusCode::CREATED, answer))
    }
}

struct ObjectRequest<'a> {
    method: &'a Method,
    kind: Arc<Kind>,
    namespace: String,
    name: String,
    subresource: Option<Subresource>,
    parts: &'a Parts,
    query: &'a Query,
}

fn read_body(body: &Bytes) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .or_else(|_| serde_yaml::from_slice(body))
        .map_err(|error| Refusal::bad_request(format!("the body cannot be read: {error}")))
}

/// The name of a new object; a generated one is written into it.
fn name_of(state: &mut State, object: &mut Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, prefix) = (
        text(&object["metadata"]["name"]),
        text(&object["metadata"]["generateName"]),
    );
    if !name.is_empty() || prefix.is_empty() {
        return name;
    }
    let name = format!("{prefix}{:05x}", state.number());
    object["metadata"]["name"] = name.clone().into();
    name
}

fn write<'a>(
    state: &State,
    kind: &'a Kind,
    namespace: &str,
    name: &str,
    subresource: Option<&'static str>,
    parts: &Parts,
    query: &Query,
) -> Write<'a> {
    let agent = header_text(parts, header::USER_AGENT);
    let agent = agent
        .split('/')
        .next()
        .filter(|agent| !agent.is_empty())
        .unwrap_or("unknown");
    let manager = Some(query.get("fieldManager")).filter(|manager| !manager.is_empty());
    Write {
        kind,
        place: Place::new(kind, namespace, name),
        writer: Writer {
            manager: manager.unwrap_or(agent).to_owned(),
            subresource,
            api_version: kind.api_version(),
            now: state.now(),
        },
    }
}

fn no_manager() -> Refusal {
    let options = Named {
        plural: "",
        group: "meta.k8s.io",
        name: "",
    };
    let why = "is required for apply patch";
    Refusal::invalid("PatchOptions", options, "FieldValueRequired", "fieldManager", why)
}

fn patch(
    state: &mut State,
    write: &Write<'_>,
    parts: &Parts,
    query: &Query,
    body: &Bytes,
) -> Result<super::write::Written, Refusal> {
    let content_type = header_text(parts, header::CONTENT_TYPE);
    match content_type.split(';').next().unwrap_or_default() {
        "application/apply-patch+yaml" => {
            if query.get("fieldManager").is_empty() {
                return Err(no_manager());
            }
            state.apply(write, read_body(body)?, query.is("force"))
        }
        "application/merge-patch+json" => {
            let patch = read_body(body)?;
            state.patch(write, |object| {
                json_patch::merge(object, &patch);
                Ok(())
            })
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body)
                .map_err(|error| Refusal::bad_request(format!("the patch cannot be read: {error}")))?;
            state.patch(write, |object| {
                json_patch::patch(object, &patch).map_err(|_| {
                    let why = "the server rejected our request due to an error in our request";
                    Refusal::new(422, "Invalid", why, json!({}))
                })
            })
        }
        other => Err(Refusal::unsupported(format!("patches of type {other}"))),
    }
}

/// An answer with this status, as a server in trouble gives it.
pub(crate) fn refusal(code: u16) -> Reply {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => (
            "Forbidden",
            "the request is forbidden: the simulation wants it so",
        ),
        410 => ("Expired", "too old resource version"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        _ => (
            "InternalError",
            "an error on the server: the simulation wants it so",
        ),
    };
    reply(Err(Refusal::new(code, reason, message, Value::Null)))
}
