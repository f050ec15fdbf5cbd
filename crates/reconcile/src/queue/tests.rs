#![allow(clippy::unwrap_used)]
use super::*;
use crate::Key;
use proptest::prelude::*;
use std::collections::HashSet;

fn key(tenant: &str, name: &str) -> Key {
    Key::new("T", tenant, name)
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn failed(class: Class) -> Finish {
    Finish::Failed {
        class,
        retry_after: None,
        wake: None,
    }
}

fn queue(workers: usize) -> Queue<Key> {
    Queue::new(Bounds {
        workers,
        per_tenant: workers,
        bulk: workers,
    })
}

/// Runs everything that is ready and settles it, in order.
fn drain(queue: &mut Queue<Key>, now: Duration) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(job) = queue.next(now) {
        names.push(job.key.name.to_string());
        queue.done(now, &job.key, Finish::Settled, 0.5);
    }
    names
}

#[test]
fn a_key_is_queued_once_and_in_its_most_urgent_lane() {
    let mut queue = queue(1);
    assert!(queue.wake(at(0), key("a", "x"), Lane::Bulk));
    assert!(!queue.wake(at(0), key("a", "x"), Lane::Urgent));
    assert!(!queue.wake(at(0), key("a", "x"), Lane::Normal));
    assert_eq!(Lane::ALL.map(|lane| queue.depth(lane)), [1, 0, 0]);
    assert_eq!(queue.next(at(7)).unwrap().waited, at(7));
    assert_eq!(queue.next(at(7)), None);
}

#[test]
fn a_key_woken_while_it_runs_runs_again_after() {
    let mut queue = queue(4);
    queue.wake(at(0), key("a", "x"), Lane::Urgent);
    let job = queue.next(at(0)).unwrap();
    queue.wake(at(1), key("a", "x"), Lane::Normal);
    queue.wake(at(1), key("a", "x"), Lane::Urgent);
    assert_eq!(queue.next(at(1)), None);
    queue.done(at(2), &job.key, Finish::Settled, 0.5);
    assert_eq!(queue.next(at(2)).unwrap().lane, Lane::Urgent);
}

#[test]
fn lanes_share_by_weight_and_none_starves() {
    let mut queue = queue(1);
    for nth in 0..100 {
        queue.wake(at(0), key("a", &format!("u{nth}")), Lane::Urgent);
        queue.wake(at(0), key("b", &format!("n{nth}")), Lane::Normal);
        queue.wake(at(0), key("c", &format!("b{nth}")), Lane::Bulk);
    }
    let first: Vec<_> = drain(&mut queue, at(0)).into_iter().take(26).collect();
    let of = |lane: &str| first.iter().filter(|name| name.starts_with(lane)).count();
    assert_eq!((of("u"), of("n"), of("b")), (16, 8, 2));
}

#[test]
fn tenants_take_turns() {
    let mut queue = queue(1);
    for nth in 0..3 {
        queue.wake(at(0), key("loud", &format!("l{nth}")), Lane::Normal);
    }
    queue.wake(at(0), key("quiet", "q"), Lane::Normal);
    assert_eq!(drain(&mut queue, at(0)), ["l0", "q", "l1", "l2"]);
}

#[test]
fn one_tenant_or_bulk_work_never_holds_every_worker() {
    let mut queue = Queue::new(Bounds {
        workers: 4,
        per_tenant: 2,
        bulk: 3,
    });
    for nth in 0..8 {
        queue.wake(at(0), key("loud", &format!("{nth}")), Lane::Urgent);
        queue.wake(at(0), key(&format!("t{nth}"), "b"), Lane::Bulk);
    }
    let jobs: Vec<_> = std::iter::from_fn(|| queue.next(at(0))).collect();
    assert_eq!(jobs.iter().filter(|job| &*job.key.namespace == "loud").count(), 2);
    assert_eq!(jobs.len(), 4);
    let mut queue = Queue::new(Bounds {
        workers: 4,
        per_tenant: 2,
        bulk: 3,
    });
    for nth in 0..8 {
        queue.wake(at(0), key(&format!("t{nth}"), "b"), Lane::Bulk);
    }
    assert_eq!(std::iter::from_fn(|| queue.next(at(0))).count(), 3);
    queue.wake(at(0), key("user", "x"), Lane::Urgent);
    assert_eq!(&*queue.next(at(0)).unwrap().key.name, "x");
}

