//! Canaries step by step, and what becomes of many of them.

mod many;

use std::time::Duration;

use expect_test::expect;

use super::*;
use crate::config::rollout::tests::{at, goal, text};
use crate::model::Tally;

/// So many requests, so many of which failed; the others took so long.
fn tally(requests: u64, errors: u64, ms: u64) -> Tally {
    let mut tally = Tally { requests, errors, ..Tally::default() };
    (errors..requests).for_each(|_| tally.latencies.record(Duration::from_millis(ms)));
    tally
}

/// A canary from `r1`.
struct Bench {
    state: Rollout,
    rules: CanaryRules,
    standing: Standing,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let state = goal(&[("a", "r1", 100)]);
        Self { state, rules: CanaryRules::default(), standing: Standing::Ready, now: 0 }
    }

    /// The state with this target after a second, with this seen since the step began.
    fn see(&mut self, target: &Rollout, seen: Option<&Evidence>) -> String {
        self.now += 1;
        let standing = self.standing;
        let trial = Trial {
            rules: &self.rules,
            now: at(self.now),
            stand: &|_| standing,
            compare: &|_, _, since| {
                assert!(!since.is_unset());
                seen.cloned()
            },
        };
        self.state = target.clone().tried(Some(&self.state), &trial);
        assert!(self.state.is_valid());
        let back = if self.state.configurations.iter().any(ConfigurationRollout::is_taken_back) {
            " taken back"
        } else {
            ""
        };
        format!("{}{back}", text(&self.state))
    }
}

fn seen(seconds: u64, old: Tally, new: Tally) -> Evidence {
    Evidence { over: Duration::from_secs(seconds), old, new }
}

fn r2() -> Rollout {
    goal(&[("a", "r2", 100)])
}

#[test]
fn steps_are_taken_on_evidence() {
    let mut bench = Bench::new();
    assert_eq!(bench.see(&goal(&[("a", "r1", 100)]), None), "r1 100");
    bench.standing = Standing::Pending;
    assert_eq!(bench.see(&r2(), None), "r1 95, r2 5");
    assert_eq!(bench.see(&r2(), None), "r1 95, r2 5");
    assert!(bench.state.configurations[0].canary.as_ref().unwrap().since.is_unset());
    bench.standing = Standing::Ready;
    let fine =
        |seconds, requests| seen(seconds, tally(requests * 10, 1, 20), tally(requests, 0, 21));
    // Too few, too soon, too few of the old one, and then all of it.
    assert_eq!(bench.see(&r2(), Some(&fine(40, 99))), "r1 95, r2 5");
    assert_eq!(bench.see(&r2(), Some(&fine(29, 200))), "r1 95, r2 5");
    let few = seen(40, tally(99, 0, 20), tally(200, 0, 20));
    assert_eq!(bench.see(&r2(), Some(&few)), "r1 95, r2 5");
    assert!(bench.state.is_tried() && !bench.state.is_done());
    assert_eq!(bench.see(&r2(), Some(&fine(30, 100))), "r1 75, r2 25");
    assert_eq!(bench.see(&r2(), Some(&fine(30, 100))), "r1 50, r2 50");
    assert_eq!(bench.see(&r2(), Some(&fine(30, 100))), "r2 100");
    assert!(bench.state.is_done() && !bench.state.is_tried());
    assert_eq!(bench.state, r2());
}

