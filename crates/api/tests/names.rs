//! The golden vectors of contract §5 and §11.5, and what must hold for any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use openmcp_api::{
    names::{self, AccessKey, Component, MAX_LENGTH, ProviderNames, RequestTarget},
    provider::ProviderKind,
};
use proptest::prelude::*;

fn repeat(character: &str, count: usize) -> String {
    character.repeat(count)
}

#[test]
fn hashes_are_those_of_the_go_stack() {
    let cases: [(&[&str], &str); 5] = [
        (&["foo"], "7bhjls27"),
        (&["foo", "foo"], "5uaor3mk"),
        (&["default", "my-cp"], "c5xb3txp"),
        (&["foo", "oidc_openmcp"], "bvehc2kz"),
        (&["foo", "token_ci"], "ceo35n5o"),
    ];
    for (parts, expected) in cases {
        assert_eq!(names::name_hash(parts), expected, "{parts:?}");
    }
}

#[test]
fn the_purpose_of_a_request_is_literal_as_long_as_a_label_can_hold_it() {
    let of = |name: usize| names::managed_purpose("project-x", &repeat("a", name), RequestTarget::Mcp);
    assert_eq!(of(49), format!("project-x.{}.mcp", repeat("a", 49)));
    assert_eq!(of(49).len(), MAX_LENGTH);
    assert_eq!(
        of(50),
        "project-x.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa--lom77tyu"
    );
    assert_ne!(of(50), of(51));
}

#[test]
fn platform_namespaces_are_those_of_the_go_stack() {
    let long_namespace = format!("project-{}--ws-{}", repeat("b", 20), repeat("c", 20));
    let cases = [
        (
            "foo",
            "foo".to_owned(),
            "mcp--ed00e8ed-8a09-8c62-a9b8-e6fc20255174",
        ),
        (
            "default",
            "my-cp".to_owned(),
            "mcp--176e1dce-efcd-8f3f-99a8-e567ed71d1f0",
        ),
        (
            "project-x--ws-dev",
            "sample".to_owned(),
            "mcp--e7ce8c84-62ac-8814-847b-fea9e5295717",
        ),
        (
            &long_namespace,
            repeat("a", 63),
            "mcp--3c2bc12b-9e62-808a-ac5a-f154feee2715",
        ),
    ];
    for (namespace, name, expected) in cases {
        assert_eq!(
            names::control_plane_namespace(namespace, &name),
            expected,
            "{namespace}/{name}"
        );
    }
}

#[test]
fn shortened_names_are_those_of_the_go_stack() {
    let velero = format!("service-provider-velero--{}", repeat("x", 60));
    let dashes = format!("{}---.-{}", repeat("a", 50), repeat("b", 20));
    let cases = [
        (repeat("a", 63), repeat("a", 63)),
        (repeat("a", 64), repeat("a", 53) + "--p36uymeu"),
        (velero.clone(), velero[..53].to_owned() + "--rbeoiqtw"),
        (dashes, repeat("a", 50) + "--jy7dw5vp"),
    ];
    for (text, expected) in cases {
        assert_eq!(names::shorten(&text, 63).unwrap(), expected, "{text}");
    }
}

#[test]
fn no_room_beside_the_hash_is_an_error() {
    assert_eq!(names::shorten("abc", 3).unwrap(), "abc");
    assert_eq!(
        names::shorten("a-name-that-is-longer", 10),
        Err(names::MaxTooSmall { max: 10 })
    );
    assert_eq!(names::shorten(&repeat("a", 20), 11).unwrap().len(), 11);
}

#[test]
fn request_names_are_those_of_the_go_stack() {
    let long = repeat("a", 63);
    let controller = "ServiceProvider-Crossplane";
    let lower = format!("serviceprovider-crossplane--{long}");
    assert_eq!(
        names::request("Velero", "My-CP", RequestTarget::Mcp),
        "velero--my-cp--mcp"
    );
    assert_eq!(
        names::request(controller, &long, RequestTarget::Mcp),
        format!("{}--jjwte6zp--mcp", &lower[..48])
    );
    assert_eq!(
        names::request(controller, &long, RequestTarget::Workload),
        format!("{}--jjwte6zp--wl", &lower[..49])
    );
    assert_eq!(
        names::static_request(
            "kubernetesoperators.services.open-control-plane.io",
            "onboarding-init"
        ),
        "kubernetesoperators.services.open-control-plane.io--o--g2uatjaw"
    );
    assert_eq!(
        names::static_request("openmcp-operator", "onboarding"),
        "openmcp-operator--onboarding"
    );
}

#[test]
fn access_requests_of_a_control_plane_are_those_of_the_go_stack() {
    assert_eq!(
        names::control_plane_access_request("foo", AccessKey::Oidc("openmcp")),
        "bvehc2kz"
    );
    assert_eq!(
        names::control_plane_access_request("foo", AccessKey::Token("ci")),
        "ceo35n5o"
    );
}

#[test]
fn cluster_names_are_those_of_the_go_stack() {
    let namespace = names::control_plane_namespace("foo", "foo");
    assert_eq!(names::cluster("mcp-", &namespace, "foo").unwrap(), "mcp-2j47xs3f");
    assert_eq!(
        names::cluster("workload-", &namespace, "velero--foo--wl").unwrap(),
        "workload-owyinwoj"
    );
    assert_eq!(names::cluster_prefix(None, "workload"), "workload-");
    assert_eq!(names::cluster_prefix(Some(""), "workload"), "workload-");
    assert_eq!(names::cluster_prefix(Some("shared-"), "workload"), "shared-");
}