#[test]
fn others_run_in_the_place_of_passes_that_only_wait_up_to_a_bound() {
    let mut queue = Queue::new(Bounds {
        workers: 4,
        per_tenant: 2,
        bulk: 3,
    });
    for nth in 0..100 {
        queue.wake(at(0), key(&format!("t{nth}"), "b"), Lane::Bulk);
    }
    let mut run = |lent| {
        queue.lend(lent);
        std::iter::from_fn(|| queue.next(at(0))).count()
    };
    assert_eq!(run(0), 3);
    assert_eq!(run(2), 2, "also of bulk work");
    assert_eq!(run(100), 4 * LENT - 2);
    assert_eq!(run(0), 0, "and none too many afterwards");
    queue.wake(at(0), key("user", "x"), Lane::Urgent);
    assert!(queue.next(at(0)).is_none());
}

#[test]
fn back_off_grows_with_full_jitter_and_success_resets_it() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    let mut now = at(0);
    queue.wake(now, x.clone(), Lane::Urgent);
    let mut waits = Vec::new();
    for _ in 0..12 {
        queue.next(now).unwrap();
        let wait = queue.done(now, &x, failed(Class::Retry), 1.0).unwrap();
        waits.push(wait.as_millis());
        assert_eq!(queue.next_due(), Some(now + wait));
        now += wait;
    }
    assert_eq!(
        waits,
        [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
        ]
    );
    queue.next(now).unwrap();
    queue.done(now, &x, Finish::Settled, 1.0);
    assert!(queue.is_empty());
    queue.wake(now, x.clone(), Lane::Urgent);
    queue.next(now).unwrap();
    assert_eq!(queue.done(now, &x, failed(Class::Retry), 0.25), Some(at(25)));
}

#[test]
fn each_class_counts_for_itself_and_retry_after_is_a_lower_bound() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    let mut now = at(0);
    queue.wake(now, x.clone(), Lane::Urgent);
    let mut fail = |finish| {
        queue.next(now).unwrap();
        let wait = queue.done(now, &x, finish, 1.0).unwrap();
        now += wait;
        wait
    };
    assert_eq!(fail(failed(Class::Retry)), at(100));
    assert_eq!(fail(failed(Class::Unreachable)), at(500));
    assert_eq!(fail(failed(Class::Retry)), at(200));
    let asked = Finish::Failed {
        class: Class::Retry,
        retry_after: Some(at(9000)),
        wake: None,
    };
    assert_eq!(fail(asked), at(9000));
}

#[test]
fn a_server_that_asks_for_a_year_is_left_in_peace_for_ten_minutes() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    queue.wake(at(0), x.clone(), Lane::Urgent);
    queue.next(at(0)).unwrap();
    let year = Finish::Failed {
        class: Class::Retry,
        retry_after: Some(Duration::from_secs(31_536_000)),
        wake: None,
    };
    assert_eq!(queue.done(at(0), &x, year, 1.0), Some(Duration::from_secs(600)));
    queue.wake(at(1), x.clone(), Lane::Urgent);
    assert_eq!(queue.next_due(), Some(Duration::from_secs(600)));
}

