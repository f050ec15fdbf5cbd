#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use std::{collections::HashMap, sync::atomic::AtomicUsize};

/// Does what a key's name says and counts.
#[derive(Default)]
struct Script {
    passes: Mutex<HashMap<String, usize>>,
    reports: Mutex<Vec<(String, &'static str)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Script {
    fn passes(&self, name: &str) -> usize {
        self.passes.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl Reconciler for Script {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        let nth = {
            let mut passes = self.passes.lock().unwrap();
            let nth = passes.entry(key.name.to_string()).or_default();
            *nth += 1;
            *nth
        };
        let running = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        match &*key.name {
            "panics" => panic!("as told"),
            "hangs" => std::future::pending().await,
            "fails-once" if nth == 1 => Err(Fault::retry("Conflict", "as told")),
            "invalid" => Err(Fault::invalid("BadSpec", "as told")),
            "ticks" if nth == 1 => Ok(Outcome::Wake(Duration::from_millis(30))),
            _ => Ok(Outcome::Settled),
        }
    }
    async fn report(&self, key: &Key, fault: &Fault) {
        self.reports
            .lock()
            .unwrap()
            .push((key.name.to_string(), fault.reason));
    }
}

/// Says since when it was to run.
struct Since(tokio::sync::mpsc::UnboundedSender<Duration>);

impl Reconciler for Since {
    async fn reconcile(&self, _: &Key) -> Result<Outcome, Fault> {
        let waited = woken().unwrap().elapsed();
        self.0.send(waited).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Outcome::Settled)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_knows_since_when_its_key_waited() {
    let (told, mut since) = tokio::sync::mpsc::unbounded_channel();
    let limits = Limits {
        workers: 1,
        ..Limits::default()
    };
    let controller = Controller::new("since", limits);
    for name in ["a", "b"] {
        controller.handle().wake(key(name), Lane::Urgent);
    }
    let shutdown = CancellationToken::new();
    let (run, stop) = (controller.run(Arc::new(Since(told)), shutdown.clone()), async {
        let waited = [since.recv().await.unwrap(), since.recv().await.unwrap()];
        assert_eq!(waited.map(|it| it.as_secs()), [0, 3]);
        shutdown.cancel();
    });
    tokio::join!(run, stop);
}

async fn until(mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < patience, "did not happen within 10 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn start(
    limits: Limits,
) -> (
    Arc<Script>,
    Handle,
    CancellationToken,
    tokio::task::JoinHandle<()>,
) {
    let (script, shutdown) = (Arc::new(Script::default()), CancellationToken::new());
    let controller = Controller::new("script", limits);
    let handle = controller.handle();
    let (reconciler, stop) = (script.clone(), shutdown.clone());
    let run = tokio::spawn(async move { controller.run(reconciler, stop).await });
    (script, handle, shutdown, run)
}

fn key(name: &str) -> Key {
    Key::new("Test", "tenant", name)
}

#[tokio::test]
async fn a_panic_and_a_hang_are_reported_and_stop_nothing_else() {
    let limits = Limits {
        workers: 2,
        deadline: Duration::from_millis(100),
    };
    let (script, handle, shutdown, run) = start(limits);
    handle.wake(key("panics"), Lane::Urgent);
    handle.wake(key("hangs"), Lane::Urgent);
    for nth in 0..20 {
        handle.wake(Key::new("Test", "other", format!("calm-{nth}")), Lane::Normal);
    }
    until(|| (0..20).all(|nth| script.passes(&format!("calm-{nth}")) == 1)).await;
    until(|| script.reports.lock().unwrap().len() >= 2).await;
    let mut reports = script.reports.lock().unwrap().clone();
    reports.sort();
    reports.dedup();
    assert_eq!(
        reports,
        [
            ("hangs".to_owned(), "DeadlineExceeded"),
            ("panics".to_owned(), "Panic")
        ]
    );
    shutdown.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn a_passing_fault_is_retried_and_a_wrong_input_only_after_an_event() {
    let (script, handle, shutdown, run) = start(Limits::default());
    handle.wake(key("fails-once"), Lane::Urgent);
    handle.wake(key("invalid"), Lane::Urgent);
    until(|| script.passes("fails-once") == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.passes("invalid"), 1);
    handle.wake(key("invalid"), Lane::Normal);
    until(|| script.passes("invalid") == 2).await;
    shutdown.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn time_itself_wakes_a_key_once() {
    let (script, handle, shutdown, run) = start(Limits::default());
    handle.wake(key("ticks"), Lane::Urgent);
    until(|| script.passes("ticks") == 2).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(script.passes("ticks"), 2);
    shutdown.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn workers_are_bounded_and_a_running_key_runs_again_after_never_beside() {
    let (script, handle, shutdown, run) = start(Limits {
        workers: 3,
        ..Limits::default()
    });
    for nth in 0..30 {
        handle.wake(
            Key::new("Test", format!("tenant-{nth}"), format!("calm-{nth}")),
            Lane::Bulk,
        );
    }
    until(|| (0..30).all(|nth| script.passes(&format!("calm-{nth}")) == 1)).await;
    assert!(script.most_at_once.load(Ordering::SeqCst) <= 3);
    // A pass is counted when it begins: the last ones may still run.
    until(|| script.at_once.load(Ordering::SeqCst) == 0).await;
    script.most_at_once.store(0, Ordering::SeqCst);
    handle.wake(key("one"), Lane::Urgent);
    until(|| script.passes("one") == 1).await;
    handle.wake(key("one"), Lane::Urgent);
    until(|| script.passes("one") == 2).await;
    assert_eq!(script.most_at_once.load(Ordering::SeqCst), 1);
    shutdown.cancel();
    run.await.unwrap();
    handle.wake(key("one"), Lane::Urgent);
}

#[tokio::test]
async fn a_run_that_is_cut_off_leaves_nothing_behind_and_the_next_one_takes_up_its_keys() {
    let script = Arc::new(Script::default());
    let controller = Controller::new("cut off", Limits::default());
    controller
        .handle()
        .wake(Key::new("X", "a", "hangs"), Lane::Urgent);
    let started = until(|| script.passes("hangs") == 1);
    tokio::select! {
        () = controller.run(script.clone(), CancellationToken::new()) => {}
        () = started => {}
    }
    tokio::time::timeout(Duration::from_secs(10), controller.rest())
        .await
        .unwrap();
    let again = until(|| script.passes("hangs") == 2);
    tokio::select! {
        () = controller.run(script.clone(), CancellationToken::new()) => {}
        () = again => {}
    }
}
