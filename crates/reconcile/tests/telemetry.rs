//! Spans reach a collector.
#![allow(clippy::unwrap_used)]
use openmcp_reconcile::{Controller, Fault, Key, Lane, Limits, Outcome, Reconciler, telemetry::Telemetry};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;

const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the controller with its first pass.
struct Once(CancellationToken);

impl Reconciler for Once {
    async fn reconcile(&self, _key: &Key) -> Result<Outcome, Fault> {
        self.0.cancel();
        Ok(Outcome::Settled)
    }
}

/// Takes one request, and returns it whole.
fn collect(collector: &TcpListener) -> String {
    collector.set_nonblocking(true).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut stream = loop {
        match collector.accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        assert!(Instant::now() < end, "nobody connects to the collector");
        thread::sleep(Duration::from_millis(10));
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the request broke off");
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().trim().parse().unwrap();
        let body = request.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        if request.len() >= body + length {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
            return String::from_utf8_lossy(&request).into_owned();
        }
    }
}

#[test]
fn the_span_of_a_reconcile_reaches_the_collector_at_the_latest_at_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let collector = thread::spawn(move || collect(&listener));
    let telemetry = Telemetry::to(&endpoint, "greeter").unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let controller = Controller::new("greeter", Limits::default());
        let key = Key::new("Greeter", "team", "one");
        controller.handle().wake(key, Lane::Urgent);
        let end = CancellationToken::new();
        let run = controller.run(Arc::new(Once(end.clone())), end);
        let ended = tokio::time::timeout(PATIENCE, run).await;
        assert!(ended.is_ok(), "the controller does not end");
    });
    telemetry.end();

    let request = collector.join().unwrap();
    assert!(request.starts_with("POST /v1/traces "), "{request}");
    for said in ["greeter", "reconcile", "Greeter team/one"] {
        assert!(request.contains(said), "{said}: {request}");
    }
}
