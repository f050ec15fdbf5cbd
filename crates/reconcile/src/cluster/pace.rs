//! How many bulk requests one API server gets at once: as many as it answers without letting them queue.
//!
//! The rule is that of TCP Vegas (Brakmo and Peterson, 1995). The fastest answer tells how long a request takes that waits
//! for nobody; what another takes longer, it has waited, and `limit × (1 − fastest / took)` requests of ours are queueing.
//! So a near server that is busy gets few, and who orders something meanwhile finds a short queue there; a
//! far one that has time gets as many as its distance needs.
//!
//! Only writes are timed: reads are answered so much faster that beside them each write would seem to have queued.
//!
//! Where passes take turns (see [`super::turns`]), a server that takes longer than [`LATE`] is late by itself, and gets as
//! many as ever: fewer passes work on it then, and they have to come to their end.
//!
//! Sans-IO: told how long each write took, and what was refused.
use super::turns::LATE;
use std::time::Duration;

/// Always allowed: with fewer, one slow request would hold up all others.
pub(super) const LEAST: usize = 4;
/// Never exceeded.
pub(super) const MOST: usize = 16;
/// When more of ours queue at the server, it gets fewer.
const QUEUED_MOST: f64 = 4.0;
/// When less of ours do, it may get more.
const QUEUED_LEAST: f64 = 2.0;
/// So many answers are remembered, and as many again: a server that is slower for good is not measured by what it once was.
const REMEMBERED: u32 = 1000;

/// The bound for one API server.
#[derive(Debug)]
pub(super) struct Pace {
    limit: f64,
    /// In seconds: of the last full [`REMEMBERED`] answers, and of those since.
    fastest: [f64; 2],
    answers: u32,
    /// Passes take turns there.
    in_turns: bool,
}

impl Pace {
    /// `in_turns`: fewer passes work on the server while it is late.
    pub(super) fn new(in_turns: bool) -> Self {
        Self {
            limit: LEAST as f64,
            fastest: [f64::INFINITY; 2],
            answers: 0,
            in_turns,
        }
    }

    /// How many may be in flight now: [`LEAST`] to [`MOST`].
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A write was answered after `took`; `full`: as many as may be were in flight.
    pub(super) fn answered(&mut self, took: Duration, full: bool) {
        if took >= LATE && self.in_turns {
            self.limit = MOST as f64;
            return;
        }
        let took = took.as_secs_f64().max(1e-6);
        let queued = self.limit * (1.0 - self.remember(took) / took);
        if queued > QUEUED_MOST {
            self.shrink();
        } else if queued < QUEUED_LEAST && full {
            self.limit = (self.limit + 1.0 / self.limit).min(MOST as f64);
        }
    }

    /// The server had no time for a request, and said so.
    pub(super) fn refused(&mut self) {
        self.shrink();
    }

    fn shrink(&mut self) {
        self.limit = (self.limit - 1.0 / self.limit).max(LEAST as f64);
    }

    /// Returns the fastest answer of late.
    fn remember(&mut self, took: f64) -> f64 {
        let [before, since] = &mut self.fastest;
        *since = since.min(took);
        let fastest = before.min(*since);
        self.answers += 1;
        if self.answers == REMEMBERED {
            (*before, *since, self.answers) = (*since, f64::INFINITY, 0);
            // With few of ours there, the next answers tell how fast it is now.
            self.limit = LEAST as f64;
        }
        fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server at a distance, which works on so many requests at once; the others queue.
    fn settled(distance: f64, work: f64, at_once: f64) -> usize {
        let mut pace = Pace::new(true);
        for _ in 0..20_500 {
            let queue = (pace.limit() as f64 / at_once).max(1.0);
            pace.answered(Duration::from_secs_f64(distance + work * queue), true);
        }
        pace.limit()
    }

    #[test]
    fn a_near_server_that_works_on_two_at_a_time_gets_few() {
        assert!(
            settled(0.000_5, 0.004, 2.0) <= 6,
            "{}",
            settled(0.000_5, 0.004, 2.0)
        );
    }

    #[test]
    fn a_far_server_gets_as_many_as_its_distance_needs() {
        assert_eq!(settled(0.1, 0.004, 8.0), MOST);
    }

    #[test]
    fn a_server_that_slows_down_gets_fewer_and_never_less_than_the_least() {
        let mut pace = Pace::new(true);
        let mut after = |took, count| {
            (0..count).for_each(|_| pace.answered(Duration::from_millis(took), true));
            pace.limit()
        };
        assert_eq!(after(5, 500), MOST);
        assert_eq!(after(50, 200), LEAST);
        assert_eq!(after(5, 500), MOST, "and more when it has time again");
    }

    #[test]
    fn a_server_that_is_late_by_itself_gets_as_many_as_ever() {
        let mut pace = Pace::new(true);
        pace.answered(LATE, true);
        assert_eq!(pace.limit(), MOST);
    }

    #[test]
    fn where_no_pass_takes_turns_a_late_answer_is_no_reason_for_more() {
        let mut pace = Pace::new(false);
        pace.answered(Duration::from_millis(5), true);
        (0..100).for_each(|_| pace.answered(LATE, true));
        assert_eq!(pace.limit(), LEAST);
    }

    #[test]
    fn a_server_that_is_slower_for_good_is_measured_by_what_it_is_now() {
        let mut pace = Pace::new(true);
        (0..1000).for_each(|_| pace.answered(Duration::from_millis(1), true));
        (0..5500).for_each(|_| pace.answered(Duration::from_millis(100), true));
        assert_eq!(pace.limit(), MOST);
    }

    #[test]
    fn who_is_refused_gets_fewer() {
        let mut pace = Pace::new(true);
        (0..500).for_each(|_| pace.answered(Duration::from_millis(5), true));
        assert_eq!(pace.limit(), MOST);
        (0..500).for_each(|_| pace.refused());
        assert_eq!(pace.limit(), LEAST);
    }

    #[test]
    fn a_bound_that_nobody_reaches_does_not_grow() {
        let mut pace = Pace::new(true);
        (0..1000).for_each(|_| pace.answered(Duration::from_millis(5), false));
        assert_eq!(pace.limit(), LEAST);
    }

    #[test]
    fn an_answer_in_no_time_is_no_division_by_zero() {
        let mut pace = Pace::new(true);
        pace.answered(Duration::ZERO, true);
        pace.answered(Duration::from_millis(1), true);
        assert!((LEAST..=MOST).contains(&pace.limit()));
    }
}
