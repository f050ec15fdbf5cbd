//! Where an object lives on an API server: its path, with the plural guessed as kube does and corrected by
//! discovery only when the API server does not know it.
use crate::{
    Fault,
    request::{Answer, METADATA_ONLY, Sent, send},
};
use http::{Method, StatusCode};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use std::fmt;

/// One object's place.
pub(crate) struct Target {
    api_version: String,
    group: String,
    kind: String,
    plural: String,
    namespace: Option<String>,
    pub(super) name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Target {
    /// The place of an object that names apiVersion, kind and metadata.name.
    pub(super) fn of(object: &Value) -> Result<Self, Fault> {
        let field = |path: &str| object.pointer(path).and_then(Value::as_str);
        let (Some(api_version), Some(kind), Some(name)) =
            (field("/apiVersion"), field("/kind"), field("/metadata/name"))
        else {
            return Err(Fault::bug(
                "an object without apiVersion, kind or metadata.name cannot be applied",
            ));
        };
        Self::new(api_version, kind, field("/metadata/namespace"), name)
    }

    /// The place of a named object. What could leave its path segment is refused.
    pub(crate) fn new(
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Self, Fault> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        for segment in [group, version, kind, namespace.unwrap_or("default"), name] {
            let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
            if matches!(segment, "." | "..") || !segment.chars().all(harmless) {
                return Err(Fault::invalid(
                    "Rejected",
                    format!("{segment:?} cannot be part of an object's path"),
                ));
            }
        }
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Ok(Self {
            api_version: api_version.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            plural: ApiResource::from_gvk(&gvk).plural,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        })
    }

    fn root(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}", self.api_version)
    }

    /// The object's path.
    pub(super) fn path(&self) -> String {
        let (root, plural, name) = (self.root(), &self.plural, &self.name);
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
            None => format!("{root}/{plural}/{name}"),
        }
    }

    /// Reads the object; another plural is looked up when the guessed one is not known.
    pub(super) async fn get(
        &mut self,
        client: &kube::Client,
        accept: &'static str,
        doing: &str,
    ) -> Result<Answer, Fault> {
        let sent = || Sent {
            accept: Some(accept),
            ..Sent::default()
        };
        let answer = send(client, Method::GET, &self.path(), sent(), doing).await?;
        if answer.status == StatusCode::NOT_FOUND
            && !answer.is_absent(&self.name)
            && self.correct(client).await?
        {
            return send(client, Method::GET, &self.path(), sent(), doing).await;
        }
        Ok(answer)
    }

    /// Takes the plural from discovery. Returns whether that is another one than before.
    pub(super) async fn correct(&mut self, client: &kube::Client) -> Result<bool, Fault> {
        match self.served(client).await? {
            Some(plural) if plural != self.plural => {
                self.plural = plural;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The kind itself does not exist any more, so that none of its objects can: discovery does not list it *and* its
    /// CustomResourceDefinition is confirmed absent (who may not look for that is left with discovery's word). A kind
    /// that is only not served at the moment is not gone.
    pub(crate) async fn kind_is_gone(&self, client: &kube::Client) -> Result<bool, Fault> {
        if self.group.is_empty() || self.served(client).await?.is_some() {
            return Ok(false);
        }
        let crd = format!("{}.{}", self.plural, self.group);
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}");
        let doing = format!("look for CustomResourceDefinition {crd}");
        let sent = Sent {
            accept: Some(METADATA_ONLY),
            ..Sent::default()
        };
        let answer = send(client, Method::GET, &path, sent, &doing).await?;
        if answer.is_absent(&crd) || answer.status == StatusCode::FORBIDDEN {
            return Ok(true);
        }
        answer.into_success(&doing).map(|_exists| false)
    }

    /// The plural under which the API server serves the kind now.
    async fn served(&self, client: &kube::Client) -> Result<Option<String>, Fault> {
        let doing = format!("discover {} {}", self.api_version, self.kind);
        let answer = send(client, Method::GET, &self.root(), Sent::default(), &doing).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return self.is_no_group(client, &doing).await.map(|()| None);
        }
        let list = answer.into_success(&doing)?;
        let resources = list["resources"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let own = resources.iter().find(|resource| {
            resource["kind"] == self.kind.as_str()
                && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
        });
        Ok(own
            .and_then(|resource| resource["name"].as_str())
            .map(str::to_owned))
    }

    /// Any proxy can say 404; only an API server lists its groups. An error if this one is among them.
    async fn is_no_group(&self, client: &kube::Client, doing: &str) -> Result<(), Fault> {
        let groups = send(client, Method::GET, "/apis", Sent::default(), doing)
            .await?
            .into_success(doing)?;
        let listed = groups["groups"].as_array().is_some_and(|groups| {
            let mut versions = groups
                .iter()
                .filter_map(|group| group["versions"].as_array())
                .flatten();
            versions.any(|version| version["groupVersion"] == self.api_version.as_str())
        });
        if listed || groups["kind"] != "APIGroupList" {
            return Err(Fault::retry(
                "NotServed",
                format!("{doing}: the API server does not serve it at the moment"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let path =
            |api_version, kind, namespace| Target::new(api_version, kind, namespace, "x").unwrap().path();
        assert_eq!(path("v1", "Secret", Some("a")), "/api/v1/namespaces/a/secrets/x");
        assert_eq!(path("v1", "Namespace", None), "/api/v1/namespaces/x");
        assert_eq!(
            path("networking.k8s.io/v1", "NetworkPolicy", Some("a")),
            "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/x"
        );
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        for name in ["../x", "a/b", "a?b", "..", "a b", "a%2fb"] {
            assert!(Target::new("v1", "Secret", Some("a"), name).is_err(), "{name}");
        }
        assert!(
            Target::new(
                "rbac.authorization.k8s.io/v1",
                "ClusterRole",
                None,
                "openmcp.cloud:sp-x"
            )
            .is_ok()
        );
    }
}
