//! What a container needs before its process can start, and what it waits for when something is missing.
use super::Supervisor;
use crate::node::{
    content::{Facts, expand, mounts, resolve},
    images::Image,
    sandbox::{ENTRY, Sandbox},
};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    path::PathBuf,
    time::Duration,
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A container that can be started.
pub(super) struct Prepared {
    pub(super) sandbox: Sandbox,
    pub(super) image: Image,
}

/// Why it cannot be started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// When to look again, where nothing tells of a change. (Objects and the pod do.)
    pub(super) again: Option<Duration>,
}

impl Supervisor {
    /// Computes the sandbox from what is known now.
    pub(super) fn prepare(&self, pod: &Pod, container: &Container) -> Result<Prepared, Missing> {
        let name = container.image.as_deref().unwrap_or_default();
        let image = self.pod.node.images.find(name).map_err(|error| Missing {
            reason: "ErrImagePull",
            message: error.to_string(),
            again: Some(Duration::from_millis(500)),
        })?;
        let environment = self.environment(pod, container).map_err(|error| Missing {
            reason: "CreateContainerConfigError",
            message: error.to_string(),
            again: None,
        })?;
        check_ports(container, self.pod.address)?;
        let sandbox = self
            .sandbox(pod, container, &image, environment)
            .map_err(|error| Missing {
                reason: "CreateContainerError",
                message: error.to_string(),
                again: Some(Duration::from_secs(5)),
            })?;
        Ok(Prepared { sandbox, image })
    }

    fn environment(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, crate::node::content::ContentError> {
        let facts = Facts {
            pod,
            pod_ip: self.pod.address,
            host_ip: self.pod.node.config.address,
        };
        let (host, port) = self.pod.api_server();
        let base = [
            ("PATH", PATH.to_owned()),
            ("HOME", "/tmp".to_owned()),
            ("HOSTNAME", self.pod.hostname.clone()),
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port.clone()),
            ("KUBERNETES_SERVICE_PORT_HTTPS", port),
        ];
        let base = base.map(|(name, value)| (name.to_owned(), value));
        resolve(&facts, container, BTreeMap::from(base), &self.objects)
    }

    fn sandbox(
        &self,
        pod: &Pod,
        container: &Container,
        image: &Image,
        environment: BTreeMap<String, String>,
    ) -> std::io::Result<Sandbox> {
        let termination_log = self.pod.folders.termination_log(&container.name);
        fresh_file(&termination_log)?;
        let words = |words: &Option<Vec<String>>| -> Vec<String> {
            let words = words.iter().flatten();
            words.map(|word| expand(word, &environment)).collect()
        };
        let mut argv = words(&container.command);
        if argv.is_empty() {
            argv.push(ENTRY.to_owned());
        }
        argv.extend(words(&container.args));
        let security = container.security_context.as_ref();
        Ok(Sandbox {
            binary: image.binary.clone(),
            hostname: self.pod.hostname.clone(),
            files: self.pod.etc_files(),
            termination_log: (
                termination_log,
                container
                    .termination_message_path
                    .clone()
                    .filter(|path| path.starts_with('/'))
                    .unwrap_or_else(|| TERMINATION_LOG.to_owned()),
            ),
            mounts: mounts(pod, container, &self.pod.folders),
            argv,
            environment,
            working_dir: container
                .working_dir
                .clone()
                .filter(|folder| folder.starts_with('/'))
                .unwrap_or_else(|| "/".to_owned()),
            read_only_root: security.is_some_and(|context| context.read_only_root_filesystem == Some(true)),
        })
    }
}

fn fresh_file(path: &PathBuf) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, "")
}

/// All pods share the machine's ports: one that is taken is said, instead of a program that ends for no visible reason.
fn check_ports(container: &Container, address: Ipv4Addr) -> Result<(), Missing> {
    for port in container.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.container_port) else {
            continue;
        };
        let at: IpAddr = port
            .host_ip
            .as_deref()
            .and_then(|ip| ip.parse().ok())
            .unwrap_or(IpAddr::V4(address));
        let taken = match port.protocol.as_deref() {
            Some("UDP") => UdpSocket::bind((at, number)).err(),
            _ => TcpListener::bind((at, number)).err(),
        };
        if let Some(error) = taken.filter(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            return Err(Missing {
                reason: "PortInUse",
                message: format!(
                    "port {number} of container {:?} is taken at {at}: {error}. All processes of this machine share \
                     its ports; free it, or let the container listen on $(POD_IP)",
                    container.name
                ),
                again: Some(Duration::from_millis(250)),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "main", "ports": [{"containerPort": port}]
        }))
        .unwrap();
        let missing = check_ports(&container, Ipv4Addr::LOCALHOST).unwrap_err();
        assert_eq!(missing.reason, "PortInUse");
        assert!(missing.message.contains(&port.to_string()), "{}", missing.message);
        drop(listener);
        assert!(check_ports(&container, Ipv4Addr::LOCALHOST).is_ok());
    }
}
