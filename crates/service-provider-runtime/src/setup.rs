//! `init`: installs the definitions on platform and onboarding, gives tenants rights on the service's kinds, and
//! registers the kinds. Idempotent; anything that fails ends it non-zero.
use crate::{
    onboarding::{self, Onboarding},
    provider::ServiceProvider,
    world::Names,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, CustomResourceExt, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use openmcp_api::{
    Inventory, ServiceProvider as Registration, common::GroupVersionKind, crds, keys::labels,
    names::label_value,
};
use openmcp_reconcile::{Fault, cluster::Connection, fault::Class};
use serde_json::{Value, json};

/// On shared definitions: the version of the runtime that installed them, so that an older one does not undo it.
const RUNTIME_VERSION: &str = "runtime.openmcp.cloud/version";

/// Installs everything that `run` needs.
pub(crate) async fn init<P: ServiceProvider>(connection: &Connection, names: &Names) -> Result<(), Fault> {
    let platform = connection.client();
    install_inventory(&platform, names).await?;
    install::<P::Config>(&platform, names, labels::CLUSTER_PLATFORM).await?;
    // A pod that stands by, as in a rolling update, needs it for its caches and may not ask for it.
    Onboarding::of_run::<P>(connection, names).request().await?;
    let onboarding = Onboarding::new(connection, names, "onboarding-init", onboarding::init_rules());
    tracing::info!("waiting for access to the onboarding cluster");
    let onboarding = onboarding.connect(&names.user_agent()).await?.client();
    let definition = install::<P::Api>(&onboarding, names, labels::CLUSTER_ONBOARDING).await?;
    for role in tenant_roles::<P>(&definition) {
        apply(
            &onboarding,
            names,
            "apis/rbac.authorization.k8s.io/v1/clusterroles",
            &role,
        )
        .await?;
    }
    register::<P>(&platform, names).await
}

/// The one definition that all providers share: never replaced by that of an older runtime.
async fn install_inventory(platform: &kube::Client, names: &Names) -> Result<(), Fault> {
    let mut crd = crds::definition::<Inventory>();
    let ours = env!("CARGO_PKG_VERSION");
    let api: Api<CustomResourceDefinition> = Api::all(platform.clone());
    let doing = || format!("read CustomResourceDefinition {}", crd.name_any());
    let live = api
        .get_opt(&crd.name_any())
        .await
        .map_err(|error| Fault::api(doing(), &error))?;
    let installed = live
        .as_ref()
        .and_then(|live| live.annotations().get(RUNTIME_VERSION));
    if installed.is_some_and(|installed| version(installed) > version(ours)) {
        tracing::info!(
            installed,
            ours,
            "leaving the Inventory definition of a newer runtime as it is"
        );
        return Ok(());
    }
    crd.annotations_mut()
        .insert(RUNTIME_VERSION.to_owned(), ours.to_owned());
    install_definition(platform, names, crd).await.map(drop)
}

/// `1.10.0` is more than `1.9.0`; what is no number counts as 0.
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or_default())
        .collect()
}

async fn install<K: CustomResourceExt>(
    client: &kube::Client,
    names: &Names,
    cluster: &str,
) -> Result<CustomResourceDefinition, Fault> {
    let mut crd = crds::definition::<K>();
    let with = crd.labels_mut();
    with.insert(labels::CLUSTER.to_owned(), cluster.to_owned());
    // By it the operator finds what an init left that did not get to register the kinds.
    with.insert(labels::RUNTIME_PROVIDER.to_owned(), label_value(names.provider));
    install_definition(client, names, crd).await
}

async fn install_definition(
    client: &kube::Client,
    names: &Names,
    crd: CustomResourceDefinition,
) -> Result<CustomResourceDefinition, Fault> {
    let name = crd.name_any();
    let mut object = json!(crd);
    object["apiVersion"] = json!("apiextensions.k8s.io/v1");
    object["kind"] = json!("CustomResourceDefinition");
    apply(
        client,
        names,
        "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &object,
    )
    .await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let waited = await_condition(api, &name, is_crd_established()).await;
    let failed = |why: String| {
        let message = format!("wait for CustomResourceDefinition {name}: {why}");
        Fault::new(Class::Unreachable, "Unreachable", message)
    };
    let live = waited.map_err(|error| failed(error.to_string()))?;
    let live = live.ok_or_else(|| failed("it was deleted".to_owned()))?;
    tracing::info!(crd = name, "installed");
    Ok(live)
}

/// Forced: what another implementation or release installed is taken over.
async fn apply(client: &kube::Client, names: &Names, path: &str, object: &Value) -> Result<(), Fault> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let doing = || format!("apply {} {name}", object["kind"].as_str().unwrap_or_default());
    let request = kube::core::Request::new(format!("/{path}"));
    let params = PatchParams::apply(names.provider).force();
    let request = request.patch(name, &params, &Patch::Apply(object));
    let request = request.map_err(|error| Fault::invalid("Rejected", format!("{}: {error}", doing())))?;
    client
        .request::<Value>(request)
        .await
        .map(drop)
        .map_err(|error| Fault::api(doing(), &error))
}

/// What tenants may do with the service's kind, by the roles that every cluster has. They go with the definition.
fn tenant_roles<P: ServiceProvider>(definition: &CustomResourceDefinition) -> [Value; 2] {
    let (group, plural) = (P::Api::group(&()), P::Api::plural(&()));
    let role = |name: &str, into: &[&str], verbs: &[&str]| {
        let labels: serde_json::Map<String, Value> = into
            .iter()
            .map(|into| {
                (
                    format!("rbac.authorization.k8s.io/aggregate-to-{into}"),
                    json!("true"),
                )
            })
            .collect();
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": format!("{group}:{name}"), "labels": labels, "ownerReferences": [definition.owner_ref(&())],
            },
            "rules": [{"apiGroups": [group], "resources": [plural], "verbs": verbs}],
        })
    };
    [
        role(
            "edit",
            &["admin", "edit"],
            &["create", "update", "patch", "delete", "deletecollection"],
        ),
        role("view", &["admin", "edit", "view"], &["get", "list", "watch"]),
    ]
}

/// Tells the operator which kinds have to go before a ControlPlane can.
async fn register<P: ServiceProvider>(platform: &kube::Client, names: &Names) -> Result<(), Fault> {
    let kind = GroupVersionKind::new(P::Api::group(&()), P::Api::version(&()), P::Api::kind(&()));
    let api: Api<Registration> = Api::all(platform.clone());
    let patch = json!({"status": {"resources": [kind]}});
    let written = api
        .patch_status(names.provider, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    written.map(drop).map_err(|error| {
        Fault::api(
            format_args!("register {kind} on ServiceProvider {}", names.provider),
            &error,
        )
    })
}

/// Fails where the platform has no ServiceProvider of this name.
pub(crate) async fn registered(platform: &kube::Client, provider: &str) -> Result<(), Fault> {
    let api: Api<Registration> = Api::all(platform.clone());
    match api.get_metadata_opt(provider).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Fault::invalid(
            "ProviderMissing",
            format!(
                "there is no ServiceProvider {provider} on this platform: `kubectl get serviceproviders` shows what --provider-name can be"
            ),
        )),
        Err(error) => Err(Fault::api(
            format_args!("read ServiceProvider {provider}"),
            &error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("0.10.0") > version("0.9.4"));
        assert!(version("1.0.0") > version("0.10.0"));
        assert_eq!(version("0.1.0"), version("0.1.0"));
    }
}
