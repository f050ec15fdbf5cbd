//! Who leads, and what /readyz says of it.
use crate::place::{Place, soon, until};
use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use openmcp_reconcile::{
    admin::{self, Readiness},
    cluster::Connection,
    lease::Lease,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn of_two_candidates_one_leads_and_the_other_follows_when_it_ends() -> Result<()> {
    let place = Place::new("lease").await?;
    let lease = |identity: &str| {
        let mut lease = Lease::new(&place.namespace, "Engine_Test", identity).ungated();
        lease.duration = Duration::from_secs(3);
        lease
    };
    let shutdown = CancellationToken::new();
    let leads = async |identity: &'static str| {
        let acquired = lease(identity).acquire(place.client.clone(), &shutdown);
        let guard = soon(&format!("{identity} leads"), acquired).await?;
        anyhow::Ok(guard.unwrap())
    };
    let first = leads("one").await?;
    let early = tokio::time::timeout(
        Duration::from_secs(4),
        lease("two").acquire(place.client.clone(), &shutdown),
    );
    assert!(early.await.is_err(), "a lease that is renewed is not taken");
    soon("the lease is given back", first.keep(async {})).await??;
    let start = Instant::now();
    let second = leads("two").await?;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "a lease that was given back is free at once"
    );

    let leases = Api::<LeaseObject>::namespaced(place.client.clone(), &place.namespace);
    let stolen = json!({"spec": {"holderIdentity": "thief"}});
    leases
        .patch("engine-test", &PatchParams::default(), &Patch::Merge(stolen))
        .await?;
    let kept = second.keep(std::future::pending::<()>());
    let lost = soon("the theft is seen", kept).await?.unwrap_err();
    assert_eq!(lost.reason, "LeaseLost");
    let start = Instant::now();
    let _third = leads("three").await?;
    assert!(
        start.elapsed() > Duration::from_secs(3),
        "a silent holder is given its whole time"
    );
    place.leave().await
}

/// Known fault 28.
#[tokio::test]
async fn a_process_that_cannot_have_its_lease_is_not_ready_and_says_why() -> Result<()> {
    let place = Place::new("readyz").await?;
    let nobody = Connection::from_kubeconfig(&place.nobody("nobody").await?, "engine-test").await?;
    let shutdown = CancellationToken::new();
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let server = tokio::spawn(admin::serve(address, Readiness::default(), shutdown.clone()));
    let lease = Lease::new(&place.namespace, "readyz", "one").ungated();
    let (client, stop) = (nobody.client(), shutdown.clone());
    let candidate = tokio::spawn(async move { lease.acquire(client, &stop).await.is_some() });
    until("/readyz names the lease", async || {
        let said = readyz(address).await.unwrap_or_default();
        said.starts_with("HTTP/1.1 503")
            && said.contains("the lease cannot be had")
            && said.contains("readyz")
    })
    .await;
    shutdown.cancel();
    let led = soon("the candidate gives up", candidate).await??;
    assert!(!led, "nobody leads without the right to");
    soon("the server ends", server).await???;
    place.leave().await
}

async fn readyz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
