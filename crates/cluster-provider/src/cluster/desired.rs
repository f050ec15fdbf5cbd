//! What a hosted control plane needs on the platform cluster: a Secret and a Deployment. Pure.
use super::pki::{Identity, file};
use crate::{
    etcd::Access,
    kubeconfig::{self, Credentials},
    names::{
        ANNOTATION_CLUSTER, ANNOTATION_CREDENTIALS, API_SERVER_PORT, CONTROLLER_MANAGER_PORT, LABEL_CLUSTER,
        LABEL_MANAGED_BY,
    },
};
use openmcp_api::names::{name_hash, shorten};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Where the containers see their files.
const PKI: &str = "/etc/openmcp/pki";
/// Longest name of Secret and Deployment: the pods' names add a hash of at most 16 characters and must fit 63.
const MAX_NAME: usize = 47;
/// Files in the Secret beside the identity.
const ETCD_ENDPOINTS: &str = "etcd-endpoints";
const ETCD_CA: &str = "etcd-ca.crt";
const ETCD_CERT: &str = "etcd.crt";
const ETCD_KEY: &str = "etcd.key";
const CONTROLLER_KUBECONFIG: &str = "controller-manager.conf";

/// The API groups that are served. Fewer groups are less memory; without networking and discovery the API server
/// ends itself.
const GROUPS: [&str; 11] = [
    "v1",
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apiregistration.k8s.io/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
];
/// Admission plugins that wait for kinds which are not served: with them the API server is ready only after their
/// time-out, half a minute later.
const WITHOUT_ADMISSION: &str = "DefaultStorageClass,PersistentVolumeClaimResize,Priority,RuntimeClass";
/// What a control plane without nodes needs; without namespace and garbage collection deletions hang.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
root-ca-certificate-publisher-controller,clusterrole-aggregation-controller";

/// Whose control plane it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Owner {
    /// Name of Secret, Deployment and of what is logged about them.
    pub(crate) fn control_plane(&self) -> String {
        // MAX_NAME leaves room for the hash, so shortening cannot fail.
        shorten(&format!("{}-control-plane", self.name), MAX_NAME)
            .unwrap_or_else(|_| name_hash(&[&self.name]))
    }
    /// The part of etcd that is this Cluster's alone.
    pub(crate) fn etcd_prefix(&self) -> String {
        format!("/hosted/{}", self.uid)
    }
    fn labels(&self, provider: &str) -> Value {
        json!({
            LABEL_MANAGED_BY: provider,
            LABEL_CLUSTER: self.uid,
            "app.kubernetes.io/name": "hosted-control-plane",
        })
    }
    fn metadata(&self, provider: &str) -> Value {
        json!({
            "name": self.control_plane(),
            "namespace": self.namespace,
            "labels": self.labels(provider),
            "annotations": {ANNOTATION_CLUSTER: self.name},
            "ownerReferences": [{
                "apiVersion": "clusters.openmcp.cloud/v1alpha1",
                "kind": "Cluster",
                "name": self.name,
                "uid": self.uid,
                "controller": true,
                "blockOwnerDeletion": false,
            }],
        })
    }
}

/// The URL of the API server at an address.
pub(crate) fn server_url(address: Ipv4Addr) -> String {
    format!("https://{address}:{API_SERVER_PORT}")
}

/// A kubeconfig for the platform's own access.
pub(crate) fn admin_kubeconfig(
    identity: &Identity,
    address: Ipv4Addr,
) -> Result<String, super::pki::PkiError> {
    let credentials = Credentials::Certificate {
        certificate: identity.get(file::ADMIN_CERT)?,
        key: identity.get(file::ADMIN_KEY)?,
    };
    Ok(kubeconfig::render(
        &server_url(address),
        identity.get(file::CA_CERT)?,
        "cluster-provider",
        &credentials,
    ))
}

/// Everything in the Secret: the identity and what follows from it and from the etcd access.
pub(crate) fn files(
    identity: &Identity,
    etcd: &Access,
    address: Ipv4Addr,
) -> Result<BTreeMap<String, String>, super::pki::PkiError> {
    let credentials = Credentials::Certificate {
        certificate: identity.get(file::CONTROLLER_CERT)?,
        key: identity.get(file::CONTROLLER_KEY)?,
    };
    let config = kubeconfig::render(
        &server_url(address),
        identity.get(file::CA_CERT)?,
        "controller-manager",
        &credentials,
    );
    let mut files = identity.files().clone();
    for (name, text) in [
        (ETCD_ENDPOINTS, &etcd.endpoints),
        (ETCD_CA, &etcd.ca),
        (ETCD_CERT, &etcd.certificate),
        (ETCD_KEY, &etcd.key),
        (CONTROLLER_KUBECONFIG, &config),
    ] {
        files.insert(name.to_owned(), text.clone());
    }
    Ok(files)
}

