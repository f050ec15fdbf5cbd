//! Installing CRDs: never a newer one by an older, and done only when the API server serves them.
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{conditions, wait::await_condition},
};
use std::time::Duration;

/// On the CRDs that we install: the version of the program that did.
const INSTALLED_VERSION: &str = "openmcp.cloud/crd-version";
/// Installing a CRD and its being served takes a second; this is for a busy API server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a CRD could not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrdError {
    #[error("cannot {doing} the CRD {name}: {source}")]
    Api {
        doing: &'static str,
        name: String,
        source: kube::Error,
    },
    #[error("watching the CRD {name} failed: {source}")]
    Watch {
        name: String,
        source: kube::runtime::wait::Error,
    },
    #[error("the CRD {name} was applied, but the API server did not serve it within {}s: see kubectl describe crd {name}", PATIENCE.as_secs())]
    NotEstablished { name: String },
}

/// Applies each CRD unless a newer version of it is there, and waits until the API server serves all of them.
pub(crate) async fn install(
    client: &kube::Client,
    manager: &str,
    crds: Vec<CustomResourceDefinition>,
) -> Result<(), CrdError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    try_join_all(crds.into_iter().map(|crd| install_one(&api, manager, crd)))
        .await
        .map(drop)
}

async fn install_one(
    api: &Api<CustomResourceDefinition>,
    manager: &str,
    mut crd: CustomResourceDefinition,
) -> Result<(), CrdError> {
    let name = crd.name_any();
    let failed = |doing| {
        let name = name.clone();
        move |source| CrdError::Api { doing, name, source }
    };
    let live = api.get_metadata_opt(&name).await.map_err(failed("read"))?;
    let live = live.and_then(|live| live.annotations().get(INSTALLED_VERSION).cloned());
    let ours = env!("CARGO_PKG_VERSION");
    if live.as_deref().is_some_and(|live| is_newer(live, ours)) {
        tracing::warn!(
            crd = name,
            live,
            ours,
            "a newer version of this CRD is installed: left as it is"
        );
    } else {
        crd.annotations_mut()
            .insert(INSTALLED_VERSION.to_owned(), ours.to_owned());
        let params = PatchParams::apply(manager).force();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .map_err(failed("apply"))?;
        tracing::info!(crd = name, "applied");
    }
    let established = await_condition(api.clone(), &name, conditions::is_crd_established());
    match tokio::time::timeout(PATIENCE, established).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(CrdError::Watch { name, source }),
        Err(_) => Err(CrdError::NotEstablished { name }),
    }
}

/// Compares `major.minor.patch`; what is no such version is never newer.
fn is_newer(live: &str, ours: &str) -> bool {
    let parse = |text: &str| -> Option<Vec<u64>> { text.split('.').map(|part| part.parse().ok()).collect() };
    matches!((parse(live), parse(ours)), (Some(live), Some(ours)) if live > ours)
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn only_a_greater_version_is_newer() {
        assert!(is_newer("0.10.0", "0.9.9"));
        assert!(!is_newer("0.1.0", "0.1.0"));
        assert!(!is_newer("0.1.0", "1.0.0"));
        assert!(!is_newer("main", "0.1.0"));
    }
}
