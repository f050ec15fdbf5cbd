//! `runtime.openmcp.cloud/v1alpha1`: Inventory, what a provider created for one service object and has to remove again.
//! It lives in the ControlPlane's namespace on the platform cluster, out of the tenant's reach.
//!
//! Everything is in `spec`, without a status subresource: intent and observation of an entry must change in one write,
//! or a crash between two writes could lose an object.
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More entries than this are refused by the API server, and before that by the runtime with a condition.
pub const MAX_ENTRIES: usize = 1500;

/// Whose objects these are, and which.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "runtime.openmcp.cloud",
    version = "v1alpha1",
    kind = "Inventory",
    plural = "inventories",
    namespaced,
    doc = "Inventory lists what a service provider created for one service object.",
    derive = "PartialEq",
    category = "openmcp",
    shortname = "inv",
    selectable = ".spec.provider",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.owner.kind"),
    printcolumn(name = "Owner-NS", type_ = "string", json_path = ".spec.owner.namespace"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    label("openmcp.cloud/cluster", "platform")
)]
pub struct InventorySpec {
    /// The service object.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "owner is immutable: another object of the same name needs a new Inventory, after this one is gone",
    }]))]
    pub owner: Owner,
    /// The provider that created the objects.
    #[schemars(
        length(min = 1, max = 253),
        extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "provider is immutable"}])
    )]
    pub provider: String,
    /// The objects. One writer, always written as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1500), extend("x-kubernetes-list-type" = "atomic"))]
    pub entries: Vec<Entry>,
    /// What it made, or is about to make, in back ends that are not Kubernetes. Written before each creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub externals: Vec<External>,
    /// The values that were generated for it, or are about to be. Each is in a Secret beside this object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<Value>,
}

/// The service object on the onboarding cluster that an Inventory belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// Its API group.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Its kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID: a later object of the same name is another owner.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
}

/// One object that the provider created or is about to create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The cluster that it is on, by the runtime's name for it.
    #[schemars(length(min = 1, max = 253))]
    pub cluster: String,
    /// Its API group; empty for the core group.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Its API version.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// Its kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID. Absent until the object is known to exist and to be ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub uid: Option<String>,
    /// When it is applied: lower waves first, and removed in the opposite order.
    #[schemars(range(min = 0))]
    pub wave: i32,
    /// Hash of what was last applied. Absent: not applied yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub desired_hash: Option<String>,
    /// Digest of the live object's fields that are ours, as of the last apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub live_digest: Option<String>,
    /// What becomes of the object when it is no longer wanted.
    pub policy: DeletionPolicy,
}

/// One resource in a back end that is not Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct External {
    /// The back end, by the provider's name for it.
    #[schemars(length(min = 1, max = 63))]
    pub backend: String,
    /// Which of the service object's resources there, by the provider's name for it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Marks what is created, and is written before that: a creation whose answer was lost is found by it.
    #[schemars(length(min = 1, max = 128))]
    pub nonce: String,
    /// What the back end calls it. Absent until a creation was answered or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub name: Option<String>,
}

/// One generated value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// The provider's name for it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Secret that holds it.
    #[schemars(length(min = 1, max = 253))]
    pub secret: String,
    /// The UID of the Secret that was made. Absent until one is known to exist; then the value is never made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub uid: Option<String>,
}

/// What becomes of an object when it is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Orphan,
}