#[test]
fn a_failure_that_no_retry_helps_keeps_the_time_at_which_there_is_other_work() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    queue.wake(at(0), x.clone(), Lane::Urgent);
    queue.next(at(0)).unwrap();
    let refused = Finish::Failed {
        class: Class::Invalid,
        retry_after: None,
        wake: Some(at(7000)),
    };
    assert_eq!(queue.done(at(0), &x, refused, 1.0), None, "no retry");
    assert_eq!(queue.next_due(), Some(at(7000)));
    assert!(queue.next(at(6999)).is_none());
    assert!(queue.next(at(7000)).is_some());
    queue.done(at(7000), &x, failed(Class::Invalid), 1.0);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn events_neither_reset_nor_inflate_back_off() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    queue.wake(at(0), x.clone(), Lane::Urgent);
    queue.next(at(0)).unwrap();
    queue.done(at(0), &x, failed(Class::Denied), 1.0);
    assert_eq!(queue.next_due(), Some(at(5000)));
    queue.wake(at(10), x.clone(), Lane::Bulk);
    assert_eq!(
        queue.next_due(),
        Some(at(5000)),
        "bulk work waits for the back-off"
    );
    queue.wake(at(10), x.clone(), Lane::Normal);
    assert_eq!(queue.next_due(), Some(at(2000)));
    queue.wake(at(10), x.clone(), Lane::Urgent);
    assert_eq!(
        queue.next_due(),
        Some(at(500)),
        "a user's change is looked at soon"
    );
    queue.next(at(500)).unwrap();
    assert_eq!(
        queue.done(at(600), &x, failed(Class::Denied), 1.0),
        Some(at(4400)),
        "the retry stays where it was"
    );
    assert_eq!(queue.held().next().unwrap().attempts, 1);
    queue.wake(at(3000), x.clone(), Lane::Urgent);
    queue.next(at(3000)).unwrap();
    queue.done(at(3000), &x, Finish::Settled, 1.0);
    assert!(queue.is_empty());
}

#[test]
fn a_wrong_input_waits_for_an_event_and_keeps_a_timer_that_is_ahead() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    queue.wake(at(0), x.clone(), Lane::Urgent);
    queue.next(at(0)).unwrap();
    queue.done(at(0), &x, Finish::Wake(at(1000)), 0.5);
    queue.wake(at(10), x.clone(), Lane::Urgent);
    queue.next(at(10)).unwrap();
    assert_eq!(queue.done(at(10), &x, failed(Class::Invalid), 0.5), None);
    assert_eq!(queue.next_due(), Some(at(1000)));
    queue.next(at(1000)).unwrap();
    queue.done(at(1000), &x, failed(Class::Invalid), 0.5);
    assert!(queue.is_empty());
    assert!(queue.wake(at(1001), x, Lane::Normal));
    assert!(queue.next(at(1001)).is_some());
}

#[test]
fn no_event_runs_a_key_before_the_time_that_the_server_asked_for() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    let asked = |class| Finish::Failed {
        class,
        retry_after: Some(at(9000)),
        wake: None,
    };
    for (class, from) in [(Class::Retry, at(9000)), (Class::Unreachable, at(500))] {
        queue.wake(at(0), x.clone(), Lane::Urgent);
        queue.next(at(0)).unwrap();
        queue.done(at(0), &x, asked(class), 1.0);
        queue.wake(at(10), x.clone(), Lane::Urgent);
        assert!(queue.next(from - at(1)).is_none());
        assert!(queue.next(from).is_some());
        queue.done(from, &x, Finish::Settled, 1.0);
        queue.forget(&x);
    }
}

#[test]
fn forgetting_drops_back_off_and_timers() {
    let (mut queue, x) = (queue(1), key("a", "x"));
    queue.wake(at(0), x.clone(), Lane::Urgent);
    queue.next(at(0)).unwrap();
    queue.done(at(0), &x, failed(Class::Bug), 1.0);
    queue.forget(&x);
    assert!(queue.is_empty());
    assert_eq!(queue.next_due(), None);
}

