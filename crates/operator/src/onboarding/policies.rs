//! What guards the onboarding cluster against its tenants, where CRD rules cannot (contract §11.7). Pure.
//!
//! The purpose label of a ControlPlane chooses the cluster that it gets: a tenant who could set any purpose would be
//! given an administrator's token for a platform cluster (known fault 19).
use openmcp_api::{
    control_plane::DEFAULT_OIDC_PROVIDER,
    keys::labels::{
        MANAGED_BY, MANAGED_BY_CONTROL_PLANE, MANAGED_PURPOSE, MANAGED_PURPOSE_MCP_PURPOSE_OVERRIDE,
        MANAGED_PURPOSE_OIDC_PROVIDER_NAME_UNIQUENESS, PURPOSE,
    },
};
use serde_json::{Value, json};

/// Name of the policy that guards the purpose label.
pub(crate) const PURPOSE_POLICY: &str = "mcp-purpose-override-validation.core.openmcp.cloud";
const OIDC_POLICY: &str = "oidc-provider-name-uniqueness.core.openmcp.cloud";

/// What a purpose override must contain.
const MUST_CONTAIN: &str = "mcp";

/// Whether a ControlPlane may choose the purpose. The controller asks too: a policy can be removed.
pub(crate) fn is_allowed_purpose(purpose: &str) -> bool {
    purpose.contains(MUST_CONTAIN)
}

/// Each policy with its binding.
pub(super) fn all() -> Vec<[Value; 2]> {
    let label = |object: &str| format!("({object}.metadata.?labels[?'{PURPOSE}'].orValue(''))");
    vec![
        guard(
            PURPOSE_POLICY,
            MANAGED_PURPOSE_MCP_PURPOSE_OVERRIDE,
            &[
                (
                    format!(
                        "oldObject == null || {} == {}",
                        label("object"),
                        label("oldObject")
                    ),
                    format!(
                        "the label {PURPOSE} cannot be added, changed or removed after the ControlPlane was created"
                    ),
                ),
                (
                    format!(
                        "oldObject != null || !has(object.metadata.labels) || !('{PURPOSE}' in object.metadata.labels) || {}.contains('{MUST_CONTAIN}')",
                        label("object")
                    ),
                    format!("the value of the label {PURPOSE} must contain '{MUST_CONTAIN}'"),
                ),
            ],
        ),
        guard(
            OIDC_POLICY,
            MANAGED_PURPOSE_OIDC_PROVIDER_NAME_UNIQUENESS,
            &[(
                format!(
                    "object.spec.iam.?oidc.?extraProviders.orValue([]).all(p, p.name != '{DEFAULT_OIDC_PROVIDER}' && object.spec.iam.oidc.extraProviders.exists_one(q, q.name == p.name))"
                ),
                format!(
                    "the names in spec.iam.oidc.extraProviders must differ from each other and from '{DEFAULT_OIDC_PROVIDER}', the default provider's"
                ),
            )],
        ),
    ]
}

fn guard(name: &str, managed_purpose: &str, rules: &[(String, String)]) -> [Value; 2] {
    let metadata = json!({"name": name, "labels": {MANAGED_BY: MANAGED_BY_CONTROL_PLANE, MANAGED_PURPOSE: managed_purpose}});
    let validations: Vec<Value> = rules
        .iter()
        .map(|(expression, message)| json!({"expression": expression, "message": message}))
        .collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["core.open-control-plane.io"], "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"], "resources": ["controlplanes"],
            }]},
            "validations": validations,
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    [policy, binding]
}

/// A ControlPlane that the purpose policy must refuse.
pub(super) fn forbidden() -> openmcp_api::ControlPlane {
    let mut forbidden = openmcp_api::ControlPlane::new(
        "openmcp-policy-probe",
        openmcp_api::control_plane::ControlPlaneSpec::default(),
    );
    forbidden.metadata.labels = Some(
        [(
            PURPOSE.to_owned(),
            openmcp_api::clusters::purpose::ONBOARDING.to_owned(),
        )]
        .into(),
    );
    forbidden
}
