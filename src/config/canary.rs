//! Whether a new revision does worse than the old one beside it, by what was counted of both over
//! the same time, and so under the same load.
//!
//! Three one-sided tests, each exact, so that small numbers are right, too:
//!
//! * errors: Fisher's exact test. Given how many requests of both failed, the number that the new
//!   one has of them is hypergeometric if it is no worse.
//! * median and 95th percentile of the time that answers took: the quantile test (at the median it
//!   is Mood's). The new one's times are divided by the bound; of the slowest half, or twentieth,
//!   of both together the number that the new one has is hypergeometric if it is no slower than the
//!   bound allows.
//!
//! Times are tested once there are as many answers as a step needs.
//!
//! A canary is taken back when a test is significant and what was measured is beyond its bound. The
//! tests are made at 4, 8, 16, 32, … requests of the new revision in each step. The `k`-th look of
//! a rollout has the level [`ALPHA`] ÷ (k·(k+1)), and each of its tests a third of that: whatever
//! the number of looks and steps, a revision that is equal is taken back with a probability of at
//! most [`ALPHA`].
//!
//! Pure: the counts are arguments.

mod exact;
mod words;

use std::time::Duration;

use crate::model::{
    CanaryRules, CanaryState, Compared, Evidence, Figures, Harm, LATENCY_BUCKETS, Latencies, Tally,
    latency_bucket, latency_bucket_start,
};
use exact::upper_tail;
pub use words::{missing_words, seen_words, taken_back_words};

/// Probability at most with which a revision that is equal is taken back in a whole rollout.
pub const ALPHA: f64 = 0.01;
/// Tests of one look.
const TESTS: f64 = 3.0;
/// Requests of the new revision at the first look of a step; at each further one twice as many.
const FIRST_LOOK: u64 = 4;
/// Answers that are later by no more than this are not slower, whatever the ratio is: so much a
/// replica with few requests loses by connections that were closed and caches that are cold.
const NEGLIGIBLE: Duration = Duration::from_millis(2);
/// What is beyond a bound is waited for where an equal revision would look so with a smaller
/// probability; what one in five looks like is none of its fault.
const CHANCE: f64 = 0.2;
/// A step that has so many times the answers that it needs, and is held up by what may be chance
/// alone, is counted anew: a bad beginning is not to be carried along for hours.
const ANEW: u64 = 16;
/// Answers of the old revision below which its times say nothing.
const OLD_ANSWERS: u64 = 20;

/// What a step still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Answers of the new revision: so many there are.
    Answers(u64),
    /// Requests of the old one: so many there are.
    Baseline(u64),
    /// Time.
    Time(Duration),
    /// What was measured is beyond a bound by more than is usual, though that may be chance.
    Within(Harm),
}

/// Whether the tests are to be made at so many requests of the new revision.
pub const fn is_look_due(state: &CanaryState, requests: u64) -> bool {
    // Fewer than before: it is counted anew.
    let is_more = requests >= state.looked_at.saturating_mul(2) || requests < state.looked_at;
    requests >= FIRST_LOOK && is_more
}

/// What speaks against the new revision at the `look`-th look, counted from 1.
pub fn harm(rules: &CanaryRules, evidence: &Evidence, look: u32) -> Option<Harm> {
    let look = f64::from(look.max(1));
    let level = ALPHA / (look * (look + 1.0)) / TESTS;
    // The first answers of a new replica take longer by nature: they are not to be all there is.
    let is_timed = evidence.new.latencies.count() >= rules.samples;
    let found: &[Harm] =
        if is_timed { &[Harm::Errors, Harm::Median, Harm::P95] } else { &[Harm::Errors] };
    let mut found = found.iter().copied().filter(|harm| exceeds(rules, evidence, *harm));
    found.find(|harm| probability(rules, evidence, *harm) <= level)
}

/// What the step still needs; nothing: it may go on.
pub fn missing(rules: &CanaryRules, evidence: &Evidence) -> Vec<Missing> {
    let Evidence { over, old, new } = evidence;
    let mut missing = Vec::new();
    if new.good() < rules.samples {
        missing.push(Missing::Answers(new.good()));
    }
    if old.requests < rules.samples {
        missing.push(Missing::Baseline(old.requests));
    }
    if *over < rules.step_time {
        missing.push(Missing::Time(rules.step_time - *over));
    }
    if new.requests > 0 && old.requests > 0 {
        let beyond = [Harm::Errors, Harm::Median, Harm::P95].into_iter();
        let is_beyond = |harm: &Harm| {
            exceeds(rules, evidence, *harm) && probability(rules, evidence, *harm) < CHANCE
        };
        missing.extend(beyond.filter(is_beyond).map(Missing::Within));
    }
    missing
}

