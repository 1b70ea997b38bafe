//! Scaling to zero: the reconciler's rows and traces.

use std::time::Duration;

use serde_json::Value;
use tidegate::autoscaler::num_activators;
use tidegate::autoscaler::zero::{Active, Step, StepFacts, ZeroState};
use tidegate::model::ScalingSpec;

use super::{Report, f, list, seconds, time, u};

/// What rows say of objects that tidegate does not have, and what is made of it.
pub(super) const OBJECTS: [(&str, &str); 5] = [
    (
        "the first endpoints object",
        "Knative's first reconcile only makes a ServerlessService; there is none here, and a \
         revision's first step is the next reconcile: only what was answered meanwhile is compared",
    ),
    (
        "the ServerlessService's mode (Serve or Proxy)",
        "the proxy is always in the path and nothing flips; compared all the same, as it follows \
         from the wanted count and the excess burst capacity, which are decided and shown here",
    ),
    (
        "the number of activators behind a revision",
        "one proxy serves all revisions; compared as a number that nothing acts on",
    ),
    (
        "how long the activator has been in the path, and its probe",
        "inputs of the step: replayed as recorded, always \"for ever\" and \"yes\" in production",
    ),
    (
        "the PodAutoscaler's actual scale",
        "a status field that repeats the ready replicas it was given: not compared",
    ),
];

/// A setting as `kpa-scale` rows give it: by annotation, else by ConfigMap, else its default.
fn setting<'a>(row: &'a Value, annotation: &str, key: &str, default: &'a str) -> &'a str {
    let annotation = row["annotations"][annotation].as_str();
    annotation.or_else(|| row["configmap"][key].as_str()).unwrap_or(default)
}

fn setting_seconds(row: &Value, annotation: &str, key: &str, default: &str) -> Duration {
    let text = setting(row, annotation, key, default);
    let (number, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), None) => (number, 1.0),
        (None, Some(number)) => (number, 60.0),
        _ => panic!("neither seconds nor minutes: {text}"),
    };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
}

/// Settings of a `kpa-scale` row or a `kpa-trace`.
fn spec(doc: &Value, reachable: bool) -> ScalingSpec {
    let annotation = |key: &str| format!("autoscaling.knative.dev/{key}");
    let text = |key: &str, default| setting(doc, &annotation(key), key, default);
    let number = |key: &str, default| text(key, default).parse::<u32>().unwrap();
    let deadline = format!("{}s", doc["progress_deadline_s"]);
    let retention = "scale-to-zero-pod-retention-period";
    let limit = doc["container_concurrency"].as_f64().unwrap_or(0.0);
    ScalingSpec {
        min_scale: if reachable { number("min-scale", "0") } else { 0 },
        max_scale: Some(number("max-scale", "0")).filter(|scale| *scale > 0),
        // Rows give it resolved: a 0 that the cluster does not allow is ignored.
        initial_scale: doc["initial_scale"]
            .as_u64()
            .map_or_else(|| number("initial-scale", "1"), |scale| u32::try_from(scale).unwrap()),
        reachable,
        total_value: if limit > 0.0 { limit } else { 100.0 },
        scale_to_zero: setting(doc, "", "enable-scale-to-zero", "true") == "true",
        stable_window: setting_seconds(doc, &annotation("window"), "stable-window", "60s"),
        scale_to_zero_grace: setting_seconds(doc, "", "scale-to-zero-grace-period", "30s"),
        scale_to_zero_retention: setting_seconds(doc, &annotation(retention), retention, "0s"),
        progress_deadline: setting_seconds(
            doc,
            "serving.knative.dev/progress-deadline",
            "",
            &deadline,
        ),
        target_burst_capacity: text("target-burst-capacity", "211").parse().unwrap(),
        ..ScalingSpec::default()
    }
}

/// What a step of either kind is made from.
fn step_facts(row: &Value, replicas: &str, mode: &str) -> StepFacts {
    StepFacts {
        desired: count(&row["desired"]),
        replicas: row[replicas].as_i64().map(|n| u32::try_from(n).unwrap()),
        probe_ok: row["probe_ok"] == true,
        proxied_for: row["proxy_for_s"].as_f64().map(Duration::from_secs_f64),
        proxy_mode: row[mode] == "Proxy",
    }
}

/// A count, or none for the original's -1.
fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_i64().unwrap()).ok()
}

fn condition(active: Active) -> &'static str {
    match active {
        Active::True => "True",
        Active::Unknown => "Unknown",
        Active::NoTraffic | Active::TimedOut => "False",
    }
}

