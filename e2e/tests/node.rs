//! What a pod may expect of the process node, one scene a manifest of `fixtures/node`. Runs where the platform's node
//! is a process node and its image `openmcp/shell:dev` is a shell.
//!
//! The scenes act as an administrator of the platform's Kubernetes: `OPENMCP_ADMIN_KUBECONFIG`, else `admin.yaml` beside
//! `OPENMCP_PLATFORM_KUBECONFIG`.
#![cfg(feature = "e2e")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams},
};
use openmcp_e2e::{
    kinds, namespace,
    people::{self, client},
    wait,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration, time::Instant};

/// A namespace of its own for a scene; deleted when the scene has ended well.
struct Scene {
    client: Client,
    namespace: String,
}

impl Scene {
    async fn begin(name: &str) -> Result<Self> {
        let given = std::env::var("OPENMCP_ADMIN_KUBECONFIG").map(PathBuf::from);
        let path = match given {
            Ok(path) => path,
            Err(_) => {
                let platform = std::env::var("OPENMCP_PLATFORM_KUBECONFIG")
                    .context("OPENMCP_PLATFORM_KUBECONFIG is not set: run the suites by `cargo verify`")?;
                PathBuf::from(platform).with_file_name("admin.yaml")
            }
        };
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let client = client(&bytes).await?;
        let namespace = namespace::make(&client, &format!("node-{name}")).await?;
        // Its service account is made by a controller; pods are refused before it exists.
        wait::until(
            &openmcp_e2e::kinds::api(&client, &kinds::service_account(), &namespace),
            "default",
            "there",
            |account| account.is_some(),
        )
        .await?;
        Ok(Self { client, namespace })
    }

    async fn end(self) -> Result<()> {
        // Not waited for: the namespace controller takes its time, and nothing here depends on it.
        namespace::leave(&self.client, &self.namespace).await
    }

    async fn apply(&self, fixture: &str) -> Result<()> {
        let path = format!("{}/fixtures/node/{fixture}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let mut object = Value::deserialize(document)?;
            object["metadata"]["namespace"] = json!(self.namespace);
            let kind = match object["kind"].as_str().unwrap_or_default() {
                "Pod" => kinds::pod(),
                "Secret" => kinds::secret(),
                "ConfigMap" => kinds::config_map(),
                "Deployment" => kinds::deployment(),
                "Job" => kinds::job(),
                other => anyhow::bail!("{fixture}: no scene knows {other}"),
            };
            // Created, not applied: a list with a name twice cannot be applied.
            people::create(&self.client, &kind, object).await?;
        }
        Ok(())
    }

