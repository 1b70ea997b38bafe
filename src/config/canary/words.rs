//! What is said of a canary.

use std::time::Duration;

use super::Missing;
use crate::model::{CanaryRules, Compared, Figures, Harm};

/// What was measured of both, for a person: `12 of 80 requests failed (15 %)`.
pub fn seen_words(seen: &Compared, old: &str, new: &str) -> String {
    let of = |name: &str, figures: &Figures| {
        format!(
            "{name}: {} of {} requests failed ({}), median {}, 95 % within {}",
            figures.errors,
            figures.requests,
            per_cent(figures),
            millis(figures.median_us),
            millis(figures.p95_us)
        )
    };
    format!("{}; {}", of(new, &seen.new), of(old, &seen.old))
}

/// Why it was taken back.
pub fn taken_back_words(
    harm: Harm,
    seen: Option<&Compared>,
    rules: &CanaryRules,
    old: &str,
) -> String {
    let ratio = f64::from(rules.max_latency) / 100.0;
    match (harm, seen) {
        (Harm::CannotStart, _) => "its replicas cannot be started".to_owned(),
        (Harm::Errors, Some(Compared { old: before, new })) => format!(
            "{} of {} requests failed ({}), of {old} {} of {} ({}): more than {} above",
            new.errors,
            new.requests,
            per_cent(new),
            before.errors,
            before.requests,
            per_cent(before),
            points(rules)
        ),
        (Harm::Median, Some(Compared { old: before, new })) => format!(
            "the median of {} answers is {}, of {old} {} ({}): more than {ratio} times as long",
            new.requests - new.errors,
            millis(new.median_us),
            millis(before.median_us),
            before.requests - before.errors
        ),
        (Harm::P95, Some(Compared { old: before, new })) => format!(
            "95 % of {} answers came within {}, of {old} within {} ({}): more than {ratio} times \
             as long",
            new.requests - new.errors,
            millis(new.p95_us),
            millis(before.p95_us),
            before.requests - before.errors
        ),
        (Harm::Errors, None) => "more of its requests failed".to_owned(),
        (Harm::Median | Harm::P95, None) => "its answers took longer".to_owned(),
    }
}

/// What a step still needs, in one line.
pub fn missing_words(missing: &[Missing], rules: &CanaryRules, old: &str) -> String {
    let words = missing.iter().map(|missing| match missing {
        Missing::Answers(have) => format!("{have} of {} answers without an error", rules.samples),
        Missing::Baseline(have) => format!("{have} of {} requests of {old}", rules.samples),
        Missing::Time(left) => format!("{} s more", seconds(*left)),
        Missing::Within(Harm::Errors) => format!(
            "its errors are more than {} above those of {old}, which may still be chance",
            points(rules)
        ),
        Missing::Within(_) => format!(
            "its answers take more than {} times as long as those of {old}, which may still be \
             chance",
            f64::from(rules.max_latency) / 100.0
        ),
    });
    words.collect::<Vec<_>>().join("; ")
}

fn points(rules: &CanaryRules) -> String {
    match rules.max_errors {
        100 => "1 point".to_owned(),
        hundredths => format!("{} points", f64::from(hundredths) / 100.0),
    }
}

fn seconds(left: Duration) -> u64 {
    left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn per_cent(figures: &Figures) -> String {
    let rate = figures.errors as f64 * 100.0 / figures.requests.max(1) as f64;
    let digits = if rate == 0.0 || rate >= 10.0 { 0 } else { 1 };
    format!("{rate:.digits$} %")
}

fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    let digits = if millis >= 100.0 { 0 } else { 1 };
    format!("{millis:.digits$} ms")
}
