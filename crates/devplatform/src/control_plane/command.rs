//! The command line of each component.
use super::{Component, ControlPlane};
use crate::{
    assets::Tool,
    prerequisites::own_program,
    process::gated,
    state::block::{API_SERVER_PORT, CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, SCHEDULER_PORT},
};
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

/// Addresses of Services. Nothing routes them here: the node has no ClusterIPs.
const SERVICE_RANGE: &str = "10.0.0.0/24";

/// `--name=value` flags.
struct Flags(Vec<OsString>);

impl Flags {
    fn new(flags: &[&str]) -> Self {
        Self(flags.iter().map(|flag| flag.into()).collect())
    }

    fn set(mut self, flag: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut text = OsString::from(format!("--{flag}="));
        text.push(value);
        self.0.push(text);
        self
    }
}

impl ControlPlane<'_> {
    pub(super) fn command(&self, component: Component) -> anyhow::Result<Command> {
        if component == Component::Node {
            let mut command = gated(&own_program()?);
            command.arg("node").arg("--state").arg(&self.platform.folder);
            return Ok(command);
        }
        let host = self.platform.block.host();
        let (tool, flags) = match component {
            Component::Etcd => (Tool::Etcd, self.etcd("etcd", host, &self.pki.etcd_ca())),
            Component::HostedEtcd => (
                Tool::Etcd,
                self.etcd(
                    "hosted-etcd",
                    self.platform.block.hosted_etcd(),
                    &self.pki.hosted_etcd_ca(),
                ),
            ),
            Component::ApiServer => (Tool::KubeApiserver, self.api_server()),
            Component::ControllerManager => (Tool::KubeControllerManager, self.controller_manager()),
            Component::Scheduler | Component::Node => (
                Tool::KubeScheduler,
                self.client_of_api_server("kube-scheduler", SCHEDULER_PORT),
            ),
        };
        let mut command = gated(&self.program(tool)?);
        // The environment would configure these programs too (ETCD_…, proxies).
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .args(flags.0);
        let further = self.further.iter().filter(|(of, _)| *of == component);
        command.args(further.map(|(_, flag)| flag));
        Ok(command)
    }

    /// `--unsafe-no-fsync`: a development platform survives the death of its processes, not of the machine.
    fn etcd(&self, name: &str, address: Ipv4Addr, ca: &Path) -> Flags {
        let client = format!("https://{address}:{ETCD_PORT}");
        let peer = format!("https://{address}:{ETCD_PEER_PORT}");
        let (cert, key) = (self.pki.cert(name), self.pki.key(name));
        Flags::new(&[
            "--unsafe-no-fsync",
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--log-level=warn",
        ])
        .set("name", name)
        .set("data-dir", self.platform.path(name))
        .set("listen-client-urls", &client)
        .set("advertise-client-urls", &client)
        .set("listen-peer-urls", &peer)
        .set("initial-advertise-peer-urls", &peer)
        .set("initial-cluster", format!("{name}={peer}"))
        .set("trusted-ca-file", ca)
        .set("cert-file", &cert)
        .set("key-file", &key)
        .set("peer-trusted-ca-file", ca)
        .set("peer-cert-file", &cert)
        .set("peer-key-file", &key)
    }

    fn api_server(&self) -> Flags {
        let host = self.platform.block.host();
        let (service_account_public, service_account_private) = self.pki.service_account();
        Flags::new(&[
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            // The node is ready when it registers: a taint would only wait for the controller-manager's first round.
            "--disable-admission-plugins=TaintNodesByCondition",
            // Its own Endpoints object would name a loopback address, which the API server refuses.
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        ])
        .set("bind-address", host.to_string())
        .set("advertise-address", host.to_string())
        .set("secure-port", API_SERVER_PORT.to_string())
        .set("service-cluster-ip-range", SERVICE_RANGE)
        .set("etcd-servers", format!("https://{host}:{ETCD_PORT}"))
        .set("etcd-cafile", self.pki.etcd_ca())
        .set("etcd-certfile", self.pki.cert("etcd-client"))
        .set("etcd-keyfile", self.pki.key("etcd-client"))
        .set("client-ca-file", self.pki.ca())
        .set("tls-cert-file", self.pki.cert("kube-apiserver"))
        .set("tls-private-key-file", self.pki.key("kube-apiserver"))
        .set("kubelet-certificate-authority", self.pki.ca())
        .set("kubelet-client-certificate", self.pki.cert("kubelet-client"))
        .set("kubelet-client-key", self.pki.key("kubelet-client"))
        .set("service-account-issuer", self.platform.block.api_server_url())
        .set("service-account-key-file", service_account_public)
        .set("service-account-signing-key-file", service_account_private)
    }

    fn controller_manager(&self) -> Flags {
        let (_, service_account_key) = self.pki.service_account();
        let mut flags = self.client_of_api_server("kube-controller-manager", CONTROLLER_MANAGER_PORT);
        // EndpointSlices refuse loopback addresses, and all pods here have such.
        flags.0.push(
            "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
                .into(),
        );
        flags.0.push("--use-service-account-credentials".into());
        flags
            .set("service-account-private-key-file", service_account_key)
            .set("root-ca-file", self.pki.ca())
    }

    /// What the controller-manager and the scheduler have in common. Without kubeconfigs for authentication and
    /// authorization they answer nobody but who asks for their health.
    fn client_of_api_server(&self, name: &str, port: u16) -> Flags {
        let kubeconfig: PathBuf = self.platform.kubeconfig_path(name);
        let serving = format!("{name}-serving");
        Flags::new(&[
            "--leader-elect=false",
            "--profiling=false",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
        ])
        .set("kubeconfig", kubeconfig)
        .set("bind-address", self.platform.block.host().to_string())
        .set("secure-port", port.to_string())
        .set("tls-cert-file", self.pki.cert(&serving))
        .set("tls-private-key-file", self.pki.key(&serving))
    }
}
