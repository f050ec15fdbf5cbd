//! Both servers, and how their answers are compared.
use crate::step::{JSON, Step, get, step, widgets};
use anyhow::{Result, ensure};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use openmcp_e2e::Platform;
use openmcp_testkit::Server;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One of the two servers, and what it said about objects so far.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The last metadata of each object, by path.
    seen: HashMap<String, Value>,
}

impl Side {
    pub(crate) async fn send(&mut self, step: &Step) -> Result<(u16, Value)> {
        let key = match step.method {
            Method::POST => format!(
                "{}/{}",
                step.path,
                step.body["metadata"]["name"].as_str().unwrap_or("")
            ),
            _ => step.path.trim_end_matches("/status").to_owned(),
        };
        let body = self.fill(&step.body, &key);
        let uri = format!("{}?{}", step.path.replace("NS", &self.namespace), step.query);
        let request = Request::builder()
            .method(step.method.clone())
            .uri(uri)
            .header("content-type", step.content_type)
            .header("accept", step.accept)
            .header("user-agent", "differ/1");
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(&body)?
        };
        let answer = self.client.send(request.body(Body::from(bytes))?).await?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if body["metadata"]["uid"].is_string() {
            self.seen.insert(key, body["metadata"].clone());
        }
        Ok((status, body))
    }

    fn fill(&self, value: &Value, key: &str) -> Value {
        let seen = |field: &str| {
            let seen = self.seen.get(key);
            seen.map_or_else(
                || json!("00000000-0000-4000-8000-000000000000"),
                |seen| seen[field].clone(),
            )
        };
        match value {
            Value::String(text) if text == "$uid" => seen("uid"),
            Value::String(text) if text == "$rv" => seen("resourceVersion"),
            Value::String(text) if text == "NS" => json!(self.namespace),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.fill(value, key)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(|item| self.fill(item, key)).collect(),
            other => other.clone(),
        }
    }

    fn replaced(&self, fields: &serde_json::Map<String, Value>) -> Value {
        let known = |name: &str| {
            matches!(
                name,
                "uid"
                    | "resourceVersion"
                    | "creationTimestamp"
                    | "deletionTimestamp"
                    | "time"
                    | "lastTransitionTime"
                    | "continue"
            )
        };
        let replace = |(name, value): (&String, &Value)| {
            let value = if known(name) && value.is_string() {
                json!("<>")
            } else {
                self.normal(value)
            };
            (name.clone(), value)
        };
        Value::Object(fields.iter().map(replace).collect())
    }

    /// What differs between two servers without meaning anything: names, times, and the order of what has none.
    pub(crate) fn normal(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields = fields.clone();
                for list in ["managedFields", "causes"] {
                    if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                        sort(items);
                    }
                }
                self.replaced(&fields)
            }
            Value::Array(items) => items.iter().map(|item| self.normal(item)).collect(),
            Value::String(text) => {
                let mut text = text.replace(&self.namespace, "NS");
                for metadata in self.seen.values() {
                    text = text.replace(metadata["uid"].as_str().unwrap_or("-"), "<uid>");
                }
                // The real one lists managers in the order of a hash map.
                if text.starts_with("Apply failed with") {
                    let words = text.replacen(": ", ":\n", 1).replace("\n- ", "; ");
                    let mut lines: Vec<String> = words.lines().map(str::to_owned).collect();
                    lines[1..].sort();
                    return json!(lines);
                }
                json!(text)
            }
            other => other.clone(),
        }
    }
}

/// By everything but time; what is said twice is once.
fn sort(items: &mut Vec<Value>) {
    items.sort_by_key(|item| {
        let mut item = item.clone();
        if let Some(fields) = item.as_object_mut() {
            fields.remove("time");
        }
        item.to_string()
    });
    items.dedup();
}

/// Both servers, with a namespace and a custom kind.
pub(crate) struct Pair {
    pub(crate) real: Side,
    pub(crate) fake: Side,
    pub(crate) group: String,
    differences: Vec<String>,
}

impl Pair {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let real = Platform::from_env().await?.client;
        let fake = Client::new(Server::new(), "default");
        let suffix = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
        let mut pair = Self {
            real: Side {
                client: real,
                namespace: format!("diff-{name}-{suffix}"),
                seen: HashMap::new(),
            },
            fake: Side {
                client: fake,
                namespace: format!("diff-{name}-{suffix}"),
                seen: HashMap::new(),
            },
            group: format!("{name}{suffix}.example.com"),
            differences: Vec::new(),
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "NS"}});
        pair.both(&step(Method::POST, "/api/v1/namespaces", JSON, namespace))
            .await?;
        let crd = widgets(&pair.group);
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for side in [&mut pair.real, &mut pair.fake] {
            let (status, body) = side.send(&step(Method::POST, path, JSON, crd.clone())).await?;
            ensure!(status == 201, "{body}");
        }
        let start = Instant::now();
        // The definition is established, and every replica of the handler knows of it.
        while pair.real.send(&get(&pair.widget("none"))).await?.1["reason"] != "NotFound" {
            ensure!(start.elapsed() < PATIENCE, "the custom kind is not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(pair)
    }

    pub(crate) fn widget(&self, name: &str) -> String {
        format!("/apis/{}/v1/namespaces/NS/widgets/{name}", self.group)
    }

    /// The same request to both: the same answer.
    pub(crate) async fn both(&mut self, step: &Step) -> Result<(u16, Value)> {
        let real = self.real.send(step).await?;
        let fake = self.fake.send(step).await?;
        let (expected, found) = (self.real.normal(&real.1), self.fake.normal(&fake.1));
        let mut differences = Vec::new();
        differ("", &json!(real.0), &json!(fake.0), &mut differences);
        differ("", &expected, &found, &mut differences);
        if !differences.is_empty() {
            self.differences.push(format!(
                "{} {}?{} {}\n{}",
                step.method,
                step.path,
                step.query,
                step.body,
                differences.join("\n")
            ));
        }
        Ok(fake)
    }

    pub(crate) async fn gone(self) -> Result<()> {
        let crd = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{}",
            self.group
        );
        let mut real = self.real;
        real.send(&step(Method::DELETE, "/api/v1/namespaces/NS", JSON, Value::Null))
            .await?;
        real.send(&step(Method::DELETE, &crd, JSON, Value::Null)).await?;
        ensure!(self.differences.is_empty(), "{}", self.differences.join("\n\n"));
        Ok(())
    }
}

/// Where two answers differ.
fn differ(at: &str, real: &Value, fake: &Value, out: &mut Vec<String>) {
    match (real, fake) {
        (Value::Object(real), Value::Object(fake)) => {
            let names: std::collections::BTreeSet<&String> = real.keys().chain(fake.keys()).collect();
            for name in names {
                let (real, fake) = (real.get(name), fake.get(name));
                match (real, fake) {
                    (Some(real), Some(fake)) => differ(&format!("{at}.{name}"), real, fake, out),
                    _ => out.push(format!("  {at}.{name}: real {real:?}, fake {fake:?}")),
                }
            }
        }
        (Value::Array(real), Value::Array(fake)) if real.len() == fake.len() => {
            for (number, (real, fake)) in real.iter().zip(fake).enumerate() {
                differ(&format!("{at}[{number}]"), real, fake, out);
            }
        }
        (real, fake) if real != fake => out.push(format!("  {at}: real {real}, fake {fake}")),
        _ => {}
    }
}
