//! A canary in words: what it has, what was seen of it, what it waits for, why it was taken back.

use crate::cli::client::answers::{CanaryOf, Figures};

/// What a service's canary does.
pub(super) fn explain(service: &str, canary: &CanaryOf) -> String {
    let CanaryOf { old, new, share, of, step, steps, .. } = canary;
    let all: Vec<String> = steps.iter().map(|step| format!("{step} %")).collect();
    let is_back = canary.state == "taken_back";
    let mut lines = vec![format!("{service}: canary {new} beside {old}")];
    if is_back {
        let at = canary.taken_back_unix_ms.map(day_and_time).unwrap_or_default();
        lines.push(format!("  taken back    {at} UTC, when it had {share} of {of} %"));
        lines.push(format!("  because       {}", canary.why));
    } else {
        lines.push(format!(
            "  share         {share} of {of} %, step {step} of {} ({})",
            steps.len(),
            all.join(", ")
        ));
    }
    if let [before, tried] = canary.seen.as_slice() {
        lines.push(format!("  {new:<13} {}", figures(tried)));
        lines.push(format!("  {old:<13} {}", figures(before)));
    }
    lines.push(format!(
        "  bounds        errors: {} point{} above those of {old}; times: {} times as long, at the \
         median and for 95 of 100",
        canary.max_errors,
        if canary.max_errors == 1.0 { "" } else { "s" },
        canary.max_latency
    ));
    if is_back {
        lines.push("  more          with a newer revision, or by hand".to_owned());
    } else {
        let next = steps.get(*step).copied().unwrap_or(100);
        let why = if canary.why.is_empty() { "the next look" } else { canary.why.as_str() };
        lines.push(format!("  next          {next} % after: {why}"));
    }
    lines.push(format!(
        "  by hand       tidegate traffic {service} --to-latest, or --rollback{}",
        if is_back { ", which goes further back" } else { "" }
    ));
    lines.push(String::new());
    lines.join("\n")
}

fn figures(figures: &Figures) -> String {
    let Figures { requests, errors, median_ms, p95_ms } = figures;
    let rate = *errors as f64 * 100.0 / (*requests).max(1) as f64;
    format!(
        "{errors} of {requests} requests failed ({rate:.1} %), median {median_ms:.1} ms, 95 % \
         within {p95_ms:.1} ms"
    )
}

/// `2026-11-30 07:01:02`, in the proleptic Gregorian calendar (Howard Hinnant's
/// `civil_from_days`).
fn day_and_time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn shown(canary: serde_json::Value) -> String {
        explain("default/shop", &serde_json::from_value(canary).unwrap())
    }

    #[test]
    fn one_that_is_tried_and_one_that_was_taken_back() {
        expect![[r#"
            default/shop: canary shop-00002 beside shop-00001
              share         5 of 100 %, step 1 of 3 (5 %, 25 %, 50 %)
              shop-00002    0 of 84 requests failed (0.0 %), median 20.1 ms, 95 % within 40.0 ms
              shop-00001    3 of 1596 requests failed (0.2 %), median 20.0 ms, 95 % within 39.8 ms
              bounds        errors: 1 point above those of shop-00001; times: 1.5 times as long, at the median and for 95 of 100
              next          25 % after: 84 of 100 answers without an error; 12 s more
              by hand       tidegate traffic default/shop --to-latest, or --rollback
        "#]].assert_eq(&shown(json!({
            "state": "tried", "old": "shop-00001", "new": "shop-00002", "share": 5, "of": 100,
            "step": 1, "steps": [5, 25, 50], "max_errors": 1.0, "max_latency": 1.5,
            "why": "84 of 100 answers without an error; 12 s more",
            "seen": [{"requests": 1596, "errors": 3, "median_ms": 20.0, "p95_ms": 39.8},
                     {"requests": 84, "errors": 0, "median_ms": 20.1, "p95_ms": 40.0}],
        })));
        expect![[r#"
            default/shop: canary shop-00002 beside shop-00001
              taken back    2026-11-30 07:01:02 UTC, when it had 5 of 100 %
              because       its replicas cannot be started
              bounds        errors: 1 point above those of shop-00001; times: 1.5 times as long, at the median and for 95 of 100
              more          with a newer revision, or by hand
              by hand       tidegate traffic default/shop --to-latest, or --rollback, which goes further back
        "#]].assert_eq(&shown(json!({
            "state": "taken_back", "old": "shop-00001", "new": "shop-00002", "share": 5, "of": 100,
            "step": 1, "steps": [5, 25, 50], "max_errors": 1.0, "max_latency": 1.5,
            "taken_back_unix_ms": 1_796_022_062_123_u64, "reason": "cannot_start",
            "why": "its replicas cannot be started",
        })));
    }

    #[test]
    fn days() {
        assert_eq!(day_and_time(0), "1970-01-01 00:00:00");
        assert_eq!(day_and_time(951_827_696_000), "2000-02-29 12:34:56");
        assert_eq!(day_and_time(1_796_022_062_000), "2026-11-30 07:01:02");
    }
}
