//! A revision's count in words: what went in, what came out, what bounds it, what would change it.

use crate::cli::client::answers::{Decision, Revision};

/// Rules that keep replicas up without load.
const KEEPING: [&str; 7] = [
    "min-scale",
    "initial-scale",
    "scale-to-zero-disabled",
    "progress-deadline",
    "stable-window",
    "scale-to-zero-grace",
    "scale-to-zero-retention",
];

/// Why this many; decisions newest first.
pub(super) fn explain(revision: &Revision, decisions: &[Decision]) -> String {
    let mut lines = vec![format!(
        "{}: {} wanted, {} ready, {} starting; {} in flight, {} of them waiting",
        revision.id(),
        replicas(revision.desired),
        revision.ready,
        revision.starting,
        requests(revision.in_flight),
        revision.waiting
    )];
    if let Some(problem) = &revision.problem {
        lines.push(format!("  cannot start  {}", problem.short()));
    }
    if revision.to_renew > 0 {
        let left = revision.to_renew;
        lines
            .push(format!("  restarting    {} of before are still to be replaced", replicas(left)));
    }
    match decisions.first() {
        None => lines.push(format!("  at rest       {}", at_rest(revision))),
        Some(decision) => {
            lines.extend(inputs(revision, decision));
            lines.extend(
                decision
                    .clamps
                    .iter()
                    .map(|clamp| format!("  bounded by    {clamp}: {}", rule(clamp, revision))),
            );
            lines.extend(changes(revision, decision));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn replicas(count: u32) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.0} s")
}

fn unit(revision: &Revision) -> &'static str {
    if revision.metric == "rps" { "requests a second" } else { "requests at a time" }
}

/// Nobody decides: there is nothing to decide upon.
fn at_rest(revision: &Revision) -> String {
    let first = revision.scaling.activation_scale.max(1);
    match (revision.reachable, revision.desired) {
        (false, 0) => "no traffic leads here".to_owned(),
        (true, 0) => format!("no request; the next one starts {}", replicas(first)),
        (_, _) => "no request yet: min-scale or initial-scale".to_owned(),
    }
}

fn inputs(revision: &Revision, decision: &Decision) -> Vec<String> {
    let scaling = &revision.scaling;
    let asked = match decision.trigger.as_str() {
        "poke" => "a request came at zero",
        "eager" => "more requests waited than there were slots",
        _ => "as every two seconds",
    };
    let age = decision.age_ms as f64 / 1000.0;
    let mut lines = vec![
        format!("  decided       {age:.1} s ago, {asked}"),
        format!(
            "  load          {:.2} {} over {} (stable window), {:.2} over {} (panic window)",
            decision.stable,
            unit(revision),
            seconds(scaling.stable_window_s),
            decision.panic,
            seconds(scaling.panic_window_s)
        ),
        format!("  target        {:.2} a replica{}", decision.target, limit(revision)),
    ];
    let load =
        if decision.panic_mode { decision.panic.max(decision.stable) } else { decision.stable };
    let wanted = replicas(decision.desired);
    if load > 0.0 {
        lines.push(format!(
            "  that is       {wanted}: {load:.2} ÷ {:.2}, rounded up{}",
            decision.target,
            if decision.waiting > 0 { ", with those that wait" } else { "" }
        ));
    } else {
        lines.push(format!("  that is       {wanted}"));
    }
    if decision.panic_mode {
        lines.push(format!(
            "  panic         begun when the panic window wanted {} times what was ready or more: \
             until that was not so for {}, nothing is taken away",
            scaling.panic_threshold,
            seconds(scaling.stable_window_s)
        ));
    }
    lines
}

fn limit(revision: &Revision) -> String {
    match revision.container_concurrency {
        0 => String::new(),
        limit => format!(", which takes {limit} at a time (containerConcurrency)"),
    }
}

/// What a rule says.
fn rule(clamp: &str, revision: &Revision) -> String {
    let scaling = &revision.scaling;
    match clamp {
        "max-scale" => match revision.max_scale {
            Some(max) => format!("at most {}", replicas(max)),
            None => "at most so many".to_owned(),
        },
        "min-scale" => format!("at least {}", replicas(revision.min_scale)),
        "initial-scale" => {
            format!("{} to begin with, until they were ready once", replicas(scaling.initial_scale))
        }
        "activation-scale" => {
            format!("{} at once from zero", replicas(scaling.activation_scale))
        }
        "max-scale-up-rate" => "not more at one step (config-autoscaler)".to_owned(),
        "max-scale-down-rate" => "not fewer at one step (config-autoscaler)".to_owned(),
        "panic-floor" => "in panic nothing is taken away".to_owned(),
        "scale-down-delay" => {
            format!("the most of the last {}", seconds(scaling.scale_down_delay_s))
        }
        "scale-to-zero-disabled" => "the last one stays (config-autoscaler)".to_owned(),
        "progress-deadline" => "it has not been ready yet: it is given its time".to_owned(),
        "stable-window" => {
            format!("active for less than {}: the last one stays", seconds(scaling.stable_window_s))
        }
        "scale-to-zero-grace" => "the last one stays a grace period".to_owned(),
        "scale-to-zero-retention" => {
            format!("the last one stays {} after the last request", seconds(scaling.retention_s))
        }
        "eager-never-lowers" => "a decision between two ticks takes nothing away".to_owned(),
        "max-replicas" => "all services together have as many as --max-replicas allows".to_owned(),
        _ => "a rule of a newer tidegate".to_owned(),
    }
}

