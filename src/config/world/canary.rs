//! Canaries of services: the annotations that ask for them, and what is shown of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::admitted::metadata_map;
use super::annotations::{SERVICE_ANNOTATIONS, names};
use super::own::{OwnError, PREFIX, Refused, duration};
use crate::config::canary::taken_back_words;
use crate::config::rollout::{ConfigurationRollout, Rollout};
use crate::config::text::nearest;
use crate::model::{Canary, CanaryRules, CanaryState, RevisionId, ServiceSpec};

/// Begins the condition of a canary that was taken back.
pub(super) const TAKEN_BACK: &str = "RolloutTakenBack";

/// The annotations there are on a Service or Route itself, less the prefix.
pub(super) const KNOWN: [&str; 6] = names(&SERVICE_ANNOTATIONS);

/// What annotations of a Service or Route say of canaries; none without `tidegate.dev/rollout`.
/// Those without the prefix are not looked at.
///
/// # Errors
/// Every bad one, and every one that there is not.
pub(super) fn canary_rules(
    annotations: &BTreeMap<String, String>,
) -> Result<Option<CanaryRules>, Vec<OwnError>> {
    let mut rules = CanaryRules::default();
    let mut errors = Vec::new();
    let mut is_asked = false;
    let mut options = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let value = value.trim();
        let taken = match name {
            "rollout" => {
                is_asked = true;
                canary(value)
            }
            "rollout-steps" => steps(value).map(|steps| rules.steps = steps),
            "rollout-step-time" => duration(value).map(|time| rules.step_time = time),
            "rollout-samples" => samples(value).map(|samples| rules.samples = samples),
            "rollout-max-errors" => points(value).map(|points| rules.max_errors = points),
            "rollout-max-latency" => ratio(value).map(|ratio| rules.max_latency = ratio),
            _ => {
                errors.push(unknown(key, name));
                continue;
            }
        };
        if let Err((message, fix)) = taken {
            errors.push(OwnError { key: key.clone(), message, fix: format!("write {fix}") });
        }
        options.push(key.clone());
    }
    if !is_asked {
        errors.extend(options.into_iter().map(|key| OwnError {
            key,
            message: format!("without effect without {PREFIX}rollout"),
            fix: format!("add {PREFIX}rollout: canary, or remove it"),
        }));
    }
    if errors.is_empty() { Ok(is_asked.then_some(rules)) } else { Err(errors) }
}

/// The same of a Route in a cluster, which may have been taken in without the webhook: a bad
/// setting has its default there, and what is wrong is said.
pub fn route_canary(route: &Value) -> (Option<CanaryRules>, Vec<String>) {
    let is_known = |key: &str| key.strip_prefix(PREFIX).is_some_and(|name| KNOWN.contains(&name));
    let mut known = metadata_map(route, "annotations");
    known.retain(|key, _| is_known(key));
    let mut said = Vec::new();
    loop {
        let errors = match canary_rules(&known) {
            Ok(rules) => return (rules, said),
            Err(errors) => errors,
        };
        for OwnError { key, message, fix } in errors {
            known.remove(&key);
            said.push(format!("{key}: {message}; {fix}"));
        }
    }
}

fn unknown(key: &str, name: &str) -> OwnError {
    let (message, fix) = match nearest(name, KNOWN) {
        Some(near) => ("there is no such setting", format!("write {PREFIX}{near}")),
        None => ("without effect here", "move it to spec.template.metadata.annotations".to_owned()),
    };
    OwnError { key: key.to_owned(), message: message.to_owned(), fix }
}

fn canary(value: &str) -> Result<(), Refused> {
    match value {
        "canary" => Ok(()),
        _ => Err((format!("there is no rollout {value:?}"), "\"canary\", or remove it")),
    }
}

fn steps(value: &str) -> Result<Arc<[u8]>, Refused> {
    let fix = "per cents that ascend, such as \"5,25,50\"; all of it comes after";
    let steps = value.split(',').map(|step| {
        let step = step.trim().trim_end_matches('%').trim_end();
        let known = step.parse().ok().filter(|step| (1..100).contains(step));
        known.ok_or_else(|| (format!("{step:?} is no per cent from 1 to 99"), fix))
    });
    let steps: Vec<u8> = steps.collect::<Result<_, _>>()?;
    if steps.is_sorted_by(|a, b| a < b) {
        Ok(steps.into())
    } else {
        Err((format!("{value:?} does not ascend"), fix))
    }
}

fn samples(value: &str) -> Result<u64, Refused> {
    let fix = "a number of answers such as \"100\"";
    let samples = value.parse().ok().filter(|samples| (1..=1_000_000).contains(samples));
    samples.ok_or_else(|| (format!("{value:?} is no number from 1 to 1000000"), fix))
}

fn points(value: &str) -> Result<u32, Refused> {
    let fix = "points of a hundred such as \"1\" or \"0.5\"";
    let points = hundredths(value).filter(|points| *points <= 10_000);
    points.ok_or_else(|| (format!("{value:?} is no number from 0 to 100"), fix))
}

fn ratio(value: &str) -> Result<u32, Refused> {
    let fix = "a factor such as \"1.5\"";
    let ratio = hundredths(value).filter(|ratio| (100..=100_000).contains(ratio));
    ratio.ok_or_else(|| (format!("{value:?} is no factor from 1 to 1000"), fix))
}

/// A number with at most two digits behind the point, times a hundred.
fn hundredths(value: &str) -> Option<u32> {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)
}