/// Replays the reconciles of a whole life, each with the condition left by those before.
pub(super) fn trace(doc: &Value, report: &mut Report) {
    report.cases += 1;
    let mut state = ZeroState::new(false, time(0.0));
    let mut status_desired = None;
    for (number, row) in list(doc, "reconciles").iter().enumerate() {
        let t = f(row, "t");
        let at = |what: &str| format!("#{number} t={t} {what}");
        let reached = list(doc, "reachability").iter().rfind(|since| since[0].as_f64() <= Some(t));
        let spec = spec(doc, reached.unwrap()[1] != "Unreachable");
        // The first reconcile only makes the endpoints object.
        let first = row["sks_mode_before"] == "";
        let facts = step_facts(row, "replicas_before", "sks_mode_before");
        let ready = u(row, "ready");
        let step = if first { Step::default() } else { state.scale(&spec, facts, time(t)) };
        let [made, mode, activators_of, path, actual] = OBJECTS.map(|(what, _)| what);
        if first {
            report.object(made);
        }
        for (what, key) in
            [(mode, "mode"), (activators_of, "activators"), (actual, "status_actual")]
        {
            if !row[key].is_null() {
                report.object(what);
            }
        }
        if !row["proxy_for_s"].is_null() || row["probe_ok"].is_boolean() {
            report.object(path);
        }
        state.observe(&spec, step.want, ready, !first, time(t));
        status_desired = step.want.or(status_desired);

        let patched = row["patched"].as_i64().map(|n| u32::try_from(n).unwrap());
        report.check(at("patched"), step.write, patched);
        let requeues: Vec<f64> = step.requeue_after.iter().map(Duration::as_secs_f64).collect();
        let want: Vec<f64> =
            list(row, "requeue_after_s").iter().map(|v| v.as_f64().unwrap()).collect();
        report.check(at("requeue"), requeues, want);
        report.check(at("probed"), step.probed, row["probe_ok"].is_boolean());
        report.check(at("async"), step.async_probe, row["async_probe"] == true);
        report.check(at("active"), Value::from(condition(state.active())), row["active"].clone());
        let reason = match state.active() {
            Active::True => Value::Null,
            Active::Unknown => Value::from("Queued"),
            Active::NoTraffic => Value::from("NoTraffic"),
            Active::TimedOut => Value::from("TimedOut"),
        };
        report.check(at("reason"), reason, row["reason"].clone());
        let initialized = Value::from(state.initialized(&spec));
        report.check(at("initialized"), initialized, row["initialized"].clone());
        report.check(at("desired"), status_desired, count(&row["status_desired"]));
        let serves = step.want.is_some_and(|want| want > 0) && f(row, "ebc") >= 0.0;
        report.check(
            at("mode"),
            Value::from(if serves { "Serve" } else { "Proxy" }),
            row["mode"].clone(),
        );
        let activators = if first { 2 } else { num_activators(ready, &spec) };
        report.check(at("activators"), activators, u(row, "activators"));
    }
}

pub(super) fn scale_rows(doc: &Value, report: &mut Report) {
    for row in list(doc, "rows") {
        report.cases += 1;
        let id = row["id"].as_str().unwrap();
        let spec = spec(row, row["reachability"] != "Unreachable");
        let now = time(0.0);
        let active = match row["active"].as_str().unwrap() {
            "True" => Active::True,
            "Unknown" => Active::Unknown,
            "False" => Active::NoTraffic,
            other => panic!("unknown condition {other}"),
        };
        let initialized = row["scale_target_initialized"].as_bool().unwrap();
        let state = ZeroState::with(active, now - seconds(row, "active_status_for_s"), initialized);
        let step = state.scale(&spec, step_facts(row, "replicas", "sks_mode"), now);
        if !row["proxy_for_s"].is_null() || row["probe_ok"].is_boolean() {
            report.object(OBJECTS[3].0);
        }
        report.check(format!("{id} want"), step.want, count(&row["want"]));
        let patched = row["patched"].as_i64().map(|n| u32::try_from(n).unwrap());
        report.check(format!("{id} patched"), step.write, patched);
        let requeues: Vec<f64> = step.requeue_after.iter().map(Duration::as_secs_f64).collect();
        let want: Vec<f64> =
            list(row, "requeue_after_s").iter().map(|v| v.as_f64().unwrap()).collect();
        report.check(format!("{id} requeue"), requeues, want);
        report.check(format!("{id} probed"), Value::from(step.probed), row["probed"].clone());
        let async_probe = Value::from(step.async_probe);
        report.check(format!("{id} async"), async_probe, row["async_probe"].clone());
    }
}
