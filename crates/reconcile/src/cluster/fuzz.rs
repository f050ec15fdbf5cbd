//! Kubeconfigs and answers from whoever writes them.
use super::{kubeconfig::read, retry_after::carried};
use crate::fuzz::{DEEPEST, deep, mutated, value};
use axum::body::Bytes;
use futures::FutureExt;
use http::{Response, header};
use kube::core::Status;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// In every place of the document where a secret belongs, and in some where none does.
const SECRET: &str = "hunter2-0123456789";

fn kubeconfig() -> Value {
    let encoded = data_of(SECRET);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "preferences": {"colors": SECRET},
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://api.example.com/{SECRET}"), "certificate-authority-data": encoded,
            "insecure-skip-tls-verify": false, "tls-server-name": SECRET,
        }}],
        "users": [{"name": "u", "user": {
            "token": SECRET, "username": SECRET, "password": SECRET,
            "client-certificate-data": encoded, "client-key-data": encoded, "as": SECRET,
        }}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": SECRET}}],
    })
}

fn data_of(text: &str) -> Value {
    json!(k8s_openapi::ByteString(text.as_bytes().to_vec()))
}

/// Reads it. What is said about it shows nothing of it.
fn reads(text: &[u8]) -> Result<(), TestCaseError> {
    let read = read(text, "test").now_or_never();
    let Some(read) = read else {
        return Err(TestCaseError::fail("it waits for something"));
    };
    if let Err(fault) = read {
        let encoded = data_of(SECRET);
        prop_assert!(!fault.message.contains(SECRET), "{}", fault.message);
        prop_assert!(
            !fault.message.contains(encoded.as_str().unwrap_or_default()),
            "{}",
            fault.message
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_kubeconfig_may_be_anything(text in vec(any::<u8>(), 0..200), document in value()) {
        reads(&text)?;
        reads(document.to_string().as_bytes())?;
    }

    #[test]
    fn a_kubeconfig_may_be_wrong_anywhere_and_nothing_of_it_is_shown(
        document in mutated(kubeconfig()), cut in any::<prop::sample::Index>()
    ) {
        let json = document.to_string();
        reads(json.as_bytes())?;
        let yaml = serde_yaml::to_string(&document).unwrap_or_default();
        reads(yaml.as_bytes())?;
        reads(&yaml.as_bytes()[..cut.index(yaml.len().max(1)).min(yaml.len())])?;
    }

    #[test]
    fn an_answer_may_ask_for_a_pause_with_any_header_and_any_body(
        code in 100_u16..600, asked in "[ -~]{0,24}|[0-9]{1,24}", body in vec(any::<u8>(), 0..200), document in value(),
    ) {
        for body in [body, document.to_string().into_bytes()] {
            let answer = Response::builder().status(code).header(header::RETRY_AFTER, &asked).body(());
            let Ok(answer) = answer else { continue };
            let mut parts = answer.into_parts().0;
            let carried = carried(&mut parts, Bytes::from(body.clone()));
            if carried != body {
                let status: Result<Status, _> = serde_json::from_slice(&carried);
                prop_assert!(status.is_ok_and(|it| it.details.is_some()), "{carried:?}");
            }
        }
    }
}

#[test]
fn a_kubeconfig_may_be_deep() {
    for depth in [DEEPEST, 10_000] {
        let deep = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(reads(deep.as_bytes()).is_ok());
        let lists = "[".repeat(depth);
        assert!(reads(lists.as_bytes()).is_ok());
    }
    let mut document = kubeconfig();
    document["preferences"] = deep("a", DEEPEST - 2);
    assert!(reads(document.to_string().as_bytes()).is_ok());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(reads(bomb.as_bytes()).is_ok());
}
