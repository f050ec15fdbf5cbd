//! The kinds that are served: a table of built-in ones, and those of CustomResourceDefinitions.
use super::{answer::Refusal, schema::Node};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// One kind, in its one served version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    /// Status is a subresource.
    pub(crate) status: bool,
    /// It counts generations.
    pub(crate) generation: bool,
    pub(crate) node: Arc<Node>,
    pub(crate) custom: bool,
}

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub(crate) fn collection(&self) -> Collection {
        (self.group.clone(), self.plural.clone())
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// Group and plural.
pub(crate) type Collection = (String, String);

const METADATA: &[(&str, &str)] = &[
    ("finalizers", "set"),
    ("ownerReferences", "uid"),
    ("ownerReferences.*", "atomic"),
    ("managedFields", "atomic"),
];

const CONTAINER: &[(&str, &str)] = &[
    ("args", "atomic"),
    ("command", "atomic"),
    ("env", "name"),
    ("env.*.valueFrom.fieldRef", "atomic"),
    ("env.*.valueFrom.resourceFieldRef", "atomic"),
    ("env.*.valueFrom.configMapKeyRef", "atomic"),
    ("env.*.valueFrom.secretKeyRef", "atomic"),
    ("envFrom", "atomic"),
    ("ports", "containerPort,protocol=TCP"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("resources.claims", "name"),
    ("securityContext.capabilities.add", "atomic"),
    ("securityContext.capabilities.drop", "atomic"),
    ("readinessProbe.exec.command", "atomic"),
    ("readinessProbe.httpGet.httpHeaders", "atomic"),
    ("livenessProbe.exec.command", "atomic"),
    ("livenessProbe.httpGet.httpHeaders", "atomic"),
    ("startupProbe.exec.command", "atomic"),
    ("startupProbe.httpGet.httpHeaders", "atomic"),
];

const POD_SPEC: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("volumes.*.configMap.items", "atomic"),
    ("volumes.*.secret.items", "atomic"),
    ("volumes.*.projected.sources", "atomic"),
    ("volumes.*.downwardAPI.items", "atomic"),
    ("imagePullSecrets", "name"),
    ("imagePullSecrets.*", "atomic"),
    ("tolerations", "atomic"),
    ("nodeSelector", "atomic"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey,whenUnsatisfiable"),
    ("topologySpreadConstraints.*.labelSelector", "atomic"),
    ("readinessGates", "atomic"),
    ("schedulingGates", "name"),
    ("securityContext.supplementalGroups", "atomic"),
    ("securityContext.sysctls", "atomic"),
    ("dnsConfig.nameservers", "atomic"),
    ("dnsConfig.options", "atomic"),
    ("dnsConfig.searches", "atomic"),
];

/// apiVersion, kind, plural, namespaced, status subresource, counts generations, lists.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    bool,
    bool,
    bool,
    &'static [(&'static str, &'static str)],
);

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const SUBJECTS: &[(&str, &str)] = &[("subjects", "atomic"), ("roleRef", "atomic")];
const WORKLOAD: &[(&str, &str)] = &[
    ("spec.selector", "atomic"),
    ("spec.volumeClaimTemplates", "atomic"),
    ("status.conditions", "type"),
];
const POLICY: &[(&str, &str)] = &[
    ("spec.podSelector", "atomic"),
    ("spec.ingress", "atomic"),
    ("spec.egress", "atomic"),
    ("spec.policyTypes", "atomic"),
];

#[rustfmt::skip]
const BUILT_IN: &[Row] = &[
    ("v1", "Namespace", "namespaces", false, true, false, &[("spec.finalizers", "atomic"), ("status.conditions", "type")]),
    ("v1", "ConfigMap", "configmaps", true, false, false, &[]),
    ("v1", "Secret", "secrets", true, false, false, &[]),
    ("v1", "ServiceAccount", "serviceaccounts", true, false, false, &[("secrets", "name"), ("secrets.*", "atomic"), ("imagePullSecrets", "atomic")]),
    ("v1", "Service", "services", true, true, false, &[("spec.selector", "atomic"), ("spec.ports", "port,protocol=TCP"), ("spec.clusterIPs", "atomic"), ("spec.ipFamilies", "atomic"), ("status.conditions", "type")]),
    ("v1", "ResourceQuota", "resourcequotas", true, true, false, &[("spec.scopes", "atomic")]),
    ("v1", "LimitRange", "limitranges", true, false, false, &[("spec.limits", "atomic")]),
    ("apps/v1", "Deployment", "deployments", true, true, true, WORKLOAD),
    ("apps/v1", "StatefulSet", "statefulsets", true, true, true, WORKLOAD),
    ("apps/v1", "DaemonSet", "daemonsets", true, true, true, WORKLOAD),
    ("batch/v1", "Job", "jobs", true, true, true, &[("spec.selector", "atomic"), ("status.conditions", "atomic")]),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true, true, true, &[("spec.selector", "atomic"), ("status.conditions", "type")]),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true, false, true, POLICY),
    (RBAC, "Role", "roles", true, false, false, &[("rules", "atomic")]),
    (RBAC, "RoleBinding", "rolebindings", true, false, false, SUBJECTS),
    (RBAC, "ClusterRole", "clusterroles", false, false, false, &[("rules", "atomic"), ("aggregationRule.clusterRoleSelectors", "atomic")]),
    (RBAC, "ClusterRoleBinding", "clusterrolebindings", false, false, false, SUBJECTS),
    ("coordination.k8s.io/v1", "Lease", "leases", true, false, false, &[]),
    ("events.k8s.io/v1", "Event", "events", true, false, false, &[("regarding", "atomic"), ("related", "atomic")]),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false, true, true, &[
        ("spec.versions", "atomic"), ("spec.names.shortNames", "atomic"), ("spec.names.categories", "atomic"),
        ("spec.conversion", "atomic"), ("status.conditions", "type"), ("status.acceptedNames.shortNames", "atomic"),
        ("status.acceptedNames.categories", "atomic"), ("status.storedVersions", "atomic"),
    ]),
];

