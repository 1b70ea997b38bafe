//! Rollouts by example, and what holds for any.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

pub(super) fn at(seconds: u64) -> UnixNanos {
    UnixNanos(1_000 * SECOND + seconds * SECOND)
}

pub(super) fn goal(shares: &[(&str, &str, u8)]) -> Rollout {
    Rollout::at_target(shares.iter().map(|(configuration, revision, percent)| {
        (None, (*configuration).to_owned(), (*revision).to_owned(), *percent)
    }))
}

pub(super) fn text(rollout: &Rollout) -> String {
    let configurations = rollout.configurations.iter().map(|configuration| {
        let shares = configuration.revisions.iter();
        let shares: Vec<String> =
            shares.map(|share| format!("{} {}", share.revision_name, share.percent)).collect();
        shares.join(", ")
    });
    configurations.collect::<Vec<_>>().join("; ")
}

/// Lets a rollout of `duration` seconds run, each step when it is due; every state after the first
/// until it ends.
fn run(
    mut state: Rollout,
    target: &Rollout,
    duration: u64,
    ready_after: u64,
) -> Vec<(u64, Rollout)> {
    let duration = Duration::from_secs(duration);
    let mut states = Vec::new();
    let mut now = at(0);
    loop {
        let ready = now >= at(ready_after);
        let stand = |_: &str| if ready { Standing::Ready } else { Standing::Pending };
        state = target.clone().advanced(Some(&state), duration, now, &stand);
        states.push((now.since(at(0)).as_secs(), state.clone()));
        if state.is_done() {
            return states;
        }
        now = state.next_step(&stand).unwrap_or(at(ready_after));
    }
}