/// What would change it.
fn changes(revision: &Revision, decision: &Decision) -> Vec<String> {
    let now = decision.requested;
    let mut lines = Vec::new();
    let is_at_most = revision.max_scale == Some(now);
    let keeps = decision.clamps.iter().find(|clamp| KEEPING.contains(&clamp.as_str()));
    let per = decision.target.max(0.01);
    if now == 0 {
        lines.push("  more          with the next request".to_owned());
        return lines;
    }
    if is_at_most {
        lines.push(format!("  more          never: max-scale is {now}"));
    } else {
        lines.push(format!(
            "  more          with a load over {:.2} {}",
            f64::from(now) * per,
            unit(revision)
        ));
    }
    let fewer = now - 1;
    if let Some(keeps) = keeps.filter(|_| decision.desired < now) {
        lines.push(format!("  fewer         once {keeps} no longer holds"));
    } else if revision.min_scale >= now {
        lines.push(format!("  fewer         never: min-scale is {}", revision.min_scale));
    } else if fewer == 0 {
        lines.push(format!(
            "  fewer         after {} without a request",
            seconds(revision.scaling.stable_window_s)
        ));
    } else {
        lines.push(format!(
            "  fewer         when the average over {} is {:.2} or less",
            seconds(revision.scaling.stable_window_s),
            f64::from(fewer) * per
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(revision: Value, decisions: Value, expected: Expect) {
        let mut known = json!({
            "namespace": "default", "name": "a-00001", "metric": "concurrency", "reachable": true,
            "scaling": {
                "stable_window_s": 60.0, "panic_window_s": 6.0, "panic_threshold": 2.0,
                "activation_scale": 1,
            },
        });
        for (key, value) in revision.as_object().unwrap() {
            known[key] = value.clone();
        }
        let revision: Revision = serde_json::from_value(known).unwrap();
        let decisions: Vec<Decision> = serde_json::from_value(decisions).unwrap();
        expected.assert_eq(&explain(&revision, &decisions));
    }

    #[test]
    fn under_load_and_bounded() {
        check(
            json!({"desired": 5, "ready": 5, "in_flight": 10, "waiting": 5, "max_scale": 5,
                   "container_concurrency": 1}),
            json!([{"age_ms": 1200, "trigger": "tick", "stable": 6.65, "panic": 6.7,
                    "target": 0.7, "ready": 2, "waiting": 5, "panic_mode": true, "desired": 10,
                    "requested": 5, "clamps": ["max-scale"]}]),
            expect![[r#"
                default/a-00001: 5 replicas wanted, 5 ready, 0 starting; 10 requests in flight, 5 of them waiting
                  decided       1.2 s ago, as every two seconds
                  load          6.65 requests at a time over 60 s (stable window), 6.70 over 6 s (panic window)
                  target        0.70 a replica, which takes 1 at a time (containerConcurrency)
                  that is       10 replicas: 6.70 ÷ 0.70, rounded up, with those that wait
                  panic         begun when the panic window wanted 2 times what was ready or more: until that was not so for 60 s, nothing is taken away
                  bounded by    max-scale: at most 5 replicas
                  more          never: max-scale is 5
                  fewer         when the average over 60 s is 2.80 or less
            "#]],
        );
    }

    #[test]
    fn at_rest_and_kept_up_without_load() {
        check(
            json!({"desired": 0}),
            json!([]),
            expect![[r#"
                default/a-00001: 0 replicas wanted, 0 ready, 0 starting; 0 requests in flight, 0 of them waiting
                  at rest       no request; the next one starts 1 replica
            "#]],
        );
        check(
            json!({"desired": 2, "ready": 2, "min_scale": 2}),
            json!([{"target": 70.0, "ready": 2, "requested": 2, "clamps": ["min-scale"]}]),
            expect![[r#"
                default/a-00001: 2 replicas wanted, 2 ready, 0 starting; 0 requests in flight, 0 of them waiting
                  decided       0.0 s ago, as every two seconds
                  load          0.00 requests at a time over 60 s (stable window), 0.00 over 6 s (panic window)
                  target        70.00 a replica
                  that is       0 replicas
                  bounded by    min-scale: at least 2 replicas
                  more          with a load over 140.00 requests at a time
                  fewer         once min-scale no longer holds
            "#]],
        );
        check(
            json!({"desired": 1, "ready": 1, "metric": "rps",
                   "problem": {"reason": "start_failed", "message": "it ended\nmore"}}),
            json!([{"trigger": "poke", "stable": 3.0, "target": 10.0, "desired": 1, "requested": 1}]),
            expect![[r#"
                default/a-00001: 1 replica wanted, 1 ready, 0 starting; 0 requests in flight, 0 of them waiting
                  cannot start  start_failed: it ended
                  decided       0.0 s ago, a request came at zero
                  load          3.00 requests a second over 60 s (stable window), 0.00 over 6 s (panic window)
                  target        10.00 a replica
                  that is       1 replica: 3.00 ÷ 10.00, rounded up
                  more          with a load over 10.00 requests a second
                  fewer         after 60 s without a request
            "#]],
        );
    }
}
