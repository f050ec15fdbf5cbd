//! The operator and the cluster provider: the contract (contracts §6, §7) in its simplest form. They are no processes
//! and cannot crash.
use super::{CLUSTERS, World, must};
use crate::Server;
use data_encoding::BASE64;
use openmcp_api::{keys::finalizers, names};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

impl World {
    /// What the operator and the cluster provider do.
    pub(super) fn operate(&self, platform: &Server) -> bool {
        let before = self.version();
        for request in platform.objects(CLUSTERS, "ClusterRequest") {
            self.schedule(platform, &request);
        }
        for request in platform.objects(CLUSTERS, "AccessRequest") {
            self.give_access(platform, &request);
        }
        self.version() != before
    }

    fn schedule(&self, platform: &Server, request: &Value) {
        if !request["metadata"]["deletionTimestamp"].is_null() {
            return drop_finalizer(platform, request, finalizers::CLUSTER_REQUEST);
        }
        if request["status"]["phase"] == "Granted" {
            return;
        }
        add_finalizer(platform, request, finalizers::CLUSTER_REQUEST);
        let purpose = request["spec"]["purpose"].as_str().unwrap_or_default();
        let clusters = platform.objects(CLUSTERS, "Cluster");
        let mine = clusters.iter().find(|cluster| {
            let serves = cluster["spec"]["purposes"].as_array();
            serves.is_some_and(|purposes| purposes.iter().any(|it| it == purpose))
                && (cluster["spec"]["tenancy"] == "Shared"
                    || cluster["metadata"]["namespace"] == request["metadata"]["namespace"])
        });
        if let Some(cluster) = mine {
            let at =
                json!({"name": cluster["metadata"]["name"], "namespace": cluster["metadata"]["namespace"]});
            let status = json!({"observedGeneration": request["metadata"]["generation"], "phase": "Granted", "cluster": at});
            must(platform.merge_status(request, &status));
        }
    }

    fn give_access(&self, platform: &Server, request: &Value) {
        let name = request["metadata"]["name"].as_str().unwrap_or_default();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": names::secret_of_access_request(name), "namespace": request["metadata"]["namespace"]},
        });
        if !request["metadata"]["deletionTimestamp"].is_null() {
            // It may be gone already.
            let _gone = platform.delete(&secret);
            return drop_finalizer(platform, request, finalizers::CLUSTER_PROVIDER);
        }
        let (generation, status) = (&request["metadata"]["generation"], &request["status"]);
        if status["phase"] == "Granted"
            && status["observedGeneration"] == *generation
            && platform.live(&secret).is_some()
        {
            return;
        }
        let Some(host) = target(platform, request) else {
            return;
        };
        add_finalizer(platform, request, finalizers::CLUSTER_PROVIDER);
        self.issue(platform, &secret, &host);
        let status = json!({
            "observedGeneration": generation, "phase": "Granted", "secretRef": {"name": secret["metadata"]["name"]},
        });
        must(platform.merge_status(request, &status));
    }

    /// A new token for a host, in a Secret.
    fn issue(&self, platform: &Server, secret: &Value, host: &str) {
        let number = self.0.tokens.fetch_add(1, Ordering::Relaxed);
        let token = format!("{host}-{number}");
        self.server(host).accept(&token);
        let mut secret = secret.clone();
        secret["data"] = json!({"kubeconfig": BASE64.encode(self.kubeconfig(host, &token).as_bytes())});
        must(platform.apply("cluster-provider", &secret));
    }

    /// The host's certificate is from another authority from now on, as all new kubeconfigs say; who trusts the old one
    /// only gets nowhere.
    pub fn rotate_ca(&self, host: &str) {
        self.0.record.exchange_authority(host);
        self.rotate_credentials(host);
    }

    /// Another, empty server answers under the host's name from now on, and the kubeconfigs lead there. Returns the one
    /// before.
    pub fn replace_server(&self, host: &str) -> Server {
        let before = self.server(host);
        self.add_server(host);
        self.rotate_ca(host);
        before
    }

    /// This server answers under the host's name from now on, and the kubeconfigs lead there.
    pub fn restore_server(&self, host: &str, server: Server) {
        self.put_server(host, server);
        self.rotate_ca(host);
    }

    /// The onboarding cluster is made anew: with the platform's definitions, and nothing of the tenants. Returns the one
    /// before.
    pub fn rebuild_onboarding(&self) -> Server {
        let before = self.replace_server("onboarding");
        self.define_onboarding();
        before
    }

    /// New tokens for all AccessRequests to a host; the old ones are accepted no more.
    pub fn rotate_credentials(&self, host: &str) {
        let platform = self.server("platform");
        let server = self.server(host);
        server.accept_only([format!("{host}-owner")]);
        for request in platform.objects(CLUSTERS, "AccessRequest") {
            if target(&platform, &request).as_deref() == Some(host) {
                let name = request["metadata"]["name"].as_str().unwrap_or_default();
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": names::secret_of_access_request(name), "namespace": request["metadata"]["namespace"]},
                });
                self.issue(&platform, &secret, host);
            }
        }
    }
}

/// The host of the cluster that an AccessRequest leads to.
fn target(platform: &Server, request: &Value) -> Option<String> {
    let spec = &request["spec"];
    if spec["clusterRef"].is_object() {
        return spec["clusterRef"]["name"].as_str().map(str::to_owned);
    }
    let of = &spec["requestRef"];
    let granted = platform.object(
        CLUSTERS,
        "ClusterRequest",
        of["namespace"].as_str()?,
        of["name"].as_str()?,
    )?;
    granted["status"]["cluster"]["name"].as_str().map(str::to_owned)
}

fn finalizers_of(object: &Value) -> Vec<Value> {
    object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn add_finalizer(server: &Server, object: &Value, finalizer: &str) {
    let mut held = finalizers_of(object);
    if !held.iter().any(|held| held == finalizer) {
        held.push(finalizer.into());
        must(server.merge(object, &json!({"metadata": {"finalizers": held}})));
    }
}

fn drop_finalizer(server: &Server, object: &Value, finalizer: &str) {
    let mut held = finalizers_of(object);
    let before = held.len();
    held.retain(|held| held != finalizer);
    if held.len() < before {
        must(server.merge(object, &json!({"metadata": {"finalizers": held}})));
    }
}