fn check(duration: u64, ready_after: u64, percent: u8, expected: Expect) {
    let states =
        run(goal(&[("a", "r1", percent)]), &goal(&[("a", "r2", percent)]), duration, ready_after);
    let lines = states.iter().map(|(second, state)| format!("{second} s: {}\n", text(state)));
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn the_cadence_is_what_the_first_per_cent_took() {
    check(
        10,
        2,
        100,
        expect![[r#"
        0 s: r1 99, r2 1
        2 s: r1 99, r2 1
        4 s: r1 74, r2 26
        6 s: r1 49, r2 51
        8 s: r1 24, r2 76
        10 s: r2 100
    "#]],
    );
    check(
        10,
        4,
        30,
        expect![[r#"
        0 s: r1 29, r2 1
        4 s: r1 29, r2 1
        8 s: r1 10, r2 20
        12 s: r2 30
    "#]],
    );
    check(
        1,
        0,
        100,
        expect![[r#"
        0 s: r1 99, r2 1
        0 s: r1 99, r2 1
        1 s: r2 100
    "#]],
    );
    // One per cent cannot be shared.
    check(
        60,
        1,
        1,
        expect![[r#"
        0 s: r2 1
    "#]],
    );
    check(
        60,
        1,
        2,
        expect![[r#"
        0 s: r1 1, r2 1
        1 s: r1 1, r2 1
        60 s: r2 2
    "#]],
    );
}

#[test]
fn while_it_fails_nothing_moves() {
    let (before, target) = (goal(&[("a", "r1", 100)]), goal(&[("a", "r2", 100)]));
    let advanced = |state: &Rollout, now: u64, standing: Standing| {
        target.clone().advanced(Some(state), Duration::from_secs(20), at(now), &|_| standing)
    };
    let begun = advanced(&before, 0, Standing::Ready);
    assert_eq!(text(&begun), "r1 99, r2 1");
    // Never ready: it stays where it began.
    let failing = advanced(&begun, 500, Standing::Failing);
    assert_eq!(failing, begun);
    assert_eq!(failing.next_step(&|_| Standing::Failing), None);
    let timed = advanced(&begun, 2, Standing::Ready);
    assert_eq!(timed.next_step(&|_| Standing::Ready), Some(at(4)));
    // Fails later: it stays there, and goes on from there.
    let moved = advanced(&timed, 4, Standing::Ready);
    assert_eq!(text(&moved), "r1 88, r2 12");
    let failing = advanced(&moved, 100, Standing::Failing);
    assert_eq!(failing, moved);
    let recovered = advanced(&failing, 101, Standing::Ready);
    assert_eq!(text(&recovered), "r1 77, r2 23");
    assert_eq!(recovered.next_step(&|_| Standing::Ready), Some(at(103)));
    // Starting again from zero is no failure.
    assert_eq!(text(&advanced(&recovered, 103, Standing::Pending)), "r1 66, r2 34");
}

/// The stored moments are of a clock that was years ahead.
#[test]
fn a_clock_put_back_does_not_stop_it() {
    let (before, target) = (goal(&[("a", "r1", 100)]), goal(&[("a", "r2", 100)]));
    let states = run(before, &target, 10, 1);
    let (_, mut state) = states[2].clone();
    let mut now = UnixNanos(5 * SECOND);
    for _ in 0..12 {
        let duration = Duration::from_secs(10);
        state = target.clone().advanced(Some(&state), duration, now, &|_| Standing::Ready);
        now = now.plus(Duration::from_secs(1));
    }
    assert_eq!(state, target);
}

#[test]
fn the_state_is_written_as_knative_writes_it() {
    let (before, target) = (goal(&[("a", "r1", 100)]), goal(&[("a", "r2", 100)]));
    let states = run(before.clone(), &target, 60, 1);
    expect![[r#"{"configurations":[{"configurationName":"a","percent":100,"revisions":[{"revisionName":"r1","percent":99},{"revisionName":"r2","percent":1}],"stepParams":{"starttime":1000000000000,"nextStepTime":1002000000000,"stepDuration":1000000000,"stepSize":2}}]}"#]].assert_eq(&serde_json::to_string(&states[1].1).unwrap());
    expect![[r#"{"configurations":[{"configurationName":"a","percent":100,"revisions":[{"revisionName":"r1","percent":100}],"stepParams":{}}]}"#]].assert_eq(&serde_json::to_string(&before).unwrap());
    for (_, state) in states {
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), state);
    }
}

#[test]
fn a_revision_that_is_gone_leaves_its_share_to_the_newest() {
    let states = run(
        goal(&[("a", "r1", 60), ("b", "s1", 40)]),
        &goal(&[("a", "r2", 60), ("b", "s1", 40)]),
        60,
        1,
    );
    let mut state = states[3].1.clone();
    state.retain(|name| name != "r1" && name != "s1");
    assert_eq!(text(&state), "r2 60");
    assert!(state.is_valid());
}

proptest! {
    /// Without another change the newest share only grows and the others only shrink, the sum stays
    /// what it is, and it ends at the target, in about the time given.
    #[test]
    fn moves_all_of_it_and_nothing_else(
        percent in 1_u8..=100, duration in 0_u64..4_000, ready_after in 0_u64..200,
    ) {
        let target = goal(&[("a", "r2", percent)]);
        let states = run(goal(&[("a", "r1", percent)]), &target, duration, ready_after);
        let mut newest_before = 0;
        for (_, state) in &states {
            prop_assert!(state.is_valid());
            let configuration = &state.configurations[0];
            prop_assert_eq!(configuration.percent, percent);
            prop_assert_eq!(configuration.newest(), "r2");
            let newest = configuration.revisions.last().unwrap().percent;
            prop_assert!(newest >= newest_before);
            newest_before = newest;
        }
        let (end, last) = states.last().unwrap();
        prop_assert_eq!(last, &target);
        // The step's share is rounded: up to half a step in a hundred later or sooner; and ready
        // later than the whole time still means a step of a second.
        prop_assert!(*end <= duration * 3 / 2 + ready_after + 2, "ended after {} s of {}", end, duration);
        prop_assert!(states.len() <= 200);
    }

    /// Whatever is asked for, at whatever moments: sums hold, nobody has nothing, the newest
    /// revision is the one asked for, and left alone it ends there.
    #[test]
    fn any_history_is_sound(
        history in proptest::collection::vec((0_u8..=100, 1_u8..4, 0_u64..30, 0_u8..3), 1..40),
    ) {
        let (duration, mut now) = (Duration::from_secs(20), at(0));
        let mut state = goal(&[("a", "r1", 50), ("b", "s", 50)]);
        let mut target = state.clone();
        for (percent, revision, pause, standing) in history {
            now = now.plus(Duration::from_secs(pause));
            let standing = [Standing::Pending, Standing::Ready, Standing::Failing][usize::from(standing)];
            let revision = format!("r{revision}");
            target = goal(&[("a", &revision, percent), ("b", "s", 100 - percent)]);
            state = target.clone().advanced(Some(&state), duration, now, &|_| standing);
            let mut sum = 0;
            for configuration in &state.configurations {
                prop_assert!(configuration.revisions.iter().all(|share| share.percent > 0));
                sum += configuration.revisions.iter().map(|share| share.percent).sum::<u8>();
            }
            prop_assert_eq!(sum, 100);
            prop_assert_eq!(&state.target(), &target);
        }
        for _ in 0..200 {
            now = now.plus(Duration::from_secs(20));
            state = target.clone().advanced(Some(&state), duration, now, &|_| Standing::Ready);
        }
        prop_assert_eq!(state, target);
    }
}