/// The etcd access that a control plane was given: it goes on with this while the platform's own is missing.
pub(crate) fn etcd_copy(files: &BTreeMap<String, String>) -> Option<Access> {
    let file = |name: &str| files.get(name).cloned();
    Some(Access {
        endpoints: file(ETCD_ENDPOINTS)?,
        ca: file(ETCD_CA)?,
        certificate: file(ETCD_CERT)?,
        key: file(ETCD_KEY)?,
    })
}

/// The Secret; `files` is everything that it holds.
pub(crate) fn secret(owner: &Owner, provider: &str, files: &BTreeMap<String, String>) -> Value {
    let data: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, text)| (name.as_str(), data_encoding::BASE64.encode(text.as_bytes())))
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": owner.metadata(provider), "data": data})
}

/// What the Deployment depends on.
pub(crate) struct Workload<'a> {
    pub(crate) provider: &'a str,
    pub(crate) apiserver_image: &'a str,
    pub(crate) controller_manager_image: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) etcd: &'a Access,
    /// The files of the Secret.
    pub(crate) files: &'a BTreeMap<String, String>,
}

/// The Deployment. One replica and `Recreate`: two API servers cannot listen on one address.
pub(crate) fn deployment(owner: &Owner, workload: &Workload<'_>) -> Value {
    let labels = owner.labels(workload.provider);
    let secret = owner.control_plane();
    let volume = |name: &str, files: &[&str]| {
        let items: Vec<Value> = files
            .iter()
            .map(|file| json!({"key": file, "path": file}))
            .collect();
        json!({"name": name, "secret": {"secretName": secret, "items": items}})
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(workload.provider),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {LABEL_CLUSTER: owner.uid}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        ANNOTATION_CLUSTER: owner.name,
                        ANNOTATION_CREDENTIALS: credentials(workload.files),
                    },
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    // An API server keeps no state, and one with open watches takes all the time that it gets.
                    "terminationGracePeriodSeconds": 3,
                    "containers": [api_server(owner, workload), controller_manager(workload)],
                    "volumes": [
                        volume("api-server", &[
                            file::CA_CERT, file::SERVING_CERT, file::SERVING_KEY, file::ISSUER_PUBLIC, file::ISSUER_KEY,
                            ETCD_CA, ETCD_CERT, ETCD_KEY,
                        ]),
                        volume("controller-manager", &[file::CA_CERT, CONTROLLER_KUBECONFIG]),
                    ],
                },
            },
        },
    })
}

/// Changes whenever a file of the Secret does: certificates are read at start.
fn credentials(files: &BTreeMap<String, String>) -> String {
    let texts: Vec<&str> = files
        .iter()
        .flat_map(|(name, text)| [name.as_str(), text.as_str()])
        .collect();
    name_hash(&texts)
}

fn api_server(owner: &Owner, workload: &Workload<'_>) -> Value {
    let address = workload.address;
    let url = server_url(address);
    let groups: Vec<String> = GROUPS.iter().map(|group| format!("{group}=true")).collect();
    let args = [
        format!("--etcd-servers={}", workload.etcd.endpoints),
        format!("--etcd-prefix={}", owner.etcd_prefix()),
        format!("--etcd-cafile={PKI}/{ETCD_CA}"),
        format!("--etcd-certfile={PKI}/{ETCD_CERT}"),
        format!("--etcd-keyfile={PKI}/{ETCD_KEY}"),
        format!("--bind-address={address}"),
        // Loopback addresses are refused as endpoints of the `kubernetes` Service, so it has none.
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={API_SERVER_PORT}"),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        format!("--tls-cert-file={PKI}/{}", file::SERVING_CERT),
        format!("--tls-private-key-file={PKI}/{}", file::SERVING_KEY),
        format!("--client-ca-file={PKI}/{}", file::CA_CERT),
        "--cert-dir=/tmp".to_owned(),
        format!("--service-account-issuer={url}"),
        format!("--service-account-key-file={PKI}/{}", file::ISSUER_PUBLIC),
        format!("--service-account-signing-key-file={PKI}/{}", file::ISSUER_KEY),
        format!("--runtime-config=api/all=false,{}", groups.join(",")),
        format!("--disable-admission-plugins={WITHOUT_ADMISSION}"),
        "--enable-priority-and-fairness=false".to_owned(),
        "--profiling=false".to_owned(),
    ];
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": {"scheme": "HTTPS", "host": address.to_string(), "port": API_SERVER_PORT, "path": path},
            "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures,
        })
    };
    let mut liveness = probe("/livez", 10, 6);
    liveness["initialDelaySeconds"] = json!(30);
    json!({
        "name": "kube-apiserver",
        "image": workload.apiserver_image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": [{"name": "GOGC", "value": "50"}, {"name": "GOMEMLIMIT", "value": "150MiB"}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "readinessProbe": probe("/readyz", 1, 5),
        "livenessProbe": liveness,
        "volumeMounts": [{"name": "api-server", "mountPath": PKI, "readOnly": true}],
    })
}

