//! Kinds read in part: what the operator needs of kinds whose full bodies it must not hold (secret material, CRD
//! schemas, tenants' service objects).
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Namespace, Secret},
        rbac::v1::ClusterRole,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, core::ApiResource};
use openmcp_api::{common::GroupVersionKind, keys::secrets::KUBECONFIG};
use serde::{Deserialize, Deserializer, Serialize};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// A Secret whose data is kept only if it is an access Secret. Never printed.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessSecret {
    #[serde(default = "v1")]
    api_version: String,
    #[serde(default = "secret")]
    kind: String,
    pub metadata: ObjectMeta,
    /// Compared with what is wanted, like every other field here: left out, each look would be a write.
    #[serde(rename = "type", default)]
    type_: String,
    #[serde(default, deserialize_with = "access_data_only")]
    pub data: BTreeMap<String, ByteString>,
}

fn v1() -> String {
    "v1".to_owned()
}

fn secret() -> String {
    "Secret".to_owned()
}

fn access_data_only<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, ByteString>, D::Error> {
    let data = Option::<BTreeMap<String, ByteString>>::deserialize(from)?.unwrap_or_default();
    Ok(if data.contains_key(KUBECONFIG) {
        data
    } else {
        BTreeMap::new()
    })
}

impl AccessSecret {
    /// The kubeconfig, if this is an access Secret.
    pub(crate) fn kubeconfig(&self) -> Option<&[u8]> {
        self.data.get(KUBECONFIG).map(|bytes| bytes.0.as_slice())
    }
}

impl fmt::Debug for AccessSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessSecret")
            .field("name", &self.metadata.name)
            .finish_non_exhaustive()
    }
}

/// A Namespace with its labels.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NamespaceName {
    pub metadata: ObjectMeta,
}

/// A ClusterRole's name: whether the platform owner prepared rights for a provider.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClusterRoleName {
    #[serde(deserialize_with = "identity_only")]
    pub metadata: ObjectMeta,
}

impl ClusterRoleName {
    /// What the names of providers' ClusterRoles begin with (contract §3).
    pub(crate) const OF_PROVIDERS: &'static str = "openmcp.cloud:";
}

/// A CustomResourceDefinition without its schema.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Crd {
    pub metadata: ObjectMeta,
    pub spec: CrdSpec,
    #[serde(default)]
    pub status: CrdStatus,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CrdSpec {
    pub group: String,
    pub names: CrdNames,
    pub versions: Vec<CrdVersion>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CrdNames {
    pub kind: String,
    pub plural: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CrdVersion {
    pub name: String,
    pub served: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct CrdStatus {
    /// `null` for a moment after the CRD was made.
    pub conditions: Option<Vec<CrdCondition>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CrdCondition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
}

impl Crd {
    /// The kind in its first version.
    pub(crate) fn first_kind(&self) -> Option<GroupVersionKind> {
        let version = self.spec.versions.first()?;
        Some(GroupVersionKind::new(
            &*self.spec.group,
            &*version.name,
            &*self.spec.names.kind,
        ))
    }

    /// Whether this defines the kind, in whatever version.
    pub(crate) fn defines(&self, kind: &GroupVersionKind) -> bool {
        self.spec.group == kind.group && self.spec.names.kind == kind.kind
    }

    /// Whether the API server serves the kind.
    pub(crate) fn is_established(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && self
                .status
                .conditions
                .iter()
                .flatten()
                .any(|c| c.type_ == "Established" && c.status == "True")
    }

    /// How to reach the kind: in `version` if that is served, else in any version that is.
    pub(crate) fn resource(&self, version: &str) -> Option<ApiResource> {
        let mut served = self
            .spec
            .versions
            .iter()
            .filter(|v| v.served)
            .map(|v| v.name.as_str());
        let version = served.clone().find(|v| *v == version).or_else(|| served.next())?;
        Some(ApiResource {
            group: self.spec.group.clone(),
            version: version.to_owned(),
            api_version: format!("{}/{version}", self.spec.group),
            kind: self.spec.names.kind.clone(),
            plural: self.spec.names.plural.clone(),
        })
    }
}

/// A tenant's service object of any kind, by its identity only.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServiceObject {
    #[serde(deserialize_with = "identity_only")]
    pub metadata: ObjectMeta,
}

fn identity_only<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let full = ObjectMeta::deserialize(from)?;
    Ok(ObjectMeta {
        name: full.name,
        namespace: full.namespace,
        uid: full.uid,
        resource_version: full.resource_version,
        deletion_timestamp: full.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

impl Resource for ServiceObject {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }
    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }
    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }
    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The slim kinds live at the same place of the API as the full ones.
macro_rules! served_as {
    ($slim:ty, $full:ty) => {
        impl Resource for $slim {
            type DynamicType = ();
            type Scope = <$full as Resource>::Scope;

            fn kind(dt: &()) -> Cow<'_, str> {
                <$full as Resource>::kind(dt)
            }
            fn group(dt: &()) -> Cow<'_, str> {
                <$full as Resource>::group(dt)
            }
            fn version(dt: &()) -> Cow<'_, str> {
                <$full as Resource>::version(dt)
            }
            fn plural(dt: &()) -> Cow<'_, str> {
                <$full as Resource>::plural(dt)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

served_as!(AccessSecret, Secret);
served_as!(NamespaceName, Namespace);
served_as!(ClusterRoleName, ClusterRole);
served_as!(Crd, CustomResourceDefinition);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_access_secrets_keep_their_data_and_none_shows_it() {
        let pki: AccessSecret =
            serde_json::from_value(json!({"metadata": {"name": "pki"}, "data": {"tls.key": "c2VjcmV0"}}))
                .unwrap();
        assert!(pki.data.is_empty());
        let access: AccessSecret = serde_json::from_value(
            json!({"metadata": {"name": "a"}, "data": {"kubeconfig": "c2VjcmV0", "token": "eA=="}}),
        )
        .unwrap();
        assert_eq!(access.kubeconfig(), Some(b"secret".as_slice()));
        assert_eq!(format!("{access:?}"), r#"AccessSecret { name: Some("a"), .. }"#);
    }

    #[test]
    fn a_service_object_keeps_its_identity_only() {
        let object: ServiceObject = serde_json::from_value(json!({
            "apiVersion": "kro.services.open-control-plane.io/v1alpha1", "kind": "Kro",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x": "y"}}, "spec": {"version": "1"}}))
        .unwrap();
        assert_eq!(object.metadata.uid.as_deref(), Some("u"));
        assert!(object.metadata.labels.is_none());
    }
}
