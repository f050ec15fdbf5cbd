#![allow(clippy::unwrap_used)]
use super::{policies, requests};
use openmcp_api::AccessRequest;
use std::collections::BTreeSet;

#[test]
fn the_static_requests_have_the_contracts_name_and_point_at_each_other() {
    let groups = BTreeSet::from(["kro.services.open-control-plane.io".to_owned()]);
    let access: AccessRequest =
        serde_json::from_value(requests::access_request("openmcp-system", &groups)).unwrap();
    assert_eq!(
        access.metadata.name.as_deref(),
        Some("openmcp-operator--onboarding")
    );
    let request = requests::cluster_request("openmcp-system");
    assert_eq!(
        request["metadata"]["name"],
        access.spec.request_ref.as_ref().unwrap().name.as_str()
    );
    assert_eq!(request["spec"]["purpose"], "onboarding");
}

#[test]
fn only_groups_of_registered_kinds_are_asked_for_beside_the_operators_own() {
    let groups = BTreeSet::from(["kro.services.open-control-plane.io".to_owned()]);
    let access: AccessRequest = serde_json::from_value(requests::access_request("n", &groups)).unwrap();
    let readable = requests::readable_groups(&access);
    assert!(readable.contains("kro.services.open-control-plane.io"));
    assert!(!readable.contains("*"));
    let rules = &access.spec.token.unwrap().permissions[0].rules;
    assert!(rules.iter().all(|rule| !rule.verbs.contains(&"*".to_owned())));
}

#[test]
fn policies_match_the_resource_by_its_plural_name() {
    for [policy, binding] in policies::all() {
        assert_eq!(
            policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"][0],
            "controlplanes"
        );
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        assert_eq!(binding["spec"]["validationActions"][0], "Deny");
    }
}

#[test]
fn a_platform_purpose_is_not_a_tenants_to_choose() {
    assert!(policies::is_allowed_purpose("mcp-worker"));
    assert!(!policies::is_allowed_purpose("onboarding"));
    assert!(!policies::is_allowed_purpose("platform"));
}