#[test]
fn a_cluster_prefix_may_have_55_characters_and_no_more() {
    assert_eq!(
        names::cluster(&repeat("p", 55), "ns", "n").unwrap().len(),
        MAX_LENGTH
    );
    let error = names::cluster(&repeat("p", 56), "ns", "n").unwrap_err();
    assert!(error.to_string().contains("56 characters; at most 55"), "{error}");
}

#[test]
fn user_secret_names_are_those_of_the_go_stack() {
    let key = AccessKey::Oidc("openmcp");
    let long = format!("oidc-openmcp.{}", repeat("a", 63));
    assert_eq!(names::user_secret(key, "foo"), "oidc-openmcp.foo.kubeconfig");
    assert_eq!(
        names::user_secret(key, &repeat("a", 63)),
        format!("{}--wauh6nik.kubeconfig", &long[..42])
    );
    assert_eq!(
        names::user_secret(AccessKey::Token("admin"), "demo"),
        "token-admin.demo.kubeconfig"
    );
    assert_eq!(names::secret_of_access_request("bvehc2kz"), "bvehc2kz.kubeconfig");
}

#[test]
fn provider_names_are_those_of_the_go_stack() {
    let sp = ProviderNames::new(ProviderKind::Service, "kro");
    assert_eq!(sp.object(Component::Init), "sp-kro-init");
    assert_eq!(sp.object(Component::Run), "sp-kro");
    assert_eq!(sp.cluster_scoped(Component::Init), "openmcp.cloud:sp-kro-init");
    assert_eq!(sp.cluster_scoped(Component::Run), "openmcp.cloud:sp-kro");
    assert_eq!(sp.container(Component::Init), "init");
    assert_eq!(sp.container(Component::Run), "sp-kro");
    assert_eq!(sp.metrics_service(), "sp-kro-metrics");
    assert_eq!(sp.webhook_secret(), "kro-webhook-tls");
    assert_eq!(
        ProviderNames::new(ProviderKind::Cluster, "hosted").object(Component::Run),
        "cp-hosted"
    );
    assert_eq!(
        ProviderNames::new(ProviderKind::Platform, "registry").object(Component::Run),
        "ps-registry"
    );

    let long = ProviderNames::new(ProviderKind::Service, repeat("a", 63));
    assert_eq!(long.metrics_service().len(), MAX_LENGTH);
    assert_eq!(long.webhook_secret().len(), MAX_LENGTH);
}

#[test]
fn provider_labels_tell_components_apart() {
    let names = ProviderNames::new(ProviderKind::Cluster, "hosted");
    let labels = names.labels(Component::Run);
    let expected = [
        ("app.kubernetes.io/component", "controller"),
        ("app.kubernetes.io/instance", "hosted"),
        ("app.kubernetes.io/managed-by", "openmcp-operator"),
        ("app.kubernetes.io/name", "ClusterProvider"),
    ];
    assert_eq!(
        labels
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        names.labels(Component::Init)["app.kubernetes.io/component"],
        "init-job"
    );
}

#[test]
fn inventories_of_different_objects_have_different_names() {
    assert_eq!(names::inventory("kro", "Kro", "demo"), "kro--kro--demo");
    assert_ne!(
        names::inventory("a", "B", "b--c"),
        names::inventory("a--b", "B", "c")
    );
}

/// A legal DNS label of up to `max` characters.
fn label(max: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-z0-9]([-a-z0-9]{{0,{}}}[a-z0-9])?", max - 2)).unwrap()
}

/// A legal DNS subdomain.
fn subdomain() -> impl Strategy<Value = String> {
    prop::collection::vec(label(63), 1..4).prop_map(|it| it.join("."))
}

fn is_subdomain(text: &str) -> bool {
    let legal = |it: &str| {
        !it.is_empty()
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    text.split('.').all(legal)
}

proptest! {
    #[test]
    fn a_shortened_name_fits_and_stays_legal(text in subdomain(), max in 11_usize..100) {
        let short = names::shorten(&text, max).unwrap();
        prop_assert!(short.len() <= max, "{short}");
        prop_assert!(is_subdomain(&short), "{short}");
        prop_assert_eq!(short == text, text.len() <= max);
    }

    #[test]
    fn shortening_keeps_different_names_different(prefix in label(63), a in label(40), b in label(40)) {
        let long = |tail: &str| format!("{prefix}{}{tail}", "x".repeat(63));
        prop_assert_eq!(names::shorten(&long(&a), 63) == names::shorten(&long(&b), 63), a == b);
    }

    #[test]
    fn any_text_is_shortened_without_harm(text in ".{0,200}", max in 11_usize..100) {
        prop_assert!(names::shorten(&text, max).unwrap().len() <= max);
    }

    #[test]
    fn request_names_are_legal_and_keep_their_suffix(controller in label(80), object in label(63)) {
        for target in [RequestTarget::Mcp, RequestTarget::Workload] {
            let name = names::request(&controller, &object, target);
            prop_assert!(name.len() <= MAX_LENGTH && is_subdomain(&name), "{name}");
            prop_assert!(name.ends_with(&format!("--{}", target.suffix())), "{name}");
        }
        let name = names::static_request(&controller, &object);
        prop_assert!(name.len() <= MAX_LENGTH && is_subdomain(&name), "{name}");
    }

    #[test]
    fn inventory_names_are_legal(provider in subdomain(), object in label(63)) {
        let name = names::inventory(&provider, "VeryLongKindOfAService", &object);
        prop_assert!(name.len() <= 253 && is_subdomain(&name), "{name}");
    }
}