/// Writes into a service which canaries it has.
pub(super) fn set_canaries(
    service: &mut ServiceSpec,
    rollout: &Rollout,
    rules: Option<&Arc<CanaryRules>>,
) {
    let namespace = &service.id.namespace;
    let id = |name: &str| RevisionId::new(Arc::clone(namespace), name);
    let canaries = rollout.configurations.iter().filter_map(|known| {
        let (state, rules) = (known.canary.as_ref()?, rules?);
        let [old, new] = known.revisions.as_slice() else { return None };
        Some(Canary {
            tag: known.tag.as_deref().map(Arc::from),
            old: id(&old.revision_name),
            new: id(&new.revision_name),
            share: new.percent,
            of: known.percent,
            rules: Arc::clone(rules),
            // Looks change nothing for anybody else.
            state: CanaryState { looks: 0, looked_at: 0, ..state.clone() },
        })
    });
    service.canaries = canaries.collect();
}

/// What is said of a Route whose canary was taken back; none where none was.
pub fn taken_back_condition(route: &Value, rollout: &Rollout) -> Option<String> {
    let rules = route_canary(route).0?;
    let mut back = rollout.configurations.iter().filter(|known| known.is_taken_back());
    back.find_map(|known| condition(known, &rules))
}

/// What a canary is doing, in one line; none where it is none.
pub(super) fn condition(known: &ConfigurationRollout, rules: &CanaryRules) -> Option<String> {
    let state = known.canary.as_ref()?;
    let [old, new] = known.revisions.as_slice() else { return None };
    let (old, newest) = (&old.revision_name, &new.revision_name);
    let of = match &known.tag {
        None => format!("{} %", known.percent),
        Some(tag) => format!("{} % of tag {tag}", known.percent),
    };
    Some(match &state.taken_back {
        Some(back) => format!(
            "{TAKEN_BACK}: {newest} has none of {of}, {old} has all: {}",
            taken_back_words(back.harm, back.seen.as_ref(), rules, old)
        ),
        None => format!(
            "{}: {newest} has {} of {of} beside {old}, step {} of {}: more once {} answers and {} \
             show no harm",
            super::rolling::CONDITION,
            new.percent,
            state.step + 1,
            rules.steps.len(),
            rules.samples,
            seconds(rules.step_time)
        ),
    })
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(annotations: &[(&str, &str)], expected: &Expect) {
        let pair = |(key, value): &(&str, &str)| (format!("{PREFIX}{key}"), (*value).to_owned());
        let text = match canary_rules(&annotations.iter().map(pair).collect()) {
            Ok(rules) => format!("{rules:?}\n"),
            Err(errors) => errors
                .iter()
                .map(|error| format!("{}: {}; {}\n", error.key, error.message, error.fix))
                .collect(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn good_ones() {
        check(
            &[],
            &expect![[r#"
            None
        "#]],
        );
        check(
            &[("rollout", "canary")],
            &expect![[r#"
            Some(CanaryRules { steps: [5, 25, 50], step_time: 30s, samples: 100, max_errors: 100, max_latency: 150 })
        "#]],
        );
        check(
            &[
                ("rollout", "canary"),
                ("rollout-steps", "1, 10%,99"),
                ("rollout-step-time", "5m"),
                ("rollout-samples", "1000"),
                ("rollout-max-errors", "0.25"),
                ("rollout-max-latency", "2"),
            ],
            &expect![[r#"
                Some(CanaryRules { steps: [1, 10, 99], step_time: 300s, samples: 1000, max_errors: 25, max_latency: 200 })
            "#]],
        );
    }

    #[test]
    fn bad_ones_say_what_to_write() {
        check(
            &[
                ("rollout", "blue"),
                ("rollout-steps", "5,5"),
                ("rollout-step-time", "0s"),
                ("rollout-samples", "0"),
                ("rollout-max-errors", "0.125"),
                ("rollout-max-latency", "0.9"),
                ("rollout-step", "5"),
                ("queue-timeout", "5s"),
            ],
            &expect![[r#"
                tidegate.dev/queue-timeout: without effect here; move it to spec.template.metadata.annotations
                tidegate.dev/rollout: there is no rollout "blue"; write "canary", or remove it
                tidegate.dev/rollout-max-errors: "0.125" is no number from 0 to 100; write points of a hundred such as "1" or "0.5"
                tidegate.dev/rollout-max-latency: "0.9" is no factor from 1 to 1000; write a factor such as "1.5"
                tidegate.dev/rollout-samples: "0" is no number from 1 to 1000000; write a number of answers such as "100"
                tidegate.dev/rollout-step: there is no such setting; write tidegate.dev/rollout-steps
                tidegate.dev/rollout-step-time: "0s" is not more than zero; write a time such as "30s" or "5m"
                tidegate.dev/rollout-steps: "5,5" does not ascend; write per cents that ascend, such as "5,25,50"; all of it comes after
            "#]],
        );
        check(
            &[("rollout", "canary"), ("rollout-steps", "0,100"), ("rollout-max-errors", "1 %")],
            &expect![[r#"
                tidegate.dev/rollout-max-errors: "1 %" is no number from 0 to 100; write points of a hundred such as "1" or "0.5"
                tidegate.dev/rollout-steps: "0" is no per cent from 1 to 99; write per cents that ascend, such as "5,25,50"; all of it comes after
            "#]],
        );
        check(
            &[("rollout-samples", "50")],
            &expect![[r#"
            tidegate.dev/rollout-samples: without effect without tidegate.dev/rollout; add tidegate.dev/rollout: canary, or remove it
        "#]],
        );
    }
}