static TABLE: LazyLock<Vec<Arc<Kind>>> = LazyLock::new(|| BUILT_IN.iter().map(built_in).collect());

fn metadata() -> Node {
    Node::of_table(METADATA)
}

fn pod_template() -> Node {
    let container = Node::of_table(CONTAINER);
    Node::of_table(POD_SPEC)
        .with_items("containers", container.clone())
        .with_items("initContainers", container)
}

fn built_in(row: &Row) -> Arc<Kind> {
    let (api_version, kind, plural, namespaced, status, generation, lists) = *row;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let mut node = Node::of_table(lists).with("metadata", metadata());
    if matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "Job") {
        node = node
            .with("spec.template.metadata", metadata())
            .with("spec.template.spec", pod_template());
    }
    Arc::new(Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        namespaced,
        status,
        generation,
        node: Arc::new(node),
        custom: false,
    })
}

/// What a server serves.
#[derive(Debug, Clone)]
pub(crate) struct Kinds {
    served: BTreeMap<Collection, Arc<Kind>>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            served: TABLE
                .iter()
                .map(|kind| (kind.collection(), kind.clone()))
                .collect(),
        }
    }
}

impl Kinds {
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let found = self.served.get(&(group.to_owned(), plural.to_owned()))?;
        (found.version == version).then(|| found.clone())
    }

    pub(crate) fn of(&self, collection: &Collection) -> Option<Arc<Kind>> {
        self.served.get(collection).cloned()
    }

    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let mut all = self.served.values();
        all.find(|known| known.kind == kind && known.api_version() == api_version)
            .cloned()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.served.values()
    }

    /// Serves the kind of a definition, or not, as that says.
    pub(crate) fn define(&mut self, definition: &Value) -> Result<(), Refusal> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().collect();
        let served: Vec<&&Value> = versions
            .iter()
            .filter(|version| version["served"] == true)
            .collect();
        let version = match served[..] {
            [] => {
                self.undefine(&(text(&spec["group"]), text(&spec["names"]["plural"])));
                return Ok(());
            }
            [version] => version,
            _ => return Err(Refusal::unsupported("a definition that serves several versions")),
        };
        let schema = &version["schema"]["openAPIV3Schema"];
        let names = &spec["names"];
        let kind = Arc::new(Kind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            list_kind: match text(&names["listKind"]) {
                none if none.is_empty() => format!("{}List", text(&names["kind"])),
                list_kind => list_kind,
            },
            plural: text(&names["plural"]),
            singular: match text(&names["singular"]) {
                none if none.is_empty() => text(&names["kind"]).to_lowercase(),
                singular => singular,
            },
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            generation: true,
            node: Arc::new(Node::of_schema(schema, metadata())),
            custom: true,
        });
        self.served.insert(kind.collection(), kind);
        Ok(())
    }

    pub(crate) fn undefine(&mut self, collection: &Collection) {
        self.served.remove(collection);
    }

    /// `/apis`
    pub(crate) fn groups(&self) -> Value {
        let names: BTreeSet<&str> = self.served.values().map(|kind| kind.group.as_str()).collect();
        let groups: Vec<Value> = names
            .into_iter()
            .filter(|name| !name.is_empty())
            .filter_map(|name| self.group(name))
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/<group>`
    pub(crate) fn group(&self, name: &str) -> Option<Value> {
        let of_group = self.served.values().filter(|kind| kind.group == name);
        let versions: BTreeSet<&str> = of_group.map(|kind| kind.version.as_str()).collect();
        let listed: Vec<Value> = versions
            .iter()
            .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
            .collect();
        let preferred = listed.last()?.clone();
        Some(json!({
            "kind": "APIGroup", "apiVersion": "v1", "name": name,
            "versions": listed, "preferredVersion": preferred,
        }))
    }

    /// `/apis/<group>/<version>`
    pub(crate) fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let mut resources = Vec::new();
        let of_version = |kind: &&Arc<Kind>| kind.group == group && kind.version == version;
        for kind in self.served.values().filter(of_version) {
            resources.push(json!({
                "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            }));
            if kind.status {
                resources.push(json!({
                    "name": format!("{}/status", kind.plural), "singularName": "",
                    "namespaced": kind.namespaced, "kind": kind.kind, "verbs": ["get", "patch", "update"],
                }));
            }
        }
        let group_version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        (!resources.is_empty()).then(|| {
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
        })
    }
}