#[test]
fn harm_takes_all_of_it_back_for_good() {
    let mut bench = Bench::new();
    bench.see(&r2(), None);
    let bad = seen(3, tally(380, 0, 20), tally(20, 4, 20));
    assert_eq!(bench.see(&r2(), Some(&bad)), "r1 100, r2 0 taken back");
    assert!(bench.state.is_done() && bench.state.is_taken_back(None, "r2"));
    expect![[r#"{"configurations":[{"configurationName":"a","percent":100,"revisions":[{"revisionName":"r1","percent":100},{"revisionName":"r2","percent":0}],"stepParams":{},"canary":{"step":0,"since":1002000000000,"looks":1,"lookedAt":20,"takenBack":{"harm":"errors","at":1002000000000,"share":5,"seen":{"old":{"requests":380,"errors":0,"medianUs":19922,"p95Us":20866},"new":{"requests":20,"errors":4,"medianUs":19922,"p95Us":20866}}}}}]}"#]]
        .assert_eq(&serde_json::to_string(&bench.state).unwrap());
    // Whatever is seen now, over a restart, with another share.
    let stored = serde_json::to_string(&bench.state).unwrap();
    bench.state = serde_json::from_str(&stored).unwrap();
    assert_eq!(bench.see(&r2(), None), "r1 100, r2 0 taken back");
    assert_eq!(bench.see(&goal(&[("a", "r2", 40)]), None), "r1 40, r2 0 taken back");
    // A newer one is tried against the one that proved itself.
    assert_eq!(bench.see(&goal(&[("a", "r3", 40)]), None), "r1 38, r3 2");
    // Back to the old one by its name.
    assert_eq!(bench.see(&goal(&[("a", "r1", 40)]), None), "r1 40");
}

#[test]
fn a_newer_one_takes_the_place_of_one_that_is_tried() {
    let mut bench = Bench::new();
    bench.see(&r2(), None);
    bench.state.configurations[0].canary.as_mut().unwrap().step = 2;
    assert_eq!(bench.see(&r2(), None), "r1 50, r2 50");
    assert_eq!(bench.see(&goal(&[("a", "r3", 100)]), None), "r1 95, r3 5");
    assert_eq!(bench.state.configurations[0].canary, Some(CanaryState::default()));
}

#[test]
fn one_that_cannot_start_is_taken_back() {
    let mut bench = Bench::new();
    bench.standing = Standing::Pending;
    bench.see(&r2(), None);
    bench.standing = Standing::Failing;
    assert_eq!(bench.see(&r2(), None), "r1 100, r2 0 taken back");
    let state = bench.state.configurations[0].canary.clone().unwrap();
    assert_eq!(state.taken_back.unwrap().harm, Harm::CannotStart);
}

#[test]
fn tags_move_alike_and_what_is_not_shared_is_not_tried() {
    let both = |revision: &str, percent| {
        Rollout::at_target([
            (None, "a".to_owned(), revision.to_owned(), percent),
            (Some("next".to_owned()), "a".to_owned(), revision.to_owned(), 100),
        ])
    };
    let mut bench = Bench::new();
    bench.state = both("r1", 50);
    assert_eq!(bench.see(&both("r2", 50), None), "r1 47, r2 3; r1 95, r2 5");
    let fine = seen(30, tally(1_000, 0, 20), tally(100, 0, 20));
    assert_eq!(bench.see(&both("r2", 50), Some(&fine)), "r1 37, r2 13; r1 75, r2 25");
    bench.state = both("r1", 1);
    assert_eq!(bench.see(&both("r2", 1), None), "r2 1; r1 95, r2 5");
    // Nothing to compare with.
    let trial = Trial {
        rules: &CanaryRules::default(),
        now: at(0),
        stand: &|_| Standing::Ready,
        compare: &|_, _, _| None,
    };
    assert_eq!(r2().tried(None, &trial), r2());
}

#[test]
fn steps_and_time_may_be_mixed() {
    // Steps by time turn into a canary with the first step, of the revision that had most.
    let mut bench = Bench::new();
    let ready: Stand<'_> = &|_| Standing::Ready;
    let slowly = Duration::from_secs(10);
    bench.state = r2().advanced(Some(&bench.state), slowly, at(0), ready);
    assert_eq!(text(&bench.state), "r1 99, r2 1");
    assert_eq!(bench.see(&r2(), None), "r1 95, r2 5");
    // And back: it begins anew.
    bench.state = r2().advanced(Some(&bench.state), slowly, at(9), ready);
    assert_eq!(text(&bench.state), "r1 99, r2 1");
    // One that was taken back has what it would have without.
    let mut bench = Bench::new();
    bench.see(&r2(), None);
    bench.see(&r2(), Some(&seen(3, tally(380, 0, 20), tally(20, 9, 20))));
    let state = r2().advanced(Some(&bench.state), slowly, at(9), ready);
    assert_eq!(text(&state), "r1 99, r2 1");
    assert_eq!(r2().advanced(Some(&bench.state), Duration::ZERO, at(9), ready), r2());
}

#[test]
fn what_may_be_chance_is_counted_anew_after_a_while() {
    let mut bench = Bench::new();
    bench.see(&r2(), None);
    // Beyond the bound, and nothing that a test would call harm.
    let mut unlucky = seen(60, tally(30_000, 3_000, 20), tally(1_600, 190, 20));
    bench.see(&r2(), Some(&unlucky));
    let since = |bench: &Bench| bench.state.configurations[0].canary.as_ref().unwrap().since;
    assert!(!since(&bench).is_unset(), "not yet");
    unlucky.new = tally(1_850, 216, 20);
    assert_eq!(bench.see(&r2(), Some(&unlucky)), "r1 95, r2 5");
    assert!(since(&bench).is_unset());
    bench.see(&r2(), Some(&seen(0, tally(0, 0, 20), tally(0, 0, 20))));
    assert!(!since(&bench).is_unset());
}

#[test]
fn a_look_is_made_at_doubled_numbers() {
    let mut bench = Bench::new();
    bench.see(&r2(), None);
    let mut looks = Vec::new();
    for requests in 1..=40 {
        bench.see(&r2(), Some(&seen(1, tally(400, 0, 20), tally(requests, 0, 20))));
        let state = bench.state.configurations[0].canary.clone().unwrap();
        if state.looks > looks.len() as u32 {
            looks.push(state.looked_at);
        }
    }
    assert_eq!(looks, [4, 8, 16, 32]);
    // Counted anew after a restart.
    bench.see(&r2(), Some(&seen(1, tally(400, 0, 20), tally(4, 0, 20))));
    let state = bench.state.configurations[0].canary.clone().unwrap();
    assert_eq!((state.looks, state.looked_at), (5, 4));
}
