#![allow(clippy::unwrap_used)]
use super::*;

const VALID: &str = include_str!("../../tests/fixtures/config.yaml");

fn parse(text: &str) -> Result<Config, String> {
    let dir = std::env::temp_dir().join(format!(
        "openmcp-config-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&dir, text).unwrap();
    let config = Config::read(&dir).map_err(|e| e.to_string());
    std::fs::remove_file(&dir).unwrap();
    config
}

fn refused(from: &str, to: &str) -> String {
    let text = VALID.replace(from, to);
    assert_ne!(text, VALID, "the fixture does not contain {from:?}");
    parse(&text).unwrap_err()
}

#[test]
fn the_contracts_example_is_accepted() {
    let config = parse(VALID).unwrap();
    assert!(config.scheduler.purposes["mcp"].is_exclusive());
    assert!(config.scheduler.purposes["onboarding"].is_singleton());
    assert_eq!(config.scheduler.purposes["workload"].tenancy_count, 20);
    assert_eq!(config.control_planes.cluster_purpose, "mcp");
    assert_eq!(
        config.control_planes.default_oidc_provider.unwrap().name,
        "openmcp"
    );
    assert_eq!(
        config.control_planes.exposed_endpoints[0].rename_to.as_deref(),
        Some("default")
    );
    assert!(config.control_planes.reconcile_every.is_none());
}

#[test]
fn a_file_without_a_scheduler_is_refused() {
    assert!(
        parse("accessRequest: {}")
            .unwrap_err()
            .contains("missing field `scheduler`")
    );
}

#[test]
fn an_unknown_key_is_named() {
    let message = refused("strategy:", "strategie:");
    assert!(message.contains("strategie"), "{message}");
}

#[test]
fn an_unknown_strategy_is_named() {
    let message = refused("strategy: Balanced", "strategy: Fair");
    assert!(
        message.contains("scheduler.strategy") && message.contains("Fair"),
        "{message}"
    );
}

#[test]
fn an_exclusive_purpose_takes_no_tenancy_count() {
    let message = refused("mcp: {template", "mcp: {tenancyCount: 3, template");
    assert!(
        message.contains("scheduler.purposeMappings.mcp.tenancyCount"),
        "{message}"
    );
}

#[test]
fn a_template_that_its_own_selector_would_not_find_is_refused() {
    let message = refused(
        "selector: {}, template",
        "selector: {matchLabels: {a: b}}, template",
    );
    assert!(
        message.contains("scheduler.purposeMappings.workload.template.metadata.labels"),
        "{message}"
    );
}

#[test]
fn an_invalid_selector_is_named() {
    let message = refused(
        "requests: {matchLabels: {}}",
        "requests: {matchExpressions: [{key: a, operator: Near}]}",
    );
    assert!(message.contains("scheduler.selectors.requests"), "{message}");
}

#[test]
fn the_default_oidc_provider_takes_no_role_bindings() {
    let message = refused("clientID: openmcp", "clientID: openmcp, roleBindings: [{}]");
    assert!(
        message.contains("managedControlPlane.defaultOIDCProvider.roleBindings"),
        "{message}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let message = Config::read(Path::new("/nonexistent/operator.yaml"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nonexistent/operator.yaml"), "{message}");
}