/// Whether a step is to be counted anew that still misses this.
pub fn is_anew(rules: &CanaryRules, evidence: &Evidence, missing: &[Missing]) -> bool {
    let is_chance = |missing: &Missing| matches!(missing, Missing::Within(_));
    evidence.new.good() >= rules.samples.saturating_mul(ANEW) && missing.iter().all(is_chance)
}

/// What was measured, to be shown.
pub fn compared(evidence: &Evidence) -> Compared {
    Compared { old: figures(&evidence.old), new: figures(&evidence.new) }
}

fn figures(tally: &Tally) -> Figures {
    let micros = |part| {
        let took = tally.latencies.quantile(part);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    };
    Figures {
        requests: tally.requests,
        errors: tally.errors,
        median_us: micros(0.5),
        p95_us: micros(0.95),
    }
}

/// Whether what was measured is beyond the bound.
fn exceeds(rules: &CanaryRules, evidence: &Evidence, harm: Harm) -> bool {
    let Evidence { old, new, .. } = evidence;
    match harm {
        Harm::Errors => {
            let rate = |tally: &Tally| tally.errors as f64 / tally.requests.max(1) as f64;
            rate(new) - rate(old) > f64::from(rules.max_errors) / 10_000.0
        }
        Harm::Median | Harm::P95 => {
            let known = old.latencies.count() >= OLD_ANSWERS && new.latencies.count() > 0;
            known && {
                let bound = bound(rules, nanos(old.latencies.quantile(part_of(harm))));
                nanos(new.latencies.quantile(part_of(harm))) > bound
            }
        }
        Harm::CannotStart => false,
    }
}

const fn part_of(harm: Harm) -> f64 {
    match harm {
        Harm::P95 => 0.95,
        Harm::Median | Harm::Errors | Harm::CannotStart => 0.5,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The longest that the new one may take where the old one takes this.
fn bound(rules: &CanaryRules, old: u64) -> u64 {
    let ratio = old.saturating_mul(u64::from(rules.max_latency)) / 100;
    ratio.max(old.saturating_add(nanos(NEGLIGIBLE)))
}

/// Probability of as much or more if the new one were no worse than the bound allows.
fn probability(rules: &CanaryRules, evidence: &Evidence, harm: Harm) -> f64 {
    let Evidence { old, new, .. } = evidence;
    match harm {
        Harm::Errors => {
            let (all, failed) = (old.requests + new.requests, old.errors + new.errors);
            upper_tail(all, failed, new.requests, new.errors)
        }
        Harm::Median | Harm::P95 => slower(rules, &old.latencies, &new.latencies, part_of(harm)),
        Harm::CannotStart => 1.0,
    }
}

/// The quantile test.
fn slower(rules: &CanaryRules, old: &Latencies, new: &Latencies, part: f64) -> f64 {
    let (above_old, above_new) = (above(old), above(new));
    let all = above_old[0] + above_new[0];
    let wanted = (1.0 - part) * all as f64;
    // The new one's times are put on the old one's scale by the bound. Where both are divided
    // depends on all of them together, not on whose they are: so the test stays exact.
    let divisions = (1..LATENCY_BUCKETS).map(|bucket| {
        let scaled = bound(rules, latency_bucket_start(bucket));
        let at = latency_bucket(scaled);
        let at = if latency_bucket_start(at) < scaled { at + 1 } else { at };
        (above_old[bucket], above_new.get(at).copied().unwrap_or(0))
    });
    let off = |(old, new): &(u64, u64)| ((old + new) as f64 - wanted).abs();
    let nearest = divisions.min_by(|a, b| off(a).total_cmp(&off(b)));
    let (slow_old, slow_new) = nearest.unwrap_or_default();
    upper_tail(all, slow_old + slow_new, above_new[0], slow_new)
}

/// How many are in each bucket or a later one.
fn above(latencies: &Latencies) -> [u64; LATENCY_BUCKETS] {
    let mut above = *latencies.buckets();
    for bucket in (0..LATENCY_BUCKETS - 1).rev() {
        above[bucket] += above[bucket + 1];
    }
    above
}

#[cfg(test)]
mod tests;