#[derive(Debug, Clone)]
enum Op {
    Wake { key: u8, lane: Lane },
    Next,
    Done { nth: usize, finish: Finish, jitter: f64 },
    Pass { ms: u64 },
    Forget { key: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let lane = prop::sample::select(Lane::ALL.to_vec());
    let class = prop::sample::select(Class::ALL.to_vec());
    let finish = prop_oneof![
        3 => Just(Finish::Settled),
        1 => (0..2000_u64).prop_map(|ms| Finish::Wake(at(ms))),
        3 => (class, prop::option::of((0..3000_u64).prop_map(at)))
            .prop_map(|(class, retry_after)| Finish::Failed { class, retry_after, wake: None }),
    ];
    prop_oneof![
        5 => (0..12_u8, lane).prop_map(|(key, lane)| Op::Wake { key, lane }),
        5 => Just(Op::Next),
        4 => (any::<usize>(), finish, 0.0..1.0).prop_map(|(nth, finish, jitter)| Op::Done { nth, finish, jitter }),
        2 => (0..1500_u64).prop_map(|ms| Op::Pass { ms }),
        1 => (0..12_u8).prop_map(|key| Op::Forget { key }),
    ]
}

fn numbered(key: u8) -> Key {
    Key::new("T", format!("tenant-{}", key % 3), key.to_string())
}

proptest! {
    /// No key is lost, none runs twice at once, none is queued twice, all bounds hold, and everything that was woken
    /// runs when there is time: no starvation.
    #[test]
    fn every_wake_is_followed_by_a_pass(ops in prop::collection::vec(op(), 1..300)) {
        let bounds = Bounds { workers: 4, per_tenant: 2, bulk: 3 };
        let mut queue = Queue::new(bounds);
        let (mut now, mut running, mut owed) = (at(0), Vec::<Job<Key>>::new(), HashSet::new());
        for op in ops {
            match op {
                Op::Wake { key, lane } => {
                    queue.wake(now, numbered(key), lane);
                    owed.insert(numbered(key));
                }
                Op::Next => if let Some(job) = queue.next(now) {
                    prop_assert!(running.iter().all(|other| other.key != job.key), "runs twice at once");
                    owed.remove(&job.key);
                    running.push(job);
                    prop_assert!(running.len() <= bounds.workers);
                    prop_assert!(running.iter().filter(|job| job.lane == Lane::Bulk).count() <= bounds.bulk);
                    let last = running.last().unwrap().key.namespace.clone();
                    prop_assert!(running.iter().filter(|job| job.key.namespace == last).count() <= bounds.per_tenant);
                },
                Op::Done { nth, finish, jitter } if !running.is_empty() => {
                    let job = running.swap_remove(nth % running.len());
                    queue.done(now, &job.key, finish, jitter);
                }
                Op::Done { .. } => {}
                Op::Pass { ms } => now += at(ms),
                Op::Forget { key } => {
                    // A key that waited for its back-off only is owed nothing any more.
                    let key = numbered(key);
                    if queue.held().any(|held| held.key == key) || queue.next_due().is_some() {
                        let queued = |queue: &Queue<Key>| Lane::ALL.map(|lane| queue.depth(lane)).iter().sum::<usize>();
                        let before = queued(&queue);
                        queue.forget(&key);
                        prop_assert_eq!(before, queued(&queue), "a queued pass still happens");
                        let idle = running.iter().all(|job| job.key != key);
                        if idle && !queue.entries.contains_key(&key) {
                            owed.remove(&key);
                        }
                    }
                }
            }
            prop_assert_eq!(queue.running().count(), running.len());
        }
        // Time passes and everything succeeds: whatever was woken runs within a bounded number of passes.
        for job in running.drain(..) {
            queue.done(now, &job.key, Finish::Settled, 0.5);
        }
        for _ in 0..200 {
            while let Some(job) = queue.next(now) {
                owed.remove(&job.key);
                queue.done(now, &job.key, Finish::Settled, 0.5);
            }
            match queue.next_due() {
                Some(due) => now = now.max(due),
                None => break,
            }
        }
        prop_assert!(owed.is_empty(), "lost: {:?}", owed);
        prop_assert!(queue.is_empty());
        prop_assert!(queue.due.is_empty() && queue.running_of.is_empty());
        prop_assert_eq!(Lane::ALL.map(|lane| queue.depth(lane)), [0, 0, 0]);
    }

    /// A bulk key gets its turn although urgent keys of every tenant keep coming.
    #[test]
    fn a_flood_does_not_starve(tenants in 1..40_usize) {
        let mut queue = queue(1);
        queue.wake(at(0), key("patient", "bulk"), Lane::Bulk);
        let mut passes = 0;
        loop {
            for tenant in 0..tenants {
                queue.wake(at(0), key(&format!("t{tenant}"), "x"), Lane::Urgent);
                queue.wake(at(0), key(&format!("t{tenant}"), "y"), Lane::Normal);
            }
            let job = queue.next(at(0)).unwrap();
            queue.done(at(0), &job.key, Finish::Settled, 0.5);
            if &*job.key.name == "bulk" {
                break;
            }
            passes += 1;
            prop_assert!(passes <= 12);
        }
    }
}
