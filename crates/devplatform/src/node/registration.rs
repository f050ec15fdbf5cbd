//! The Node object and its lease: what makes the scheduler send pods here, and keeps the controllers from evicting them.
use super::{CALL_DEADLINE, CallError, MANAGER, Node, call};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            DaemonEndpoint, Node as NodeObject, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
            NodeSystemInfo,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

/// The kubelet's figures: renewed every quarter of the time for which the lease is good.
const LEASE_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The status is written again after this many renewals, so that a Node that somebody deleted comes back.
const STATUS_EVERY: u32 = 6;

/// The release whose behaviour the node imitates; tools show it as the node's version.
const KUBELET_VERSION: &str = "v1.36.3+process-node";

/// Registers the node, then renews its lease for ever.
pub(super) async fn run(node: Arc<Node>) {
    let registration = Registration {
        node,
        since: Timestamp::now(),
    };
    let mut uid = registration.until_registered().await;
    let mut rounds = 0;
    loop {
        if let Err(error) = registration.renew(&uid).await {
            tracing::warn!(%error, "the node's lease cannot be renewed");
        }
        tokio::time::sleep(RENEW_EVERY).await;
        rounds += 1;
        if rounds % STATUS_EVERY == 0
            && registration
                .report()
                .await
                .is_err_and(|error| error.is_not_found())
        {
            uid = registration.until_registered().await;
        }
    }
}

struct Registration {
    node: Arc<Node>,
    since: Timestamp,
}

impl Registration {
    /// Tries until the Node exists, has its status and a lease; its UID.
    async fn until_registered(&self) -> String {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.register().await {
                Ok(uid) => return uid,
                Err(error) => tracing::warn!(%error, "the node cannot register; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CALL_DEADLINE);
        }
    }

    async fn register(&self) -> Result<String, CallError> {
        let name = &self.node.config.node_name;
        let labels = [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture()),
        ];
        let object = NodeObject {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(
                    labels
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            ..NodeObject::default()
        };
        let registered = call(self.nodes().patch(name, &params(), &Patch::Apply(&object))).await?;
        let uid = registered.metadata.uid.unwrap_or_default();
        self.report().await?;
        self.renew(&uid).await?;
        Ok(uid)
    }

    async fn report(&self) -> Result<(), CallError> {
        let name = &self.node.config.node_name;
        let object = NodeObject {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            status: Some(self.status()),
            ..NodeObject::default()
        };
        call(self.nodes().patch_status(name, &params(), &Patch::Apply(&object))).await?;
        Ok(())
    }

    async fn renew(&self, uid: &str) -> Result<(), CallError> {
        let name = self.node.config.node_name.clone();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: name.clone(),
                    uid: uid.to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let leases: Api<Lease> = Api::namespaced(self.node.client.clone(), "kube-node-lease");
        call(leases.patch(&name, &params(), &Patch::Apply(&lease))).await?;
        Ok(())
    }

    fn nodes(&self) -> Api<NodeObject> {
        Api::all(self.node.client.clone())
    }

    fn status(&self) -> NodeStatus {
        let config = &self.node.config;
        let resources: BTreeMap<String, Quantity> = [
            ("cpu", machine_cpus().to_string()),
            ("memory", machine_memory()),
            ("pods", self.node.addresses.capacity().min(500).to_string()),
        ]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .into();
        NodeStatus {
            // Only this one: the API server would try a host name first, and it does not resolve.
            addresses: Some(vec![NodeAddress {
                address: config.address.to_string(),
                type_: "InternalIP".to_owned(),
            }]),
            allocatable: Some(resources.clone()),
            capacity: Some(resources),
            conditions: Some(self.conditions()),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: i32::from(config.kubelet_port),
                }),
            }),
            node_info: Some(system_info()),
            ..NodeStatus::default()
        }
    }

    fn conditions(&self) -> Vec<NodeCondition> {
        let states = [
            ("Ready", "True", "ProcessNodeReady", "the process node runs pods"),
            (
                "MemoryPressure",
                "False",
                "NotMeasured",
                "a development node does not evict",
            ),
            (
                "DiskPressure",
                "False",
                "NotMeasured",
                "a development node does not evict",
            ),
            (
                "PIDPressure",
                "False",
                "NotMeasured",
                "a development node does not evict",
            ),
        ];
        states
            .into_iter()
            .map(|(type_, status, reason, message)| NodeCondition {
                last_heartbeat_time: Some(Time(Timestamp::now())),
                last_transition_time: Some(Time(self.since)),
                message: Some(message.to_owned()),
                reason: Some(reason.to_owned()),
                status: status.to_owned(),
                type_: type_.to_owned(),
            })
            .collect()
    }
}

fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// How many processors pods may ask for.
pub(super) fn machine_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How much memory pods may ask for, as a quantity.
pub(super) fn machine_memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next());
    format!("{}Ki", kib.unwrap_or("1048576"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn system_info() -> NodeSystemInfo {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os = line("/etc/os-release");
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: "process://bubblewrap".to_owned(),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: line("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os.unwrap_or("Linux").trim_matches('"').to_owned(),
        ..NodeSystemInfo::default()
    }
}