fn controller_manager(workload: &Workload<'_>) -> Value {
    let address = workload.address;
    let args = [
        format!("--kubeconfig={PKI}/{CONTROLLER_KUBECONFIG}"),
        format!("--bind-address={address}"),
        format!("--secure-port={CONTROLLER_MANAGER_PORT}"),
        "--cert-dir=/tmp".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--root-ca-file={PKI}/{}", file::CA_CERT),
        format!("--controllers={CONTROLLERS}"),
        "--profiling=false".to_owned(),
    ];
    json!({
        "name": "kube-controller-manager",
        "image": workload.controller_manager_image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": [{"name": "GOGC", "value": "50"}],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "readinessProbe": {
            "httpGet": {"scheme": "HTTPS", "host": address.to_string(), "port": CONTROLLER_MANAGER_PORT, "path": "/healthz"},
            "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 5,
        },
        "volumeMounts": [{"name": "controller-manager", "mountPath": PKI, "readOnly": true}],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cluster::pki;

    fn owner() -> Owner {
        Owner {
            namespace: "mcp--1".into(),
            name: "mcp-2j47xs3f".into(),
            uid: "u-1".into(),
        }
    }
    fn etcd() -> Access {
        Access {
            endpoints: "https://127.0.0.2:2379".into(),
            ca: "CA".into(),
            certificate: "CERT".into(),
            key: "KEY".into(),
        }
    }
    fn build(address: Ipv4Addr) -> (BTreeMap<String, String>, Value) {
        let now = time::OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let identity = pki::complete(pki::Identity::from_files(BTreeMap::new()), address, now)
            .unwrap()
            .0;
        let (etcd, owner) = (etcd(), owner());
        let files = files(&identity, &etcd, address).unwrap();
        let workload = Workload {
            provider: "hosted",
            apiserver_image: "a",
            controller_manager_image: "c",
            address,
            etcd: &etcd,
            files: &files,
        };
        let deployment = deployment(&owner, &workload);
        (files, deployment)
    }

    #[test]
    fn the_keys_that_no_container_needs_are_mounted_nowhere() {
        let (files, deployment) = build(Ipv4Addr::new(127, 0, 0, 9));
        let mounted = deployment["spec"]["template"]["spec"]["volumes"].to_string();
        for kept in [file::CA_KEY, file::ADMIN_KEY, file::ADMIN_CERT] {
            assert!(files.contains_key(kept) && !mounted.contains(kept), "{kept}");
        }
    }

    #[test]
    fn every_mounted_file_is_in_the_secret() {
        let (files, deployment) = build(Ipv4Addr::new(127, 0, 0, 9));
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap()
        {
            for item in volume["secret"]["items"].as_array().unwrap() {
                assert!(files.contains_key(item["key"].as_str().unwrap()), "{item}");
            }
        }
    }

    #[test]
    fn a_control_plane_holds_the_etcd_access_that_it_was_given() {
        assert_eq!(etcd_copy(&build(Ipv4Addr::new(127, 0, 0, 9)).0), Some(etcd()));
    }

    #[test]
    fn other_credentials_start_the_pods_anew() {
        let template = |deployment: &Value| {
            deployment["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CREDENTIALS].clone()
        };
        assert_ne!(
            template(&build(Ipv4Addr::new(127, 0, 0, 9)).1),
            template(&build(Ipv4Addr::new(127, 0, 0, 9)).1)
        );
    }

    #[test]
    fn each_cluster_has_its_own_etcd_prefix_and_pods_with_legal_names() {
        let mut long = owner();
        long.name = "x".repeat(200);
        assert!(long.control_plane().len() <= MAX_NAME);
        assert_eq!(owner().etcd_prefix(), "/hosted/u-1");
        assert!(
            build(Ipv4Addr::new(127, 0, 0, 9))
                .1
                .to_string()
                .contains("--etcd-prefix=/hosted/u-1")
        );
    }
}
