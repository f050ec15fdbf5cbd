//! The fixed facts of one pod on this node.
use crate::node::{Node, folders::PodFolders};
use k8s_openapi::api::core::v1::Pod;
use std::{fmt::Write, fs, io, net::Ipv4Addr, sync::Arc};

const LONGEST_HOSTNAME: usize = 63;

/// Who and where a pod is; shared by its containers.
pub(in crate::node) struct PodContext {
    pub(in crate::node) node: Arc<Node>,
    pub(in crate::node) namespace: String,
    pub(in crate::node) name: String,
    pub(in crate::node) uid: String,
    pub(in crate::node) hostname: String,
    pub(in crate::node) address: Ipv4Addr,
    pub(in crate::node) folders: PodFolders,
}

impl PodContext {
    /// Makes the pod's files in /etc.
    pub(super) fn open(
        node: Arc<Node>,
        pod: &Pod,
        address: Ipv4Addr,
        folders: PodFolders,
    ) -> io::Result<Self> {
        let context = Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            hostname: hostname(pod),
            node,
            address,
            folders,
        };
        context.write_etc(pod)?;
        Ok(context)
    }

    fn write_etc(&self, pod: &Pod) -> io::Result<()> {
        let base = match &self.node.config.hosts_file {
            Some(file) => file.as_path(),
            None => std::path::Path::new("/etc/hosts"),
        };
        let base = fs::read_to_string(base).unwrap_or_else(|_| "127.0.0.1 localhost\n".to_owned());
        let hosts = self.folders.etc("hosts");
        if let Some(folder) = hosts.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(hosts, hosts_text(&base, self.address, &self.hostname, pod))?;
        fs::write(self.folders.etc("hostname"), format!("{}\n", self.hostname))
    }

    /// The pod's own files and their places in its containers.
    pub(in crate::node) fn etc_files(&self) -> Vec<(std::path::PathBuf, String)> {
        ["hosts", "hostname"]
            .map(|name| (self.folders.etc(name), format!("/etc/{name}")))
            .to_vec()
    }

    /// KUBERNETES_SERVICE_HOST and _PORT.
    pub(in crate::node) fn api_server(&self) -> (String, String) {
        let url = self.node.config.api_server.as_str();
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = authority.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        (host.to_owned(), port.to_owned())
    }
}

/// `spec.hostname`, else the pod's name, cut to what a host name may be.
fn hostname(pod: &Pod) -> String {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let mut name = wanted
        .filter(|name| !name.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    name.truncate(LONGEST_HOSTNAME);
    name.trim_end_matches(['-', '.']).to_owned()
}

fn hosts_text(base: &str, address: Ipv4Addr, hostname: &str, pod: &Pod) -> String {
    let mut text = format!("{}\n{address} {hostname}\n", base.trim_end());
    let spec = pod.spec.as_ref();
    for alias in spec
        .and_then(|spec| spec.host_aliases.as_ref())
        .into_iter()
        .flatten()
    {
        let names = alias.hostnames.clone().unwrap_or_default().join(" ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {names}", alias.ip);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_knows_its_own_name_and_its_aliases() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1"},
            "spec": {"containers": [], "hostAliases": [{"ip": "127.0.0.9", "hostnames": ["a", "b"]}]}
        }))
        .unwrap();
        assert_eq!(hostname(&pod), "web-1");
        let text = hosts_text(
            "127.0.0.1 localhost\n\n",
            Ipv4Addr::new(127, 9, 16, 1),
            "web-1",
            &pod,
        );
        assert_eq!(text, "127.0.0.1 localhost\n127.9.16.1 web-1\n127.0.0.9 a b\n");
    }

    #[test]
    fn a_long_name_makes_a_valid_host_name() {
        let name = format!("{}-{}", "x".repeat(62), "y".repeat(10));
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
        assert_eq!(hostname(&pod), "x".repeat(62));
    }
}
