//! The CustomResourceDefinitions, and on which cluster each is installed.
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt, ResourceExt};

use crate::{
    AccessRequest, Cluster, ClusterProfile, ClusterProvider, ClusterRequest, ControlPlane, Inventory,
    PlatformService, ServiceProvider, keys::labels,
};

/// The clusters that CRDs are installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstalledOn {
    Platform,
    Onboarding,
}

impl InstalledOn {
    /// The value of the label `openmcp.cloud/cluster`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Platform => labels::CLUSTER_PLATFORM,
            Self::Onboarding => labels::CLUSTER_ONBOARDING,
        }
    }
}

/// Every CRD of this crate.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<ServiceProvider>(),
        definition::<ClusterProvider>(),
        definition::<PlatformService>(),
        definition::<Cluster>(),
        definition::<ClusterRequest>(),
        definition::<AccessRequest>(),
        definition::<ClusterProfile>(),
        definition::<ControlPlane>(),
        definition::<Inventory>(),
    ]
}

/// The CRDs of this crate that are installed on a cluster.
pub fn installed_on(cluster: InstalledOn) -> Vec<CustomResourceDefinition> {
    let bears_label = |crd: &CustomResourceDefinition| {
        crd.labels()
            .get(labels::CLUSTER)
            .is_some_and(|it| it == cluster.label())
    };
    all().into_iter().filter(bears_label).collect()
}

/// The CRD of a kind as it should be installed; also for providers' own kinds. Other than kube's own, it leaves no name
/// for the API server to fill in, and no field is nullable: what is absent is left out.
pub fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut crd = K::crd();
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for schema in crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|it| it.schema.as_mut()?.open_api_v3_schema.as_mut())
    {
        schema.title = None;
        refuse_null(schema);
    }
    crd
}

fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|JSON(value)| !value.is_null());
    }
    schema
        .properties
        .iter_mut()
        .flat_map(|it| it.values_mut())
        .for_each(refuse_null);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => refuse_null(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(refuse_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        refuse_null(value);
    }
}
