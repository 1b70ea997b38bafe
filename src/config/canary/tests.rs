//! What is harm, what is missing, and how it is said.

use expect_test::{Expect, expect};

use super::*;

/// So many requests, so many of which failed; the others took so long, a tenth of them longer.
fn tally(requests: u64, errors: u64, ms: u64, tail_ms: u64) -> Tally {
    let mut tally = Tally { requests, errors, ..Tally::default() };
    for answer in 0..requests - errors {
        let ms = if answer % 10 == 9 { tail_ms } else { ms };
        tally.latencies.record(Duration::from_millis(ms));
    }
    tally
}

fn check(old: Tally, new: Tally, seconds: u64, expected: Expect) {
    let rules = CanaryRules::default();
    let evidence = Evidence { over: Duration::from_secs(seconds), old, new };
    let seen = compared(&evidence);
    let text = match harm(&rules, &evidence, 6) {
        Some(harm) => taken_back_words(harm, Some(&seen), &rules, "r1"),
        None => format!("missing: {}", missing_words(&missing(&rules, &evidence), &rules, "r1")),
    };
    expected.assert_eq(&format!("{}\n{text}\n", seen_words(&seen, "r1", "r2")));
}

#[test]
fn what_is_said() {
    check(
        tally(1_900, 4, 20, 40),
        tally(100, 0, 21, 42),
        30,
        expect![[r#"
            r2: 0 of 100 requests failed (0 %), median 22.1 ms, 95 % within 44.0 ms; r1: 4 of 1900 requests failed (0.2 %), median 20.0 ms, 95 % within 39.8 ms
            missing: 
        "#]],
    );
    check(
        tally(190, 0, 20, 40),
        tally(10, 0, 21, 42),
        4,
        expect![[r#"
            r2: 0 of 10 requests failed (0 %), median 22.1 ms, 95 % within 44.0 ms; r1: 0 of 190 requests failed (0 %), median 20.0 ms, 95 % within 39.8 ms
            missing: 10 of 100 answers without an error; 26 s more
        "#]],
    );
    check(
        tally(0, 0, 0, 0),
        tally(0, 0, 0, 0),
        0,
        expect![[r#"
        r2: 0 of 0 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms; r1: 0 of 0 requests failed (0 %), median 0.0 ms, 95 % within 0.0 ms
        missing: 0 of 100 answers without an error; 0 of 100 requests of r1; 30 s more
    "#]],
    );
    check(
        tally(1_900, 4, 20, 40),
        tally(100, 12, 20, 40),
        30,
        expect![[r#"
            r2: 12 of 100 requests failed (12 %), median 20.0 ms, 95 % within 39.6 ms; r1: 4 of 1900 requests failed (0.2 %), median 20.0 ms, 95 % within 39.8 ms
            12 of 100 requests failed (12 %), of r1 4 of 1900 (0.2 %): more than 1 point above
        "#]],
    );
}

#[test]
fn what_is_said_of_what_is_slow_or_may_be_chance() {
    check(
        tally(1_900, 4, 20, 40),
        tally(100, 2, 20, 40),
        31,
        expect![[r#"
            r2: 2 of 100 requests failed (2.0 %), median 20.0 ms, 95 % within 39.7 ms; r1: 4 of 1900 requests failed (0.2 %), median 20.0 ms, 95 % within 39.8 ms
            missing: 98 of 100 answers without an error; its errors are more than 1 point above those of r1, which may still be chance
        "#]],
    );
    check(
        tally(1_900, 0, 20, 40),
        tally(100, 0, 45, 90),
        30,
        expect![[r#"
            r2: 0 of 100 requests failed (0 %), median 44.3 ms, 95 % within 88.1 ms; r1: 0 of 1900 requests failed (0 %), median 20.0 ms, 95 % within 39.8 ms
            the median of 100 answers is 44.3 ms, of r1 20.0 ms (1900): more than 1.5 times as long
        "#]],
    );
    check(
        tally(1_900, 0, 20, 40),
        tally(200, 0, 20, 400),
        30,
        expect![[r#"
            r2: 0 of 200 requests failed (0 %), median 20.0 ms, 95 % within 386 ms; r1: 0 of 1900 requests failed (0 %), median 20.0 ms, 95 % within 39.8 ms
            95 % of 200 answers came within 386 ms, of r1 within 39.8 ms (1900): more than 1.5 times as long
        "#]],
    );
    // Within two milliseconds nothing is slower.
    check(
        tally(1_900, 0, 1, 2),
        tally(100, 0, 2, 3),
        30,
        expect![[r#"
            r2: 0 of 100 requests failed (0 %), median 2.0 ms, 95 % within 3.0 ms; r1: 0 of 1900 requests failed (0 %), median 1.0 ms, 95 % within 2.0 ms
            missing: 
        "#]],
    );
    // An old one that fails is no measure of time, but of errors.
    check(
        tally(1_900, 1_900, 20, 40),
        tally(200, 0, 500, 900),
        30,
        expect![[r#"
            r2: 0 of 200 requests failed (0 %), median 488 ms, 95 % within 906 ms; r1: 1900 of 1900 requests failed (100 %), median 0.0 ms, 95 % within 0.0 ms
            missing: 
        "#]],
    );
}

#[test]
fn a_canary_that_gets_everything_wrong_is_found_at_the_first_look() {
    let rules = CanaryRules::default();
    let evidence =
        Evidence { old: tally(76, 0, 20, 20), new: tally(4, 4, 20, 20), ..Evidence::default() };
    assert_eq!(harm(&rules, &evidence, 1), Some(Harm::Errors));
    // Where both fail alike it is none of its fault.
    let evidence =
        Evidence { old: tally(76, 76, 20, 20), new: tally(4, 4, 20, 20), ..Evidence::default() };
    assert_eq!(harm(&rules, &evidence, 1), None);
}