    fn api(&self, kind: &kube::api::ApiResource) -> Api<DynamicObject> {
        openmcp_e2e::kinds::api(&self.client, kind, &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn only_pod(&self) -> Result<Value> {
        let pods = self.pods().list(&ListParams::default()).await?;
        anyhow::ensure!(pods.items.len() == 1, "{} pods", pods.items.len());
        Ok(serde_json::to_value(&pods.items[0])?)
    }

    async fn logs(&self, pod: &str) -> Result<String> {
        Ok(self.pods().logs(pod, &LogParams::default()).await?)
    }

    /// Waits for a state of the container `main` of a pod.
    async fn main(&self, pod: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let api = self.api(&kinds::pod());
        wait::until(&api, pod, what, |pod| {
            pod.is_some_and(|pod| holds(&pod["status"]["containerStatuses"][0]))
        })
        .await
    }

    async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        wait::gone(&self.api(&kinds::pod()), name).await
    }
}

/// What is to come of a log that is followed.
async fn soon<T>(what: &str, comes: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    let came = tokio::time::timeout(wait::PATIENCE, comes).await;
    Ok(came.with_context(|| format!("{what} does not come"))??)
}

#[tokio::test]
async fn a_job_sees_what_its_pod_says_and_completes() -> Result<()> {
    let scene = Scene::begin("job").await?;
    scene.apply("job-succeeds.yaml").await?;
    wait::condition(&scene.api(&kinds::job()), "succeeds", "Complete", "True", "").await?;
    let pod = scene.only_pod().await?;
    let status = &pod["status"];
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(
        status["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        0
    );
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"],
        0
    );
    let name = pod["metadata"]["name"].as_str().unwrap();
    let ip = status["podIP"].as_str().unwrap();
    let params = LogParams {
        container: Some("main".to_owned()),
        ..LogParams::default()
    };
    let log = scene.pods().logs(name, &params).await?;
    let expected = [
        "greeting=hello-alice argument=hello-alice kept=$(GREETING)".to_owned(),
        "duplicate=second colour=red missing=unset".to_owned(),
        "password=with $(DOLLARS) file=with $(DOLLARS)".to_owned(),
        format!("ip={ip} name={name} label=succeeds"),
        "init=prepared folder=/some/where pid=1".to_owned(),
        "token=there".to_owned(),
        "home=hidden".to_owned(),
    ];
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    scene.end().await
}

#[tokio::test]
async fn a_failing_job_fails_with_its_exit_code_and_its_message() -> Result<()> {
    let scene = Scene::begin("job").await?;
    scene.apply("job-fails.yaml").await?;
    wait::condition(&scene.api(&kinds::job()), "fails", "Failed", "True", "backoff").await?;
    let pod = scene.only_pod().await?;
    assert_eq!(pod["status"]["phase"], "Failed");
    let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(end["exitCode"], 7);
    assert_eq!(end["message"], "the reason\n");
    assert_eq!(
        scene.logs(pod["metadata"]["name"].as_str().unwrap()).await?,
        "on stderr\n"
    );
    scene.end().await
}

#[tokio::test]
async fn a_deployment_serves_follows_its_secret_scales_and_ends_in_order() -> Result<()> {
    let scene = Scene::begin("deployment").await?;
    scene.apply("deployment.yaml").await?;
    let deployments = scene.api(&kinds::deployment());
    let available = |count: i64| {
        move |live: Option<&Value>| live.is_some_and(|o| o["status"]["availableReplicas"] == count)
    };
    wait::until(&deployments, "server", "1 available", available(1)).await?;
    let pod = scene.only_pod().await?["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();

    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut log = scene.pods().log_stream(&pod, &params).await?.lines();
    assert_eq!(
        soon("a first line", log.try_next()).await?.as_deref(),
        Some("motto=one")
    );
    let secrets = scene.api(&kinds::secret());
    let patch = json!({"stringData": {"text": "two"}});
    let changed = Instant::now();
    secrets
        .patch("motto", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    assert_eq!(
        soon("the line of the change", log.try_next()).await?.as_deref(),
        Some("motto=two")
    );
    assert!(
        changed.elapsed() < Duration::from_secs(5),
        "the update took {:?}",
        changed.elapsed()
    );

    for count in [3, 1] {
        let scale = json!({"spec": {"replicas": count}});
        deployments
            .patch("server", &PatchParams::default(), &Patch::Merge(&scale))
            .await?;
        wait::until(&deployments, "server", "scaled", available(count)).await?;
    }

    deployments.delete("server", &DeleteParams::default()).await?;
    let rest: Vec<String> = soon("the log's end", log.try_collect()).await?;
    assert_eq!(rest, ["asked to end", "ended in order"]);
    scene.end().await
}

#[tokio::test]
async fn a_crashing_container_is_restarted_with_growing_pauses() -> Result<()> {
    let scene = Scene::begin("crash").await?;
    scene.apply("crash-loop.yaml").await?;
    let pod = scene
        .main("crash-loop", "CrashLoopBackOff", |status| {
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await?;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(status["restartCount"], 1, "the first restart is immediate");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["lastState"]["terminated"]["message"], "start");
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(scene.pods().logs("crash-loop", &previous).await?, "start\n");
    scene.end().await
}

#[tokio::test]
async fn probes_make_a_container_ready_or_restart_it() -> Result<()> {
    let scene = Scene::begin("probes").await?;
    scene.apply("probes.yaml").await?;
    let pod = scene
        .main("ready-later", "running", |s| s["state"]["running"].is_object())
        .await?;
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], false);
    let ip = pod["status"]["podIP"].as_str().unwrap();
    let listener = std::net::TcpListener::bind((ip, 18080))?;
    let pods = scene.api(&kinds::pod());
    wait::condition(&pods, "ready-later", "Ready", "True", "").await?;
    drop(listener);
    wait::condition(&pods, "ready-later", "Ready", "False", "main").await?;
    let restarted = scene
        .main("not-alive", "restarted", |s| {
            s["restartCount"].as_i64() >= Some(1)
        })
        .await?;
    let last = &restarted["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        last["exitCode"], 137,
        "`sleep` as PID 1 has no handler: it is killed"
    );
    scene.end().await
}

#[tokio::test]
async fn what_cannot_be_run_is_said_and_goes_on_when_it_can() -> Result<()> {
    let scene = Scene::begin("refused").await?;
    scene.apply("refused.yaml").await?;
    let refused = wait::phase(&scene.api(&kinds::pod()), "host-path", "Failed").await?;
    assert_eq!(refused["status"]["reason"], "UnsupportedByProcessNode");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.volumes[host].hostPath"), "{message}");

    let waits = |reason: &'static str, words: &'static str| {
        move |status: &Value| {
            let waiting = &status["state"]["waiting"];
            waiting["reason"] == reason && waiting["message"].as_str().is_some_and(|m| m.contains(words))
        }
    };
    scene
        .main(
            "no-image",
            "ErrImagePull",
            waits("ErrImagePull", "example.org/nobody/knows:this"),
        )
        .await?;
    scene
        .main(
            "no-secret",
            "waiting for its Secret",
            waits("CreateContainerConfigError", "comes-later"),
        )
        .await?;
    let secret =
        json!({"metadata": {"name": "comes-later", "namespace": scene.namespace}, "stringData": {"x": "1"}});
    people::create(&scene.client, &kinds::secret(), secret).await?;
    scene
        .main("no-secret", "running", |s| s["state"]["running"].is_object())
        .await?;
    let failed = wait::phase(&scene.api(&kinds::pod()), "no-command", "Failed").await?;
    let end = &failed["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(end["reason"], "StartError");
    assert!(
        end["message"].as_str().unwrap().contains("/no/such/program"),
        "{end}"
    );
    scene.end().await
}

#[tokio::test]
async fn a_port_in_use_is_named_until_it_is_free() -> Result<()> {
    let scene = Scene::begin("port").await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:18099")?;
    scene.apply("port-in-use.yaml").await?;
    scene
        .main("port-in-use", "PortInUse", |status| {
            let waiting = &status["state"]["waiting"];
            waiting["reason"] == "PortInUse"
                && waiting["message"].as_str().is_some_and(|m| m.contains("18099"))
        })
        .await?;
    drop(listener);
    scene
        .main("port-in-use", "running", |s| s["state"]["running"].is_object())
        .await?;
    scene.end().await
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() -> Result<()> {
    let scene = Scene::begin("stubborn").await?;
    scene.apply("stubborn.yaml").await?;
    scene
        .main("stubborn", "running", |s| s["state"]["running"].is_object())
        .await?;
    // Its trap is set a moment after the program has started.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = Instant::now();
    scene.delete_pod("stubborn").await?;
    let took = asked.elapsed();
    assert!(took > Duration::from_millis(1_800), "it had its grace: {took:?}");
    assert!(took < Duration::from_secs(8), "it was killed: {took:?}");
    scene.end().await
}
